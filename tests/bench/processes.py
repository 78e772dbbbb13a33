"""Processes that the benchmark starts, the cores that they run on, and what they used."""

import os
import re
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0))


class Fault(Exception):
    """Something that was to be measured does not run; the others go on."""


class Cores:
    """Each worker has a core of its own, origin and load have what is left; at the worst they share the last one."""

    def __init__(self, workers):
        self.proxy = CORES[:workers]
        self.load = CORES[workers:] or CORES[-1:]
        self.used = sorted({*self.proxy, *self.load})


def raise_descriptor_limit(wanted=65536):
    """As many descriptors as are wanted, if we may; the processes that we start inherit them. The limit that holds."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return wanted
        except (OSError, ValueError):
            wanted = hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A program in its folder, on its cores; what it says goes to NAME.log."""

    def __init__(self, name, command, directory, cores, reads_output=False):
        self.name = name
        self.log = directory / (name.replace("/", "-") + ".log")
        self.begun = time.monotonic()
        with open(self.log, "ab") as log:
            self.popen = subprocess.Popen(
                [str(word) for word in command], cwd=directory, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if reads_output else log, stderr=log,
                # Whatever it wants to remember stays in its folder.
                env=os.environ | {"XDG_CONFIG_HOME": str(directory), "XDG_DATA_HOME": str(directory)},
                preexec_fn=lambda: os.sched_setaffinity(0, cores))

    @property
    def pid(self):
        return self.popen.pid

    def fail(self, what):
        self.stop()
        said = self.log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        raise Fault(f"{self.name} {what}: {said[-1][-300:]}")

    def wait_for_port(self, port, seconds=15):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.popen.poll() is not None:
                self.fail(f"ended with {self.popen.returncode}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.01)
        self.fail(f"does not listen on port {port}")

    def stop(self):
        """Gracefully for a short while; children that outlive their parent are ended, too."""
        family = [self.pid] + descendants(self.pid)
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        try:
            self.popen.wait(3)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        for pid in family[1:]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.popen.stdout:
            self.popen.stdout.close()


def descendants(pid):
    out = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                out += [int(child)] + descendants(int(child))
    except OSError:
        pass  # it ended meanwhile
    return out


def stat_fields(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def on_cpu_seconds(pid, fields):
    """Time of all threads, in nanoseconds where the kernel tells it; else in clock ticks, of 10 ms usually."""
    try:
        tasks = [(task / "schedstat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
        return sum(int(text.split()[0]) for text in tasks) / 1e9
    except (OSError, IndexError, ValueError):
        return (int(fields[11]) + int(fields[12])) / TICK


class Usage:
    """What a process and its children used so far, children that have ended included (those in ticks)."""

    def __init__(self, pid):
        self.seconds = self.user_ticks = self.system_ticks = 0
        for one in [pid] + descendants(pid):
            try:
                fields = stat_fields(one)
                self.seconds += on_cpu_seconds(one, fields)
            except OSError:
                continue
            user, system, child_user, child_system = (int(field) for field in fields[11:15])
            self.user_ticks += user + child_user
            self.system_ticks += system + child_system
            self.seconds += (child_user + child_system) / TICK

    def since(self, before):
        """(seconds, of them in user mode): the split comes from the ticks, the sum does not."""
        seconds = self.seconds - before.seconds
        user, system = self.user_ticks - before.user_ticks, self.system_ticks - before.system_ticks
        return seconds, seconds * user / (user + system) if user + system else 0.0


def resident_kib(pids):
    total = 0
    for pid in pids:
        try:
            total += int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1))
        except (OSError, AttributeError):
            pass  # it ended meanwhile
    return total


class CoreTimes:
    """What all cores together, and each, were busy with; and what the machine's host took from them."""

    def __init__(self):
        self.at = time.monotonic()
        self.busy, self.stolen = {}, {}
        for line in Path("/proc/stat").read_text().splitlines():
            found = re.match(r"cpu(\d+) (.*)", line)
            if found:
                user, nice, system, _, _, irq, softirq, steal = (int(word) for word in found.group(2).split()[:8])
                self.busy[int(found.group(1))] = (user + nice + system + irq + softirq) / TICK
                self.stolen[int(found.group(1))] = steal / TICK

    def since(self, before, cores):
        """(wall seconds, busy seconds of these cores, stolen seconds of them)"""
        return (self.at - before.at, sum(self.busy[core] - before.busy[core] for core in cores),
                sum(self.stolen[core] - before.stolen[core] for core in cores))


def own_seconds():
    """What the benchmark itself and the load that has ended used."""
    return sum(usage.ru_utime + usage.ru_stime for usage in (
        resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)))
