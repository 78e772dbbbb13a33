"""Workers are confined: no path, no port, no other process, and no system call beyond what they need."""

import contextlib
import os
import re
import signal
import subprocess

import pytest

from support import processes
from support.daemon import BIN, basic
from support.names import DnsServer, Names
from support.origin import Origin
from support.steady import Steady
from support.wait import until

# A worker with sanitizers is not confined, and has these words in it.
CONFINED = b"a build with sanitizers" not in (BIN / "tidegate-worker").read_bytes()
ROOT_RUNS_US = os.geteuid() == 0


def confinements(tidegate):
    return [worker.get("confinement") for generation in tidegate.status()["generations"] for worker in generation["workers"]]


def check(tidegate):
    """Every worker says that it is confined as it should be, and the kernel agrees."""
    told = confinements(tidegate)
    # What an older kernel leaves out is in the notes.
    assert told and all(part["in_force"] == CONFINED for one in told for part in one.values()), told
    seen = 0
    for pid in tidegate.worker_processes():
        # One of before may end meanwhile.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            assert processes.status_field(pid, "NoNewPrivs") == "1"
            assert processes.status_field(pid, "Seccomp") == "2" or not CONFINED
            seen += 1
    assert seen >= tidegate.config["workers"]


def test_workers_are_confined_from_the_start_and_after_every_change(launch, origin):
    tidegate = launch(basic(origin.address, workers=2))
    check(tidegate)
    with Steady(tidegate) as steady:
        tidegate.ok("reload", "--force")
        check(tidegate)
        tidegate.ok("upgrade", "--force")
        tidegate.wait_generations(1)
        check(tidegate)
        steady.more()


def test_status_says_so_to_people_too(launch, origin):
    tidegate = launch(basic(origin.address))
    text = tidegate.ok("status").out
    wanted = r"seccomp, landlock( \(ABI .*\))?" if CONFINED else "no seccomp: a build with sanitizers; no landlock: a build with sanitizers"
    assert re.search(rf"^generation 1 confined: {wanted}$", text, re.M), text


def test_a_worker_that_is_taken_over_or_started_again_is_confined(launch, origin):
    tidegate = launch(basic(origin.address))
    tidegate.signal(signal.SIGKILL)
    tidegate.wait_exit()
    tidegate.start().wait_ready()
    check(tidegate)
    tidegate.wait_generations(1)
    before = tidegate.workers()
    os.kill(before[0], signal.SIGKILL)
    until(lambda: set(tidegate.workers()) - set(before), "another worker")
    until(lambda: all(confinements(tidegate) or [None]), "its word")
    check(tidegate)


def test_what_is_missing_is_said_once_and_serves(launch, origin):
    tidegate = launch(basic(origin.address, workers=2), env={"TIDEGATE_TEST_FAULT": "worker.confine:fail"})
    off = {"in_force": False, "note": "a test asked for this fault"}
    assert confinements(tidegate) == [{"seccomp": off, "landlock": off}] * 2
    assert tidegate.status()["healthy"]
    with tidegate.connect() as client:
        assert client.get("/").status == 200
    lines = [line for line in tidegate.stderr.splitlines() if "not wholly confined" in line]
    assert len(lines) == 1 and "workers of generation 1" in lines[0], tidegate.stderr
    os.kill(tidegate.workers()[0], signal.SIGKILL)
    until(lambda: "started" in tidegate.stderr and len(tidegate.workers()) == 2, "another worker")
    assert tidegate.stderr.count("not wholly confined") == 1


def test_every_thread_of_a_worker_is_confined(launch, origin):
    """Those that write logs to files are started when there is something to write."""
    tidegate = launch(basic(origin.address))
    with tidegate.connect() as client:
        assert client.get("/").status == 200
    tidegate.logged(status=200)
    pid = tidegate.workers()[0]
    threads = os.listdir(f"/proc/{pid}/task")
    assert len(threads) > 1
    for thread in threads:
        with open(f"/proc/{pid}/task/{thread}/status", encoding="ascii") as status:
            assert re.search(rf"^Seccomp:\s+{2 if CONFINED else 0}$", status.read(), re.M), thread


def test_no_connection_makes_a_worker_try_to_open_something(launch, origin):
    """libuv opens a descriptor in reserve, and tries so with each stream until it has one: it has it already."""
    tidegate = launch(basic(origin.address))
    descriptors = processes.descriptors(tidegate.workers()[0])
    assert [fd for fd, path in descriptors.items() if fd > 2 and path == "/dev/null"], descriptors


@pytest.fixture
def names():
    made = Names()
    yield made
    made.close()


def test_changed_name_files_are_seen_by_confined_workers(launch, origin, names):
    port = int(origin.address.rsplit(":", 1)[1])
    other = Origin(at=("127.0.0.2", port))
    names.are(app="127.0.0.1")
    tidegate = launch(basic(f"app.tidegate.test:{port}", timeouts={"upstream_idle": "1ms"}), preexec=names.enter)

    def arrives_at(one):
        count = len(one.requests)
        with tidegate.connect() as client:
            assert client.get("/").status == 200
        return len(one.requests) > count
    servers = []
    try:
        assert arrives_at(origin)
        names.are(app="127.0.0.2")
        until(lambda: arrives_at(other), "a request to the address that /etc/hosts has now")
        if ROOT_RUNS_US:
            # Only root may be a name server at port 53.
            names.are()
            for address, there in (("127.0.0.1", origin), ("127.0.0.2", other)):
                servers.append(DnsServer(address))
                (names.directory / "resolv.conf").write_text(f"nameserver {servers[-1].address}\n")
                until(lambda there=there: arrives_at(there), "a request to the address that the server of now says")
        check(tidegate)
    finally:
        other.close()
        for server in servers:
            server.close()


def test_no_two_workers_ask_with_the_same_ids(launch, origin, names):
    """An old c-ares that cannot open /dev/urandom takes them from rand(): then every worker has the same."""
    if not ROOT_RUNS_US:
        # Nobody sees the questions. What they come from is the worker's own, then.
        symbols = subprocess.run(["readelf", "--dyn-syms", "--wide", BIN / "tidegate-worker"], capture_output=True, text=True, check=True)
        assert re.search(r"FUNC +GLOBAL +DEFAULT +[0-9]+ rand$", symbols.stdout, re.M)
        return
    port = int(origin.address.rsplit(":", 1)[1])
    server = DnsServer("127.0.0.1")
    (names.directory / "resolv.conf").write_text(f"nameserver {server.address}\n")
    seen = []
    try:
        for _ in range(3):
            server.ids.clear()
            tidegate = launch(basic(f"app.tidegate.test:{port}"), preexec=names.enter)
            with tidegate.connect() as client:
                assert client.get("/").status == 200
            until(lambda: len(server.ids) >= 2, "both questions")
            seen.append(tuple(server.ids[:2]))
            tidegate.stop()
    finally:
        server.close()
    assert len(set(seen)) == 3, seen
