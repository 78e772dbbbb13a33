"""Debian roots and machines: a base root that is made once, and machines with a real systemd that are booted from it.

A machine is systemd-nspawn on an overlay: it boots in half a second, its disk is its own and gone with it, and its network is
nothing but a loopback of its own. The host's programs enter that network, so clients and origins run from the host's tree."""

import concurrent.futures
import contextlib
import ctypes
import dataclasses
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

from support.wait import until

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build/package-test"
MAKE_ROOT = ROOT / "tests/support/make_root"
LIBC = ctypes.CDLL(None, use_errno=True)
PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"

# What a machine needs to boot and to be looked at. Nothing of it is for Tidegate: its dependencies come with its package.
PACKAGES = ["systemd", "systemd-sysv", "dbus", "iproute2", "ca-certificates", "curl", "procps", "logrotate"]
# What systemd-nspawn denies and a Debian on a machine of its own does not.
CALLS = "@memlock landlock_create_ruleset landlock_add_rule landlock_restrict_self"
# Fetched, and installed only where they are compared with or needed.
FETCHED = ["nginx", "haproxy", "needrestart", "rpm"]
FETCHED_AGAIN = {"bookworm": "libssl3", "trixie": "libssl3t64"}  # it is in every root, and the test installs it once more


class Broken(Exception):
    """The rig itself does not work, whatever is tested."""


@dataclasses.dataclass
class Outcome:
    """What a command in a machine answered."""
    command: str
    code: int
    out: str
    err: str

    @property
    def text(self):
        return (self.out + self.err).strip()


def call(command, seconds=300, stdin=None):
    try:
        done = subprocess.run(command, input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL, timeout=seconds,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    except subprocess.TimeoutExpired as late:
        raise Broken(f"{shlex.join(map(str, command))[:300]} did not end within {seconds} s: {late.stdout} {late.stderr}") from None
    return Outcome(shlex.join(map(str, command)), done.returncode, done.stdout, done.stderr)


def must(command, **options):
    done = call(command, **options)
    if done.code:
        raise Broken(f"{done.command[:300]} ended with {done.code}:\n{done.text[-3000:]}")
    return done


# The base.

def base(suite, depends):
    """The folder of a bare root of `suite`, with what a package that `depends` on those needs in apt's cache."""
    mark = hashlib.sha256(repr((PACKAGES, FETCHED, FETCHED_AGAIN[suite], depends)).encode()).hexdigest()[:12]
    folder = CACHE / f"{suite}-{mark}"
    if folder.is_dir():
        return folder
    print(f"packages: making the base root of {suite}, once", flush=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    for old in CACHE.glob(f"{suite}-*"):
        shutil.rmtree(old)
    making = CACHE / f"{suite}-making"
    must([MAKE_ROOT, suite, making, *PACKAGES], seconds=900)
    # Nobody pulls the plug of a machine whose disk is thrown away.
    (making / "etc/dpkg/dpkg.cfg.d/quick").write_text("force-unsafe-io\n")
    shutil.copy("/etc/resolv.conf", making / "etc/resolv.conf")
    fetch = "set -e; export DEBIAN_FRONTEND=noninteractive; apt-get -q update; get='apt-get -qy --no-install-recommends install'\n"
    fetch += f"$get --download-only {' '.join(FETCHED)}\n$get --download-only --reinstall {FETCHED_AGAIN[suite]}\n"
    if depends:
        fetch += f"apt-get -qy --no-install-recommends --download-only satisfy {shlex.quote(depends)}\n"
    must(["chroot", making, "/usr/bin/env", "-i", PATH, "sh", "-c", fetch], seconds=600)
    making.rename(folder)
    return folder


# Machines.

class Cgroup:
    """A control group of its own for each machine, so that no two share one: their systemds would end each other's services."""

    def __init__(self):
        name = f"tidegate-packages-{os.urandom(6).hex()}"
        self.folders = [folder / name for folder in self.present()]
        for folder in self.folders:
            folder.mkdir()

    @classmethod
    def remove_stale(cls):
        """What a run that was killed has left. Such a folder that is in use cannot be removed."""
        for parent in cls.present():
            for top in parent.glob("tidegate-packages-*"):
                remove_folders(top)

    @staticmethod
    def present():
        """Where this process is, in the hierarchies that systemd uses."""
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="ascii").splitlines()]
        places = {line.split(":")[1]: line.split(":", 2)[2].strip()
                  for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()}
        found = []
        for _, where, kind, options, *_ in mounts:
            if kind == "cgroup" and "name=systemd" in options:
                found.append(Path(where + places["name=systemd"]))
            elif kind == "cgroup2":
                found.append(Path(where + places[""]))
        return found

    def enter(self):
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self):
        for folder in self.folders:
            remove_folders(folder)


def remove_folders(top):
    for folder, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def inner_pid(pid):
    """The number that a process has in the innermost of the namespaces that it is in below ours, or None."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="latin-1").splitlines():
            if line.startswith("NSpid:"):
                numbers = line.split()[1:]
                return int(numbers[-1]) if len(numbers) > 1 else None
    return None


@contextlib.contextmanager
def scratch_root(work, *lower):
    """A root that nothing runs in: an overlay of `lower`, gone at the end."""
    Machine.count += 1
    folder = Path(work) / f"scratch-{Machine.count}"
    for name in ("upper", "work", "root"):
        (folder / name).mkdir(parents=True)
    root = folder / "root"
    must(["mount", "-t", "overlay", "overlay", "-o",
          f"lowerdir={':'.join(map(str, lower))},upperdir={folder / 'upper'},workdir={folder / 'work'}", root])
    try:
        yield root
    finally:
        call(["umount", "--lazy", root])
        shutil.rmtree(folder, ignore_errors=True)


class Machine:
    """`with Machine(work, base) as machine:` boots it; at the end it is gone, and its disk with it.

    `lower`: folders, the topmost first. `layer`: what was changed on the disk stays in that folder, for others to build on."""
    count = 0

    def __init__(self, work, *lower, layer=None):
        Machine.count += 1
        self.folder = Path(work) / f"machine-{Machine.count}"
        self.lower = lower
        self.layer = layer
        self.upper = Path(layer or self.folder / "upper")
        self.root = self.folder / "root"
        self.process = None
        self.leader = None

    def __enter__(self):
        for folder in (self.upper, self.root, self.folder / "work"):
            folder.mkdir(parents=True)
        # overlayfs wants its work folder on the same file system.
        must(["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={':'.join(map(str, self.lower))},upperdir={self.upper},"
              f"workdir={self.folder / 'work'}", self.root])
        self.cgroup = Cgroup()
        try:
            self.boot()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def boot(self):
        with open(self.folder / "console", "ab") as console:
            self.process = subprocess.Popen(
                ["systemd-nspawn", "-q", "-D", self.root, "--register=no", "--keep-unit", "--private-network", "--console=pipe",
                 f"--system-call-filter={CALLS}", "--machine=tidegate-test", "--hostname=machine", "-b"], stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                preexec_fn=self.cgroup.enter)
        self.leader = until(self.find_leader, self.what_the_console_says, 20)
        until(lambda: call(self.entering("systemctl", "is-system-running")).out.strip() in ("running", "degraded"),
              self.what_the_console_says, 60)

    def find_leader(self):
        if self.process.poll() is not None:
            raise Broken(self.what_the_console_says())
        # Its first child only makes the namespaces.
        return next((child for child in children(self.process.pid) if inner_pid(child) == 1), None)

    def what_the_console_says(self):
        return "the machine to boot; its console: " + (self.folder / "console").read_text(errors="replace")[-2000:]

    def __exit__(self, *_):
        if self.process:
            self.end()
        call(["umount", "--lazy", self.root])
        self.cgroup.remove()
        shutil.rmtree(self.folder, ignore_errors=True)

    def end(self):
        if self.leader and self.layer:
            # In good order, for those who build on it.
            call(self.entering("systemctl", "poweroff"))
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
        if self.process.poll() is None:
            # All that runs in it ends with its first process, and systemd-nspawn with that.
            os.kill(self.leader or self.process.pid, signal.SIGKILL)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    # Commands.

    def entering(self, *command):
        return ["nsenter", "-t", str(self.leader), "-a", "env", "-i", PATH, "LC_ALL=C.UTF-8", "HOME=/root",
                "DEBIAN_FRONTEND=noninteractive", *map(str, command)]

    def network(self):
        """Before a command of the host: it runs in the machine's network."""
        return ["nsenter", "-t", str(self.leader), "-n"]

    def in_network(self, function):
        """What `function()` returns; the sockets that it opens are in the machine's network, and stay there."""
        def enter():
            with open(f"/proc/{self.leader}/ns/net", "rb") as network:
                if LIBC.setns(network.fileno(), 0):
                    raise OSError(ctypes.get_errno(), "setns")
            return function()
        # A network belongs to a thread.
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            return thread.submit(enter).result()

    def try_(self, script, seconds=120):
        """Runs a script of sh in the machine."""
        done = call(self.entering("sh", "-c", script), seconds=seconds)
        return dataclasses.replace(done, command=script)

    def do(self, script, seconds=120):
        """Runs one that must succeed; returns what it printed."""
        done = self.try_(script, seconds)
        assert done.code == 0, f"`{script}` ended with {done.code}: {done.text[-3000:]}"
        return done.out.strip()

    def write(self, path, text, mode=None):
        """Writes a file of the machine. From within: a link of its file system would lead the host into its own."""
        must(self.entering("sh", "-c", 'mkdir -p "$(dirname "$1")" && cat >"$1"', "sh", path), stdin=text)
        if mode is not None:
            self.do(f"chmod {mode:o} {path}")

    def path(self, path):
        """For reading, where nothing on the way is a link."""
        return Path(f"/proc/{self.leader}/root{path}")

    def put(self, source):
        """Copies a file of the host into /root; returns its path there."""
        target = f"/root/{Path(source).name}"
        with open(source, "rb") as file:
            subprocess.run(self.entering("sh", "-c", f"cat >{target}"), stdin=file, check=True)
        return target

    # systemd.

    def property(self, name, unit="tidegate"):
        return self.do(f"systemctl show -p {name} --value {unit}")

    def pid(self, unit="tidegate"):
        return int(self.property("MainPID", unit))

    def active(self, unit="tidegate"):
        return self.property("ActiveState", unit)

    def journal(self, unit="tidegate", more=""):
        return self.do(f"journalctl -u {unit} -o cat --no-pager {more}")

    def host_pid(self, pid):
        """The host's number of a process of the machine."""
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    if inner_pid(entry) == pid and self.is_mine(entry):
                        return int(entry)
        raise AssertionError(f"there is no process {pid} in the machine")

    def is_mine(self, entry):
        return os.readlink(f"/proc/{entry}/ns/pid") == os.readlink(f"/proc/{self.leader}/ns/pid")

    def processes(self, name):
        """The host's numbers of the machine's processes that are called so."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{entry}/comm").read_text(encoding="latin-1").strip() == name[:15] and self.is_mine(entry):
                        found.append(int(entry))
        return sorted(found)

    def kill(self, pid, number=signal.SIGKILL):
        """`pid` is the machine's."""
        os.kill(self.host_pid(pid), number)
