"""One Tidegate under test: its configuration, its processes, its command line, its logs."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from support import processes
from support.client import Client
from support.h2 import open_h2
from support.wait import PATIENCE, until

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(os.environ.get("TIDEGATE_BIN_DIR", ROOT / "build/release/bin")).resolve()


def merged(base, changes):
    """`base` with `changes` over it: objects are merged, everything else is replaced, None removes."""
    result = dict(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def basic(*endpoints, **changes):
    """A configuration with one listener on a free port and one upstream, `changes` merged in."""
    config = {
        "workers": 1,
        "listeners": [{"name": "web", "bind": "127.0.0.1:0"}],
        "upstreams": {"app": {"endpoints": list(endpoints)}},
        "routes": [{"name": "all", "upstream": "app"}],
        "upgrade": {"ready_timeout": "10s", "probation": "200ms", "drain": "5s", "drain_tunnels": "5s"},
        "shutdown": {"timeout": "5s"},
        "logging": {"level": "info", "access": {"path": "@DIR@/access.log"}},
    }
    return merged(config, changes)


# A listener that speaks both versions without TLS.
CLEAR = {"name": "web", "bind": "127.0.0.1:0", "protocols": ["h1", "h2c"]}


def clear(*endpoints, **changes):
    """`basic`, with HTTP/2 by prior knowledge."""
    return basic(*endpoints, **{"listeners": [CLEAR], **changes})


@dataclass
class Outcome:
    """What a command answered."""
    code: int
    out: str
    err: str

    @property
    def json(self):
        """The object that --json printed."""
        return json.loads(self.out)

    @property
    def json_lines(self):
        return [json.loads(line) for line in self.out.splitlines() if line.strip()]

    @property
    def text(self):
        return self.out + self.err


class Notify:
    """The socket that systemd would give: READY=1 and its like, in order."""

    # What a test sends itself, behind all that a service has said.
    MARK = b"X_MARK"

    def __init__(self, path):
        self.path = path
        self.messages = []
        self._marked = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def _receive(self):
        while octets := self._socket.recv(4096):
            self._take(octets)

    def _take(self, octets):
        if octets == self.MARK:
            self._marked.set()
        else:
            self.messages.append(octets.decode(errors="replace"))

    def settle(self):
        """Until all that was sent has been heard. Where the sender has died nothing more can come then."""
        self._marked.clear()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.settimeout(15 * PATIENCE)
            own.sendto(self.MARK, str(self.path))
        until(self._marked.is_set, "the service manager to hear what was sent")

    def lines(self):
        return [line for message in list(self.messages) for line in message.splitlines()]

    def variables(self):
        """What a service finds in its environment, beside the path of the socket."""
        return {}

    def as_service(self, command):
        """How a main process is started, and the descriptors that it gets: none are kept here (support/manager.py)."""
        return command, []

    def close(self):
        # Not while the thread may be about to read: the number of the descriptor may be another socket's by then.
        self._socket.shutdown(socket.SHUT_RD)
        self._thread.join()
        self._socket.close()


class Tidegate:
    """`with Tidegate(config) as tidegate:` or the fixture of conftest.py."""

    def __init__(self, config, *, bin_dir=BIN, env=None, arguments=(), binary=None, ready=True, preexec=None,
                 pass_fds=(), before=None, notify=Notify):
        self.directory = Path(tempfile.mkdtemp(prefix="tg-"))
        # Workers of another user write their sanitizer reports here.
        self.directory.chmod(0o1777)
        self.bin_dir = Path(bin_dir)
        self.binary = Path(binary) if binary else self.bin_dir / "tidegate"
        self.socket_path = self.directory / "control.sock"
        self.config_path = self.directory / "tidegate.json"
        self.access_path = self.directory / "access.log"
        self.extra_arguments = list(arguments)
        self.extra_env = dict(env or {})
        self.preexec = preexec
        self.pass_fds = pass_fds
        self.process = None
        self.sessions = []
        self.tolerate_crashes = False
        self.notify = notify(self.directory / "notify")
        self.write(config)
        if before:
            before(self)
        self.start()
        if ready:
            self.wait_ready()

    # Life.

    def environment(self):
        env = {key: value for key, value in os.environ.items() if not key.startswith(("TIDEGATE_", "LISTEN_", "FDSTORE"))}
        env.update({"NOTIFY_SOCKET": str(self.notify.path), **self.notify.variables()})
        options = f"log_path={self.directory}/sanitizer:abort_on_error=0:exitcode=99"
        env["ASAN_OPTIONS"] = options + ":detect_leaks=1:" + env.get("ASAN_OPTIONS", "")
        env["UBSAN_OPTIONS"] = options + ":print_stacktrace=1:" + env.get("UBSAN_OPTIONS", "")
        env["TSAN_OPTIONS"] = options + ":" + env.get("TSAN_OPTIONS", "")
        env.update(self.extra_env)
        return env

    def start(self):
        """Starts `tidegate run`; does not wait for it."""
        # What another process has said last must not be taken for its word.
        self.notify.settle()
        self.notify.messages.clear()
        command = [str(self.binary), "run", "-c", str(self.config_path), "--socket", str(self.socket_path),
                   *self.extra_arguments]
        command, fds = self.notify.as_service(command)
        with open(self.directory / "stderr", "ab") as err, open(self.directory / "stdout", "ab") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                            env=self.environment(), start_new_session=True,
                                            preexec_fn=self.preexec, pass_fds=(*self.pass_fds, *fds),
                                            cwd=self.directory)
        self.sessions.append(self.process.pid)
        return self

    def wait_ready(self, seconds=20.0):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"tidegate run ended with {self.process.returncode} before it was ready:\n{self.stderr}")
            return "READY=1" in self.notify.lines()
        until(ready, lambda: f"READY=1; systemd heard {self.notify.messages}; stderr says:\n{self.stderr}", seconds)
        return self

    @property
    def pid(self):
        return self.process.pid

    def signal(self, number):
        os.kill(self.pid, number)

    def wait_exit(self, seconds=15.0):
        """The exit code of the supervisor."""
        try:
            return self.process.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the supervisor did not end within {seconds} s:\n{self.stderr[-3000:]}") from None

    def stop(self):
        """Stops gracefully and returns the exit code."""
        self.signal(signal.SIGTERM)
        code = self.wait_exit()
        self.notify.settle()
        return code

    # Configuration.

    def write(self, config):
        """Writes the configuration (an object or text); nobody is told."""
        self.config = config
        text = config if isinstance(config, str) else json.dumps(config, indent=2)
        fresh = self.config_path.with_suffix(".new")
        fresh.write_text(text.replace("@DIR@", str(self.directory)))
        fresh.replace(self.config_path)

    def change(self, **changes):
        """Writes the present configuration with `changes` merged in."""
        self.write(merged(self.config, changes))

    # Command line.

    def cli(self, *arguments, seconds=40.0, env=None):
        """Runs a command against this daemon."""
        command = [str(self.bin_dir / "tidegate"), *map(str, arguments), "--socket", str(self.socket_path)]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                                  timeout=seconds * PATIENCE, env={**self.environment(), **(env or {})})
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"{' '.join(command)} did not answer: {late.stdout} {late.stderr}\n"
                                 f"--- stderr of the daemon ---\n{self.stderr[-4000:]}") from None
        return Outcome(done.returncode, done.stdout, done.stderr)

    def ok(self, *arguments, **options):
        """Runs a command that must succeed."""
        outcome = self.cli(*arguments, **options)
        assert outcome.code == 0, (f"{' '.join(map(str, arguments))} ended with {outcome.code}\n{outcome.out}\n"
                                   f"{outcome.err}\n--- stderr of the daemon ---\n{self.stderr[-4000:]}")
        return outcome

    def status(self):
        # 3 means that something is unhealthy: still a whole answer.
        outcome = self.cli("status", "--json")
        assert outcome.code in (0, 3), f"status ended with {outcome.code}: {outcome.text}"
        return outcome.json

    # What is running.

    def addresses(self, listener="web"):
        for entry in self.status()["listeners"]:
            if entry["name"] == listener:
                return entry["addresses"]
        raise AssertionError(f"status names no listener {listener!r}")

    def port(self, listener="web"):
        return int(self.addresses(listener)[0].rsplit(":", 1)[1])

    @property
    def generation(self):
        return self.status()["generation"]

    def workers(self, generation=None):
        """Process ids of the workers, by slot, of the current or the named generation."""
        status = self.status()
        number = status["generation"] if generation is None else generation
        for entry in status["generations"]:
            if entry["number"] == number:
                return [worker["pid"] for worker in sorted(entry["workers"], key=lambda w: w["slot"]) if worker["pid"]]
        return []

    def processes(self):
        """Every living process that this daemon started, by whatever supervisor."""
        return sorted({pid for session in self.sessions for pid in processes.in_session(session)})

    def worker_processes(self):
        return [pid for pid in self.processes() if (processes.stat_of(pid) or ("",))[0].startswith("tidegate-worke")]

    def counters(self):
        return self.status()["counters"]

    def wait_generations(self, count=1, seconds=15.0):
        """Until exactly `count` generations exist; returns the status."""
        def reached():
            status = self.status()
            return status if len(status["generations"]) == count else None
        return until(reached, f"{count} generation(s) in the status", seconds)

    # Traffic.

    def address(self, listener="web"):
        """The first address of a listener."""
        # Asking for it costs a process; it never changes for a listener of this daemon.
        if listener not in self.__dict__.setdefault("_ports", {}):
            self._ports[listener] = self.addresses(listener)[0]
        return self._ports[listener]

    def connect(self, listener="web", **options):
        return Client(self.address(listener), **options)

    def h2(self, *settings, **options):
        """A client that speaks HTTP/2 without TLS and has announced `settings`; see support/h2.py."""
        return open_h2(self.address(options.pop("listener", "web")), *settings, **options)

    def url(self, path="/", listener="web"):
        return f"http://127.0.0.1:{self.port(listener)}{path}"

    # Logs.

    @property
    def stderr(self):
        return (self.directory / "stderr").read_text(errors="replace")

    def warnings(self):
        """Lines that warn of something in the supervisor; that this build confines no worker is not meant."""
        return [line for line in self.stderr.splitlines() if " warn supervisor[" in line and "not wholly confined" not in line]

    @property
    def stdout(self):
        return (self.directory / "stdout").read_text(errors="replace")

    def access_lines(self, path=None):
        try:
            text = (path or self.access_path).read_text()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.split("\n")[:-1]]

    def logged(self, count=1, **expected):
        """The last of at least `count` access log lines whose fields are `expected`; waits for them."""
        def found():
            lines = [line for line in self.access_lines()
                     if all(line.get(key) == value for key, value in expected.items())]
            return lines if len(lines) >= count else None
        return until(found, lambda: f"{count} access log line(s) with {expected}; there are: {self.access_lines()[-5:]}")[-1]

    # The end.

    def faults(self):
        """What went wrong in the processes whatever the test looked at: sanitizer reports, failed checks."""
        found = []
        for report in self.directory.glob("sanitizer.*"):
            found.append(report.read_text(errors="replace"))
        for mark in ("AddressSanitizer", "LeakSanitizer", "runtime error:", "check failed:", "ThreadSanitizer"):
            if mark in self.stderr and not self.tolerate_crashes:
                found.append(f"stderr says {mark!r}")
        return found

    def close(self):
        """Ends everything; returns the faults: processes that would not go or were left, sanitizer reports."""
        faults = []
        for pid in self.processes():
            if processes.stopped(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        if self.process and self.process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(12 * PATIENCE)
            except subprocess.TimeoutExpired:
                faults.append("the supervisor did not end on SIGTERM within 12 s")
                self.process.kill()
                self.process.wait()
        try:
            until(lambda: not self.processes(), "no process left", 3)
        except AssertionError:
            for pid in self.processes():
                faults.append(f"process {pid} {processes.stat_of(pid)} is left")
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        faults += self.faults()
        self.notify.close()
        return faults

    def remove(self):
        if os.environ.get("TIDEGATE_E2E_KEEP") != "1":
            shutil.rmtree(self.directory, ignore_errors=True)


def copied_binaries(directory, source=BIN, worker=None, version=None):
    """A directory with a copy of both binaries, for upgrades; returns the path of its `tidegate`.

    `worker`: text of a script that stands in for the worker. `version`: (old, new) of the same length, replaced in both
    binaries: an upgrade that can be told from the outside."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)
    for name in ("tidegate", "tidegate-worker"):
        octets = (Path(source) / name).read_bytes()
        if version:
            old, new = (text.encode() for text in version)
            assert len(old) == len(new)
            octets = octets.replace(old, new)
        target = directory / name
        target.write_bytes(octets)
        target.chmod(0o755)
    if worker is not None:
        (directory / "tidegate-worker").write_text(worker)
        (directory / "tidegate-worker").chmod(0o755)
    return directory / "tidegate"
