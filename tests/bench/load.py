"""One round of load on one proxy, and what it cost.

A shot is a function (running, context) that makes load and returns a loader's account: requests, octets, failed, seconds,
p50_us, p99_us, p999_us. `measure` runs it and adds what the proxy's processes used meanwhile.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from processes import CoreTimes, Fault, Usage, own_seconds

HERE = Path(__file__).resolve().parent
MIB = 1 << 20


class Context:
    """What shots need to know about the run: lengths, cores, the origin, and where the loaders are."""

    def __init__(self, seconds, programs, descriptors, quick):
        self.seconds, self.programs, self.descriptors, self.quick = seconds, programs, descriptors, quick
        self.cores = self.origin = None


def run_loader(context, command, **options):
    command = [str(word) for word in command]
    return subprocess.run(command, capture_output=True, text=True, check=False,
                          preexec_fn=lambda: os.sched_setaffinity(0, context.cores.load), **options)


def last_object(done):
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise Fault(f"{done.args[0]} gave no account (status {done.returncode}):\n{done.stdout[-500:]}{done.stderr[-500:]}")
    return json.loads(lines[-1])


# --- shots

def wrk(path="/64", connections=64, tls=False, words=(), fields=(), least_seconds=1):
    def shoot(running, context):
        address = f"https://localhost:{running.port}{path}" if tls else f"http://127.0.0.1:{running.port}{path}"
        seconds = context.seconds if context.quick else max(least_seconds, context.seconds)
        return last_object(run_loader(context, ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *[f"-H{field}" for field in fields],
                                                "-s", HERE / "report.lua", address, "--", *words]))
    return shoot


def requests(count, path="/64", connections=64, how="keep"):
    """Exactly `count`, after one on each connection. `how` as bench_client has it."""
    def shoot(running, context):
        return last_object(run_loader(context, [context.programs / "bench_client", "requests", running.port, connections,
                                                count, path, how], input="\n"))
    return shoot


def h2load(path="/64", clients=16, streams=32):
    def shoot(running, context):
        with tempfile.TemporaryDirectory(prefix="tidegate-h2load-") as folder:
            log = Path(folder) / "requests"
            done = run_loader(context, ["h2load", f"-c{clients}", f"-m{streams}", "-t1", f"-D{context.seconds}",
                                        f"--log-file={log}", f"--connect-to=127.0.0.1:{running.port}",
                                        f"https://localhost:{running.port}{path}"])
            found = re.search(r"^requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", done.stdout, re.M)
            seconds = re.search(r"finished in ([\d.]+)(ms|s)", done.stdout)
            if not found or not seconds:
                raise Fault(f"h2load gave no account:\n{done.stdout[-800:]}{done.stderr[-500:]}")
            micros = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
        succeeded, failed, errored, timed_out = (int(number) for number in found.groups())
        account = {"requests": succeeded, "failed": failed + errored + timed_out, "octets": 0,
                   "seconds": float(seconds.group(1)) / (1000 if seconds.group(2) == "ms" else 1)}
        for name, share in (("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999)):
            account[name] = micros[min(int(share * len(micros)), len(micros) - 1)] if micros else 0
        return account
    return shoot


def echo(connections=64, octets=125):
    def shoot(running, context):
        return last_object(run_loader(context, [context.programs / "bench_client", "echo", running.port, connections,
                                                context.seconds, octets]))
    return shoot


def handshakes(mode):
    def shoot(running, context):
        return last_object(run_loader(context, [sys.executable, HERE / "handshakes.py", mode, running.port, context.seconds]))
    return shoot


def flooded(connections=8, flood=64):
    """Plain requests on kept connections while others make a full handshake for each of theirs; the account is that of the
    plain ones, with `handshakes_per_second` of the others."""
    plain, full = wrk(connections=connections), wrk(connections=flood, tls=True, words=("close",))

    def shoot(running, context):
        others = {}
        thread = threading.Thread(target=lambda: others.update(full(running, context)))
        thread.start()
        try:
            account = plain(Plain(running), context)
        finally:
            thread.join()
        if not others:
            raise Fault("the handshakes gave no account")
        return account | {"failed": account["failed"] + others["failed"],
                          "handshakes_per_second": others["requests"] / others["seconds"]}
    return shoot


class Plain:
    """A running proxy, by its port without TLS."""

    def __init__(self, running):
        self.port = running.plain_port


def replaced(how, shoot):
    """`shoot` while the configuration is put in force again each second. `replaced` counts how often it was."""
    def both(running, context):
        stop, done, refused = threading.Event(), [], []

        def replace():
            while not stop.wait(1.0 if done else 0.5):
                process = running.replace(how)
                if process:
                    _, text = process.communicate()
                    if process.returncode != 0:
                        refused.append(text.strip())
                        continue
                done.append(time.monotonic())
        thread = threading.Thread(target=replace)
        thread.start()
        try:
            account = shoot(running, context)
        finally:
            stop.set()
            thread.join()
        if refused:
            print(f"  {how} was refused {len(refused)} times, first: {refused[0][-300:]}", file=sys.stderr)
        account["replaced"] = len(done)
        account["refused"] = len(refused)
        return account
    return both


# --- measuring

def measure(running, shoot, context, mib_a_request=None):
    """One round. `cpu_us` is for a request, or for a MiB of body where a request has `mib_a_request` of them."""
    used = context.cores.used
    cores, own, origin, proxy = CoreTimes(), own_seconds(), Usage(context.origin.pid), Usage(running.pid)
    account = shoot(running, context)
    cpu, user = Usage(running.pid).since(proxy)
    origin_cpu, _ = Usage(context.origin.pid).since(origin)
    wall, busy, stolen = CoreTimes().since(cores, used)
    foreign = max(0.0, busy - cpu - origin_cpu - (own_seconds() - own))
    units = max(1, account["requests"]) * (mib_a_request or 1)
    return account | {
        "cpu_us": 1e6 * cpu / units, "user_us": 1e6 * user / units, "system_us": 1e6 * (cpu - user) / units,
        "requests_per_second": account["requests"] / account["seconds"], "rss_kib": running.resident_kib(),
        "proxy_core_percent": 100 * cpu / wall,
        "foreign_percent": 100 * foreign / (wall * len(used)), "stolen_percent": 100 * stolen / (wall * len(used)),
    }


class Held:
    """Connections that stay open: opened, each asked once, and closed at the end."""

    def __init__(self, running, context, count, tls=False):
        command = [sys.executable, HERE / "handshakes.py"] if tls else [context.programs / "bench_client"]
        self.popen = subprocess.Popen(
            [str(word) for word in [*command, "idle", running.port, count, "/64"]], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.sched_setaffinity(0, context.cores.load))
        self.expect("open")

    def expect(self, word):
        line = self.popen.stdout.readline().strip()
        if line != word:
            self.popen.kill()
            self.popen.wait()
            raise Fault(f"the loader of idle connections said {line!r}, not {word!r}")

    def go_on(self):
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()

    def ask(self):
        self.go_on()
        self.expect("asked")

    def close(self):
        """How many had failed, or were closed before."""
        out, _ = self.popen.communicate("\n", timeout=60)
        account = json.loads(out.strip().splitlines()[-1])
        return account["failed"] + account.get("failed_before", 0)


def settle(running, seconds):
    """Resident memory once nothing changes it any more, at least after `seconds`: some give memory back with a timer."""
    end, last = time.monotonic() + seconds, None
    while True:
        time.sleep(0.1)
        now = running.resident_kib()
        if now == last and time.monotonic() > end:
            return now
        if time.monotonic() > end + 5:
            return now
        last = now


# A connection counts as idle when nothing has come for so long: a client that reads on, or loads the rest of a page, is none.
IDLE_SECONDS = 7


def idle(count, tls=False):
    """The memory that an idle connection costs, kept open after one request; `bytes_unasked` before its first."""
    def shoot(running, context):
        begun = time.monotonic()
        before = settle(running, 0.2)
        held = Held(running, context, count(context), tls)
        opened = settle(running, 0.3)
        held.ask()
        asked = settle(running, IDLE_SECONDS)
        failed = held.close()
        connections = count(context)
        return {"requests": connections, "octets": 0, "failed": failed, "seconds": time.monotonic() - begun,
                "bytes": 1024 * (asked - before) / connections, "bytes_unasked": 1024 * (opened - before) / connections,
                "connections": connections}
    return shoot


def many_certificates(running, _context):
    """Memory of the whole family, and how long a start and a reload take, with all certificates of the setup."""
    begun = time.monotonic()
    resident = settle(running, 0.5)
    family, before = running.family_kib(), set(running.serving())
    started = time.monotonic()
    process = running.replace("reload")
    if process:
        _, text = process.communicate()
        if process.returncode != 0:
            raise Fault(f"the reload was refused: {text.strip()[-300:]}")
    else:
        # A signal says nothing: until who serves next is there.
        while set(running.serving()) <= before:
            if time.monotonic() > started + 30:
                raise Fault("no new worker 30 s after the reload")
            time.sleep(0.002)
    return {"requests": 1, "octets": 0, "failed": 0, "bytes": 1024 * family, "rss_kib": resident,
            "start_ms": 1e3 * running.start_seconds, "reload_ms": 1e3 * (time.monotonic() - started),
            "seconds": time.monotonic() - begun}


# --- what does not drift with the machine: system calls and instructions

def counted_round(running, context, how, requests, attach=None):
    """Exactly `requests` requests, while the processes are watched by what `attach` (pids) starts.
    (how many were answered, the watcher's standard error)"""
    client = [sys.executable, HERE / "handshakes.py"] if how == "tls" else [context.programs / "bench_client"]
    loader = subprocess.Popen(
        [str(word) for word in [*client, "requests", running.port, 64, requests, "/64", how]],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, context.cores.load))
    if loader.stdout.readline().strip() != "ready":
        raise Fault("the loader of counted requests did not get ready")
    try:
        with Watcher(running, attach) as watcher:
            out, _ = loader.communicate("\n", timeout=120)
    except OSError:
        loader.kill()
        loader.communicate()
        raise
    return json.loads(out.strip().splitlines()[-1])["requests"], watcher.text


class Watcher:
    """What `attach` (pids) starts, from when it has begun until it is interrupted; `text` is what it said."""

    def __init__(self, running, attach):
        self.running, self.attach, self.popen, self.text = running, attach, None, ""

    def __enter__(self):
        if self.attach:
            self.popen = subprocess.Popen(self.attach(self.running.serving()), stdout=subprocess.DEVNULL,
                                          stderr=subprocess.PIPE, text=True)
            time.sleep(0.3)  # neither strace nor perf says when it has begun
        return self

    def __exit__(self, *_):
        if self.popen:
            self.popen.send_signal(signal.SIGINT)
            _, self.text = self.popen.communicate(timeout=30)


def a_request(running, context, how, requests, attach, read):
    """{name: times a request}: `read` makes {name: times} of what the watcher says."""
    answered, text = counted_round(running, context, how, requests, attach)
    return {name: times / max(1, answered) for name, times in read(text).items()}


def read_strace(text):
    calls = {}
    for line in text.splitlines():
        # % time, seconds, usecs/call, calls, [errors,] name
        found = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line)
        if found and found.group(2) != "total":
            calls[found.group(2)] = int(found.group(1))
    return calls


def system_calls(running, context, how):
    """{call: times a request} by strace, or None where it cannot be had."""
    try:
        return a_request(running, context, how, 2000 if context.quick else 5000,
                         lambda pids: ["strace", "-c", "-f", *[f"-p{pid}" for pid in pids]], read_strace) or None
    except FileNotFoundError:
        return None


def read_perf(text):
    found = re.search(r"^(\d+),", text, re.MULTILINE)
    return {"instructions": int(found.group(1))} if found else {}


PERF = ["perf", "stat", "-x", ",", "-e", "instructions:u"]


def counts_instructions():
    """Whether this machine counts instructions in user mode: most virtual ones do not."""
    try:
        done = subprocess.run([*PERF, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return False
    return bool(read_perf(done.stderr))


def user_instructions(running, context, how):
    """User instructions a request by the processor's counter, or None."""
    return a_request(running, context, how, 20000, lambda pids: [*PERF, "-p", ",".join(str(pid) for pid in pids)],
                     read_perf).get("instructions")
