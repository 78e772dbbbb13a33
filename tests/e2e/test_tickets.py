"""Session tickets: their keys are the supervisor's, so that a client resumes wherever it comes back to."""

import os
import re
import resource
import signal
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from support import processes, report
from support.certificates import TlsClient, make_pair, trusting
from support.daemon import BIN, basic, copied_binaries
from support.wait import until

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
HOUR = 3600
ROUND = 24


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    return {name: make_pair(folder, name, f"{name}.example") for name in ("a", "b")}


def secure(origin, pair, **changes):
    return basic(origin.address, listeners=[{"name": "web", "bind": "127.0.0.1:0", "tls": {}}], certificates=[pair.entry()],
                 **changes)


class Returning:
    """A client that comes back again and again, each time with its newest session."""

    def __init__(self, tidegate, pair, version):
        self.address = tidegate.addresses()[0]
        self.context = trusting(pair, version=version)
        self.session = None
        self.resumed = 0
        self.visits = 0
        self.visit()
        self.first = self.session

    def visit(self, session=None):
        """One connection and one request; true if the session was resumed."""
        with TlsClient(self.address, self.context, "a.example", session=session or self.session) as client:
            assert client.get("/").status == 200
            reused = client.sock.session_reused
            self.session = client.sock.session
        self.resumed += reused
        self.visits += 1
        return reused

    def rate(self, what, count=ROUND):
        """All of `count` visits resume; the report tells so."""
        self.resumed = self.visits = 0
        for _ in range(count):
            self.visit()
        self.tell(what)

    def tell(self, what):
        report.add([f"tickets, {self.context.minimum_version.name}: {self.resumed} of {self.visits} resumed {what}"])
        assert self.resumed == self.visits, f"{self.resumed} of {self.visits} resumed {what}"


def visiting_while(client, what, action):
    """Visits without a pause while `action` runs beside them."""
    client.resumed = client.visits = 0
    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(action)
        while not running.done() or client.visits < 3:
            client.visit()
        running.result()
    client.tell(what)


def busy_workers(tidegate):
    return [worker for generation in tidegate.status()["generations"] for worker in generation["workers"]
            if worker["requests"] > 0]


@pytest.mark.parametrize("version", VERSIONS)
def test_sessions_are_resumed_whatever_happens_to_the_processes(launch, origin, pairs, tmp_path, version):
    tidegate = launch(secure(origin, pairs["a"], workers=3))
    client = Returning(tidegate, pairs["a"], version)
    client.rate("at any of three workers")
    until(lambda: len(busy_workers(tidegate)) == 3, "requests at each worker")

    tidegate.change(certificates=[pairs["a"].entry(), pairs["b"].entry()], timeouts={"keepalive": "9s"})
    visiting_while(client, "during a reload", lambda: tidegate.ok("reload"))
    client.rate("after the reload")

    following = copied_binaries(tmp_path / "next")
    client.rate("before an upgrade")
    visiting_while(client, "during the upgrade", lambda: tidegate.ok("upgrade", "--binary", following))
    assert os.readlink(f"/proc/{tidegate.pid}/exe") == str(following)
    tidegate.wait_generations(1)
    client.rate("after the upgrade")

    visiting_while(client, "during a roll-back", lambda: tidegate.ok("rollback"))
    tidegate.wait_generations(1)
    client.rate("after the roll-back")

    killed = tidegate.workers()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(set(tidegate.workers()) - set(killed)) == 3, "three new workers")
    client.rate("after all workers were killed")
    assert client.visit(client.first), "the first session of all is as good as it was"


@pytest.mark.parametrize("version", VERSIONS)
def test_sessions_are_resumed_after_the_death_of_the_supervisor(launch, origin, pairs, version):
    tidegate = launch(secure(origin, pairs["a"], workers=2))
    client = Returning(tidegate, pairs["a"], version)
    orphans = tidegate.workers()
    tidegate.process.kill()
    tidegate.process.wait()
    client.rate("without a supervisor")
    tidegate.start().wait_ready()
    until(lambda: not any(processes.alive(pid) for pid in orphans), "the orphans to end", 20)
    client.address = tidegate.addresses()[0]
    client.rate("after a new supervisor has taken over")


def test_a_refused_upgrade_keeps_the_keys(launch, origin, pairs, tmp_path):
    """Also when the new image hangs with the keys in its hands, and the old one comes back by the alarm."""
    tidegate = launch(secure(origin, pairs["a"]), env={"TIDEGATE_TEST_FAULTS": "1"})
    client = Returning(tidegate, pairs["a"], VERSIONS[1])
    broken = copied_binaries(tmp_path / "broken")
    for fault in ("exec:fail", "bind:fail", "supervisor.prepare:fail", "probation:fail", "bind:hang"):
        (broken.parent / "tidegate.fault").write_text(fault)
        outcome = tidegate.cli("upgrade", "--binary", broken)
        assert outcome.code != 0 and os.readlink(f"/proc/{tidegate.pid}/exe") == str(BIN / "tidegate"), outcome.text
        # Who starts now gets what the old image has come back with.
        killed = tidegate.workers()
        os.kill(killed[0], signal.SIGKILL)
        until(lambda: set(tidegate.workers()) - set(killed), "a new worker")
        client.rate(f"after an upgrade with the fault {fault}", 4)
    assert "new keys for session tickets" not in tidegate.stderr


# Rotation, by a clock that the test moves.

@pytest.fixture
def clock(tmp_path):
    class Clock:
        def __init__(self):
            self.path = tmp_path / "clock"
            self.hours = 0
            self.move(0)

        @property
        def environment(self):
            return {"TIDEGATE_TEST_CLOCK": str(self.path)}

        def move(self, hours):
            self.hours += hours
            fresh = self.path.with_suffix(".new")
            fresh.write_text(f"{self.hours * HOUR * 1000}\n")
            fresh.replace(self.path)
    return Clock()


def rotations(tidegate):
    return tidegate.stderr.count("the keys of session tickets have rotated")


def rotated(tidegate, count):
    """Until there were `count` rotations and every worker knows: what conns asks them comes after it on their channels."""
    until(lambda: rotations(tidegate) == count, f"{count} rotations")
    tidegate.ok("conns")


@pytest.mark.parametrize("version", VERSIONS)
def test_keys_rotate_by_the_clock(launch, origin, pairs, clock, version):
    tidegate = launch(secure(origin, pairs["a"], workers=2), env=clock.environment)
    client = Returning(tidegate, pairs["a"], version)
    clock.move(11)
    client.rate("at the end of their key's time", 6)
    old = client.session
    clock.move(2)
    rotated(tidegate, 1)
    for _ in range(6):
        assert client.visit(old), "its key opens tickets for another rotation"
    renewed = client.session
    client.rate("after a rotation")
    clock.move(12)
    rotated(tidegate, 2)
    assert not client.visit(old), "nobody has its key any more"
    for _ in range(6):
        assert client.visit(renewed), "it was renewed"
    clock.move(12)
    rotated(tidegate, 3)
    assert not client.visit(renewed)
    client.rate("with a session of now", 6)


def test_a_leap_of_the_clock_is_one_rotation(launch, origin, pairs, clock):
    tidegate = launch(secure(origin, pairs["a"], workers=2), env=clock.environment)
    client = Returning(tidegate, pairs["a"], VERSIONS[1])
    clock.move(500)
    rotated(tidegate, 1)
    client.rate("after 500 hours of sleep", 6)
    assert rotations(tidegate) == 1


def test_the_time_of_the_next_rotation_survives_an_upgrade(launch, origin, pairs, clock):
    tidegate = launch(secure(origin, pairs["a"], workers=2), env=clock.environment)
    client = Returning(tidegate, pairs["a"], VERSIONS[1])
    clock.move(7)
    tidegate.ok("upgrade", "--force")
    tidegate.wait_generations(1)
    old = client.session
    clock.move(6)
    rotated(tidegate, 1)
    # Who starts now has the keys of now.
    killed = tidegate.workers()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(set(tidegate.workers()) - set(killed)) == 2, "two new workers")
    for _ in range(6):
        assert client.visit(old)
    client.rate("by workers that started after a rotation", 6)
    clock.move(12)
    rotated(tidegate, 2)
    assert not client.visit(old)


def test_a_generation_that_drains_hears_of_a_rotation(launch, origin, pairs, clock):
    tidegate = launch(secure(origin, pairs["a"], upgrade={"drain": "20s", "drain_tunnels": "20s"}), env=clock.environment)
    client = Returning(tidegate, pairs["a"], VERSIONS[1])
    go = threading.Event()
    origin.handler = lambda peer, got: (peer.wait(go) if got.target == "/slow" else None, peer.answer())
    with TlsClient(client.address, client.context, "a.example") as slow:
        slow.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
        origin.wait_requests(2)
        old_worker = tidegate.workers()[0]
        tidegate.ok("upgrade", "--force", "--detach")
        until(lambda: any(g["state"] == "draining" for g in tidegate.status()["generations"]), "a generation that drains")
        clock.move(13)
        rotated(tidegate, 1)
        names = {pid: ring_of(pid)[32:48] for pid in (old_worker, *tidegate.workers(), tidegate.pid)}
        assert len(names) == 3 and len(set(names.values())) == 1, names
        go.set()
        assert slow.response().status == 200
    tidegate.wait_generations(1)


def test_the_rotation_can_be_set_and_reloaded(launch, origin, pairs, clock):
    tidegate = launch(secure(origin, pairs["a"], tls={"ticket_rotation": "2h"}), env=clock.environment)
    client = Returning(tidegate, pairs["a"], VERSIONS[0])
    assert client.session.ticket_lifetime_hint == 4 * HOUR
    clock.move(1.5)
    tidegate.change(tls={"ticket_rotation": "1h"})
    assert "tls.ticket_rotation: 2h -> 1h" in tidegate.ok("reload").text
    rotated(tidegate, 1)
    client.rate("after a shorter rotation was loaded", 6)
    assert Returning(tidegate, pairs["a"], VERSIONS[0]).session.ticket_lifetime_hint == 2 * HOUR
    for wrong in ("30s", "8d", "off"):
        tidegate.change(tls={"ticket_rotation": wrong})
        outcome = tidegate.cli("check", tidegate.config_path)
        assert outcome.code == 78 and "ticket_rotation" in outcome.text, outcome.text


# Where the keys are, and where they are not.

HEAD = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) ")


def mappings(pid):
    """(start, end, permissions, VmFlags) of each mapping."""
    found, head = [], (0, 0, "")
    with open(f"/proc/{pid}/smaps", encoding="ascii", errors="replace") as file:
        for line in file:
            match = HEAD.match(line)
            if match:
                head = int(match[1], 16), int(match[2], 16), match[3]
            elif line.startswith("VmFlags:"):
                found.append((*head, line.split()[1:]))
    # [vsyscall] lies beyond what can be asked for.
    return [mapping for mapping in found if mapping[1] < 1 << 63]


def memory_of(pid, start, end):
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(start)
        try:
            return memory.read(end - start)
        except OSError:
            return b""


def rings_of(pid):
    """(flags, octets) of each mapping that holds a ring of keys."""
    small = [(start, end, flags) for start, end, _, flags in mappings(pid) if end - start == resource.getpagesize()]
    return [(flags, memory_of(pid, start, start + 256)) for start, end, flags in small
            if memory_of(pid, start, start + 4) == b"tgtk"]


def ring_of(pid):
    (_, octets), = rings_of(pid)
    return octets


def secrets_of(ring):
    """The six secret keys."""
    found = []
    for start in (16, 96, 176):
        found += [ring[start + 16:start + 48], ring[start + 48:start + 80]]
    assert len(set(found)) == 6 and all(len(key) == 32 for key in found)
    return found


def dumped(pid):
    """What a core dump would have, and more: every readable mapping that is not left out of dumps."""
    for start, end, permissions, flags in mappings(pid):
        if "r" in permissions and not {"dd", "io", "pf"} & set(flags) and end - start < 1 << 31:
            for part in range(start, end, 1 << 24):
                yield memory_of(pid, part, min(end, part + (1 << 24) + 64))


def assert_only_in_its_place(pid, secrets, known):
    """`known` is in its memory, which tells that this looks where it should."""
    found = False
    for octets in dumped(pid):
        found = found or known in octets
        for secret in secrets:
            assert secret not in octets, f"process {pid} has a key outside of its memory for keys"
    assert found


@pytest.mark.parametrize("version", VERSIONS)
def test_keys_are_in_locked_memory_and_nowhere_else(launch, origin, pairs, tmp_path, version):
    mark = "what the configuration says is in the memory of all of them"
    routes = [{"name": "all", "upstream": "app"}, {"name": "mark", "path": "/mark", "respond": {"body": mark}}]
    tidegate = launch(secure(origin, pairs["a"], workers=2, routes=routes, logging={"level": "debug"}))
    client = Returning(tidegate, pairs["a"], version)
    client.rate("before anybody looks for keys", 12)
    tidegate.ok("upgrade", "--binary", copied_binaries(tmp_path / "next"))
    tidegate.wait_generations(1)
    tidegate.ok("reload", "--force")
    client.rate("before anybody looks for keys again", 12)
    secrets = secrets_of(ring_of(tidegate.pid))
    for pid in (tidegate.pid, *tidegate.workers()):
        (flags, octets), = rings_of(pid)
        assert {"dd", "wf", "lo"} <= set(flags), flags
        assert secrets_of(octets) == secrets
        assert_only_in_its_place(pid, secrets, mark.encode())
        # A descriptor that leads to a file, of memory or not, has none of them either.
        for fd, target in processes.descriptors(pid).items():
            if target.startswith("/"):
                with open(f"/proc/{pid}/fd/{fd}", "rb") as file:
                    content = file.read(1 << 24) if os.path.isfile(f"/proc/{pid}/fd/{fd}") else b""
                assert not any(secret in content for secret in secrets), target
    shown = [tidegate.stderr, tidegate.stdout, tidegate.access_path.read_text(), tidegate.ok("status", "--json").text,
             tidegate.ok("check", "--print", tidegate.config_path).text]
    for text in shown:
        assert not any(secret.hex() in text.lower() for secret in secrets)


def test_memory_that_cannot_be_locked_is_a_warning(launch, origin, pairs):
    def no_locks():
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    tidegate = launch(secure(origin, pairs["a"], workers=2), preexec=no_locks)
    # Root may lock what it likes, its workers may not.
    until(lambda: "the keys of session tickets are not well protected here: lock memory" in tidegate.stderr, "a warning")
    Returning(tidegate, pairs["a"], VERSIONS[1]).rate("with keys that are not locked", 4)
