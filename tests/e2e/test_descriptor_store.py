"""The descriptor store of the service manager: after kill -9 of the supervisor and of all workers the next one has the queues.

Connections that wait in an accept queue are never refused and never reset; what a dead worker had accepted is gone."""

import fcntl
import json
import os
import socket
import threading

import pytest

from support.certificates import make_pair
from support.client import Client, request
from support.daemon import basic, copied_binaries
from support.manager import Manager, crash, start_again
from support.ports import free_port
from support.wait import PATIENCE, until
from test_tickets import VERSIONS, Returning, secure

PARKED = 40


def listeners(*names, **more):
    return [{"name": name, "bind": "127.0.0.1:0", **more} for name in names]


def fixed(name):
    """A listener whose port nobody else gets when it is given up: who connects there is refused then."""
    return {"name": name, "bind": f"127.0.0.1:{free_port()}"}


def stored(tidegate, kind="", count=None):
    """The names in the store, once there are `count`; the state is sent before the sockets."""
    until(lambda: count is None or len(tidegate.notify.names(kind)) == count,
          lambda: f"{count} {kind} in the store, there are {tidegate.notify.names()}")
    return tidegate.notify.names(kind)


def state_of(tidegate):
    """What the newest state says. There may be none for a moment: where there is room for one only."""
    return json.loads(until(lambda: tidegate.notify.read("state"), "a state in the store"))


def park(address, count=PARKED):
    """Connections with a request, of whom nobody knows yet."""
    clients = [Client(address, seconds=20) for _ in range(count)]
    for number, client in enumerate(clients):
        client.send(request("GET", f"/parked/{number}"))
    return clients


def answered(clients):
    statuses = [client.response().status for client in clients]
    for client in clients:
        client.close()
    assert statuses == [200] * len(clients)


def refused(address):
    try:
        Client(address, seconds=5).close()
        return False
    except ConnectionRefusedError:
        return True


@pytest.fixture
def service(launch, origin):
    """`service(**changes)`: a Tidegate under a manager with a store, in front of `origin`."""
    def start(manager=Manager, **changes):
        return launch(basic(origin.address, **changes), notify=manager, env={"TIDEGATE_TEST_FAULTS": "1"})
    return start


# What is kept.

@pytest.mark.parametrize("accept", ["reuseport", "shared"])
def test_a_crash_loses_nobody_who_waits_in_a_queue(service, origin, accept):
    tidegate = service(workers=3, listeners=listeners("web", "other", accept=accept))
    sockets = 6 if accept == "reuseport" else 2
    stored(tidegate, "socket", sockets)
    assert (len(stored(tidegate, "state", 1)), len(stored(tidegate, "keys")), len(stored(tidegate, "counters"))) == (1, 1, 1)
    addresses = [tidegate.address("web"), tidegate.address("other")]
    with tidegate.connect() as client:
        for _ in range(3):
            assert client.get("/").status == 200
    until(lambda: tidegate.counters()["requests_total"] == 3, "three requests counted")
    for round_number in (1, 2):
        crash(tidegate)
        parked = [client for address in addresses for client in park(address)]
        start_again(tidegate)
        answered(parked)
        assert [tidegate.addresses("web")[0], tidegate.addresses("other")[0]] == addresses, "the ports that the kernel chose"
        assert tidegate.generation == 1 + round_number, "the number goes on"
        expected = 3 + round_number * len(parked)
        until(lambda: tidegate.counters()["requests_total"] == expected, f"{expected} requests counted")  # pylint: disable=W0640
        stored(tidegate, "socket", sockets)
        assert len(stored(tidegate, "state", 1)) == 1
    assert len({one.target for one in origin.requests if "parked" in one.target}) == PARKED
    assert tidegate.warnings() == []


def test_connections_that_come_all_the_while_are_all_answered(service):
    """Each connects, in the gap or not, before it is known whether anybody is there."""
    tidegate = service(workers=2)
    stored(tidegate, "socket", 2)
    address = tidegate.address()
    crash(tidegate)
    stop, parked, faults = threading.Event(), [], []

    def come():
        try:
            while not stop.is_set():
                parked.extend(park(address, 1))
                # A start of minutes must not use up our own descriptors.
                stop.wait(max(0.005 * PATIENCE, len(parked) / 10_000))
        except OSError as fault:
            faults.append(fault)
    thread = threading.Thread(target=come)
    thread.start()
    start_again(tidegate)
    stop.set()
    thread.join()
    assert not faults, faults
    answered(parked)


@pytest.mark.parametrize("version", VERSIONS)
def test_tls_sessions_are_resumed_after_a_crash(launch, origin, tmp_path, version):
    pair = make_pair(tmp_path, "a", "a.example")
    tidegate = launch(secure(origin, pair, workers=2), notify=Manager)
    stored(tidegate, "socket", 2)
    client = Returning(tidegate, pair, version)
    for _ in range(2):
        crash(tidegate)
        start_again(tidegate)
        client.rate("after a crash of everything", 4)
        until(lambda: len(tidegate.notify.names("keys")) == 1, "one ring of keys in the store")


@pytest.mark.parametrize("before, after", [(2, 1), (1, 3), (4, 2)])
def test_the_worker_count_may_have_changed(service, before, after):
    tidegate = service(workers=before)
    stored(tidegate, "socket", before)
    address = tidegate.address()
    crash(tidegate)
    parked = park(address)
    tidegate.change(workers=after)
    start_again(tidegate)
    answered(parked)
    assert len(tidegate.workers()) == after and tidegate.addresses()[0] == address
    answered(park(address))
    stored(tidegate, "socket", max(before, after))


def test_a_unix_socket_is_kept_while_its_path_is_there(service):
    tidegate = service(listeners=[{"name": "web", "bind": "unix:@DIR@/front.sock", "accept": "shared"}])
    stored(tidegate, "socket", 1)
    path = tidegate.directory / "front.sock"
    crash(tidegate)
    parked = park(f"unix:{path}", 5)
    start_again(tidegate)
    answered(parked)
    crash(tidegate)
    path.unlink()
    start_again(tidegate)
    answered(park(f"unix:{path}", 5))
    assert "1 of the sockets that systemd should have kept" in tidegate.stderr
    stored(tidegate, "socket", 1)
    assert tidegate.stop() == 0
    start_again(tidegate)
    answered(park(f"unix:{path}", 5))


def test_a_socket_that_the_manager_gives_by_itself_is_not_stored(launch, origin):
    with socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        given.listen()

        class WithSocketUnit(Manager):
            def __init__(self, path):
                super().__init__(path)
                self.store.append(("tidegate.socket", os.dup(given.fileno())))
        config = basic(origin.address, listeners=[{"name": "web", "bind": "systemd:tidegate.socket"}, *listeners("other")])
        tidegate = launch(config, notify=WithSocketUnit)
        stored(tidegate, "socket", 1)
        other = tidegate.address("other")
        crash(tidegate)
        parked = park(given.getsockname()) + park(other)
        start_again(tidegate)
        answered(parked)


# What changes over time.

def test_a_reload_takes_back_what_it_drops_and_stores_what_it_adds(service):
    tidegate = service(workers=2, listeners=[*listeners("web"), fixed("second")])
    stored(tidegate, "socket", 4)
    second = tidegate.address("second")
    tidegate.change(listeners=listeners("web", "third"))
    tidegate.ok("reload")
    # Another process that held it would take connections to where nobody accepts.
    until(lambda: refused(second), "the dropped listener to refuse")
    assert len(stored(tidegate, "socket", 4)) == 4 and len(tidegate.notify.removed) >= 2
    assert [one["name"] for one in state_of(tidegate)["listeners"]] == ["web", "third"]
    web, third = tidegate.address("web"), tidegate.address("third")
    crash(tidegate)
    assert refused(second)
    parked = park(third) + park(web)
    start_again(tidegate)
    answered(parked)


def test_a_listener_that_the_configuration_does_not_want_any_more_is_taken_back_at_the_start(service):
    tidegate = service(workers=2, listeners=[*listeners("web"), fixed("second")])
    stored(tidegate, "socket", 4)
    web, second = tidegate.address("web"), tidegate.address("second")
    crash(tidegate)
    tidegate.change(listeners=listeners("web"))
    parked = park(web)
    start_again(tidegate)
    answered(parked)
    until(lambda: refused(second), "the dropped listener to refuse")
    stored(tidegate, "socket", 2)


@pytest.mark.parametrize("ends", [crash, lambda tidegate: tidegate.stop() == 0 or pytest.fail("no clean stop")], ids=["crash", "stop"])
@pytest.mark.parametrize("before, after", [("127.0.0.1 shared", "0.0.0.0 shared"), ("0.0.0.0 shared", "127.0.0.1 reuseport"),
                                           ("127.0.0.1 reuseport", "0.0.0.0 shared"), ("127.0.0.1 shared", "127.0.0.1 reuseport"),
                                           ("127.0.0.1 reuseport", "127.0.0.1 shared"), ("127.0.0.1 reuseport", "0.0.0.0 reuseport")])
def test_sockets_of_our_own_are_not_in_the_way_of_another_start(service, ends, before, after):
    port = free_port()

    def bound(text):
        host, accept = text.split()
        return [{"name": "web", "bind": f"{host}:{port}", "accept": accept}, *listeners("other")]
    tidegate = service(workers=2, listeners=bound(before))
    stored(tidegate, "socket", 4 if "reuseport" in before else 3)
    other = tidegate.address("other")
    ends(tidegate)
    tidegate.change(listeners=bound(after))
    parked = park(other)
    start_again(tidegate)
    answered(parked)
    answered(park(f"127.0.0.1:{port}"))
    web = tidegate.status()["listeners"][0]
    assert f"{web['bind'].split(':')[0]} {web['accept']}" == after
    stored(tidegate, "socket", 4 if "reuseport" in after else 3)
    # And these are found again.
    crash(tidegate)
    parked = park(f"127.0.0.1:{port}")
    start_again(tidegate)
    answered(parked)


class Lazy(Manager):
    # A second is waited for, and this is late where the machine is.
    lazy = 0.2


def test_a_manager_that_closes_later_than_it_says_is_waited_for(service):
    port = free_port()
    tidegate = service(manager=Lazy, listeners=[{"name": "web", "bind": f"127.0.0.1:{port}", "accept": "shared"}])
    stored(tidegate, "socket", 1)
    crash(tidegate)
    tidegate.change(listeners=[{"name": "web", "bind": f"0.0.0.0:{port}", "accept": "shared"}])
    start_again(tidegate)
    answered(park(f"127.0.0.1:{port}"))


def test_an_upgrade_goes_on_storing(service, tmp_path):
    tidegate = service(workers=1)
    stored(tidegate, "socket", 1)
    tidegate.change(workers=3)
    tidegate.ok("upgrade", "--binary", copied_binaries(tmp_path / "next"))
    tidegate.wait_generations(1)
    stored(tidegate, "socket", 3)
    until(lambda: state_of(tidegate)["next_generation"] == 3, "the state of the new image")
    tidegate.change(listeners=listeners("web", "second"))
    tidegate.ok("reload")
    stored(tidegate, "socket", 6)
    web, second = tidegate.address("web"), tidegate.address("second")
    crash(tidegate)
    parked = park(web) + park(second)
    start_again(tidegate)
    answered(parked)
    assert tidegate.generation == 3


def test_a_refused_upgrade_leaves_the_store_as_it_was(service, tmp_path):
    tidegate = service(workers=1)
    stored(tidegate, "socket", 1)
    binary = copied_binaries(tidegate.directory / "next")
    tidegate.change(workers=2, listeners=listeners("web", "second"))
    for fault, code in (("worker.prepare:fail", 1), ("worker.commit:die", 8)):
        (binary.parent / "tidegate.fault").write_text(fault)
        assert tidegate.cli("upgrade", "--binary", binary).code == code
        # The surplus socket of a listener that is there still is one of its sockets for good.
        until(lambda: [one["name"] for one in state_of(tidegate)["listeners"]] == ["web"], "the state of before")
        stored(tidegate, "state", 1)
    tidegate.change(workers=1, listeners=listeners("web"))
    address = tidegate.address()
    crash(tidegate)
    parked = park(address)
    start_again(tidegate)
    answered(parked)
    until(lambda: len(tidegate.notify.names("socket")) == len(state_of(tidegate)["listeners"][0]["sockets"]), "a whole state")


@pytest.mark.parametrize("words", [["reload"], ["reload", "--force"], ["upgrade", "--force"]], ids=" ".join)
def test_a_store_that_the_manager_has_lost_is_filled_by_the_next_operation(service, words):
    """As after a daemon-reload that found the unit masked. A reload that has nothing to do sends nothing."""
    tidegate = service(workers=2)
    stored(tidegate, "socket", 2)
    names = set(tidegate.notify.names("socket"))
    tidegate.notify.lose("")
    assert not tidegate.notify.names()
    tidegate.ok("reload")
    assert not tidegate.notify.names()
    tidegate.change(timeouts={"keepalive": "33s"})
    tidegate.ok(*words)
    stored(tidegate, "socket", 2)
    assert set(tidegate.notify.names("socket")) == names
    tidegate.wait_generations(1)
    stored(tidegate, "state", 1)
    address = tidegate.address()
    crash(tidegate)
    parked = park(address)
    start_again(tidegate)
    answered(parked)


# What cannot be used stops no start, and holds no port.

def memfd(text):
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.write(fd, text.encode())
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return fd


DAMAGED = {"not json": "{", "no object": "[]", "empty": "", "unknown format": '{"format": 2, "listeners": []}',
           "a list of nonsense": '{"format": 1, "listeners": [7, {"sockets": 3}, {"sockets": [4, "x"]}], "counters": {}}'}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_a_state_that_cannot_be_read_means_fresh_sockets_on_the_same_port(service, text):
    port = free_port()
    tidegate = service(workers=2, listeners=[{"name": "web", "bind": f"127.0.0.1:{port}"}])
    stored(tidegate, "socket", 2)
    crash(tidegate)
    tidegate.notify.replace("state", memfd(text))
    old = tidegate.notify.names()
    start_again(tidegate)
    assert len(tidegate.warnings()) == 1, tidegate.warnings()
    for _ in range(3):
        answered(park(f"127.0.0.1:{port}"))
    stored(tidegate, "socket", 2)
    until(lambda: not set(tidegate.notify.names()) & set(old), "nothing old in the store")
    assert tidegate.notify.barriers == 1
    crash(tidegate)
    parked = park(f"127.0.0.1:{port}")
    start_again(tidegate)
    answered(parked)


def test_the_newest_state_that_can_be_read_counts(service):
    """As after a death between the storing of a new one and the removal of the old one."""
    tidegate = service(workers=2)
    stored(tidegate, "socket", 2)
    address = tidegate.address()
    crash(tidegate)
    number = int(stored(tidegate, "state")[-1].split(".")[1])
    tidegate.notify.store.append((f"tidegate.store.state.{number + 1}", memfd("{")))
    tidegate.notify.store.append((f"tidegate.store.state.{number - 1}", memfd('{"format": 1}')))
    parked = park(address)
    start_again(tidegate)
    answered(parked)
    stored(tidegate, "state", 1)


def test_sockets_that_did_not_come_back_are_bound_anew(service):
    tidegate = service(workers=3, listeners=listeners("web", "other"))
    stored(tidegate, "socket", 6)
    web = tidegate.address()
    crash(tidegate)
    tidegate.notify.lose("socket", 1)
    parked = park(web)
    start_again(tidegate)
    answered(parked)
    answered(park(web))
    assert "1 of the sockets that systemd should have kept" in tidegate.stderr
    stored(tidegate, "socket", 6)


@pytest.mark.parametrize("kind", ["counters", "keys", "state", "socket"])
def test_each_kind_may_be_missing(service, kind):
    tidegate = service(workers=2)
    stored(tidegate, "socket", 2)
    crash(tidegate)
    tidegate.notify.lose(kind)
    start_again(tidegate)
    answered(park(tidegate.addresses()[0]))
    stored(tidegate, "socket", 2)
    assert all(len(stored(tidegate, one, 1)) == 1 for one in ("state", "keys", "counters"))


def test_a_descriptor_that_is_not_what_the_state_says_is_not_listened_on(service):
    tidegate = service(workers=1)
    stored(tidegate, "socket", 1)
    crash(tidegate)
    other = socket.socket()
    other.bind(("127.0.0.1", 0))
    other.listen()
    tidegate.notify.replace("socket", other.detach())
    tidegate.notify.replace("counters", os.open("/dev/null", os.O_RDWR))
    tidegate.notify.replace("keys", os.open("/dev/null", os.O_RDWR))
    start_again(tidegate)
    answered(park(tidegate.addresses()[0]))
    stored(tidegate, "socket", 1)


# Managers that are of little help.

class WithoutStore(Manager):
    room = 0
    told = {}


class Later(Manager):
    """Systemd 254: it says by itself how much room there is, whatever the unit says."""
    told = {"FDSTORE": "20", "TIDEGATE_FDSTORE": "4096"}


class Small(Manager):
    room = 6


def test_a_manager_that_keeps_nothing_costs_nothing(service):
    tidegate = service(manager=WithoutStore, workers=2)
    tidegate.change(workers=1)
    tidegate.ok("reload")
    crash(tidegate)
    start_again(tidegate)
    answered(park(tidegate.addresses()[0]))
    assert tidegate.notify.names() == [] and tidegate.warnings() == []
    # Each would be a warning in the journal.
    assert not any(line.startswith("FDSTORE") for line in tidegate.notify.lines()), tidegate.notify.messages


def test_the_room_that_systemd_tells_is_what_counts(service):
    tidegate = service(manager=Later, workers=6)
    assert len(stored(tidegate, "socket", 4)) == 4, "16 are kept free"


def test_what_there_was_no_room_for_is_bound_anew(service):
    tidegate = service(manager=Small, workers=4, listeners=listeners("web", "other"))
    stored(tidegate, "", 6)
    assert all(stored(tidegate, kind) for kind in ("state", "keys", "counters"))
    web = tidegate.address()
    for name in ("third", "other"):
        # The state that is replaced must find room.
        tidegate.change(listeners=listeners("web", name))
        tidegate.ok("reload")
        until(lambda name=name: [one["name"] for one in state_of(tidegate)["listeners"]] == ["web", name], "its state")
    crash(tidegate)
    start_again(tidegate)
    assert tidegate.addresses()[0] == web
    answered(park(web))


def test_a_manager_that_does_not_read_holds_nobody_up_and_is_told_later(service):
    tidegate = service(workers=2)
    stored(tidegate, "socket", 2)
    tidegate.notify.reading.clear()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
        filler.setblocking(False)
        until(lambda: full(filler, tidegate.notify.path), "a full queue")
    tidegate.change(listeners=listeners("web", "second"))
    tidegate.ok("reload", seconds=10)
    second = tidegate.address("second")
    answered(park(second, 4))
    assert len(tidegate.notify.names("socket")) == 2
    tidegate.notify.reading.set()
    stored(tidegate, "socket", 4)
    stored(tidegate, "state", 1)
    crash(tidegate)
    parked = park(second)
    start_again(tidegate)
    answered(parked)


def full(filler, path):
    try:
        while True:
            filler.sendto(b"X_FILLER=1", str(path))
    except BlockingIOError:
        return True


# Where workers live on.

def test_what_workers_bring_and_what_was_stored_is_the_same_once(service):
    """KillMode=process: the supervisor alone dies. No socket and no counter comes twice."""
    tidegate = service(workers=2)
    stored(tidegate, "socket", 2)
    with tidegate.connect() as client:
        for _ in range(5):
            client.get("/")
    until(lambda: tidegate.counters()["requests_total"] == 5, "five requests counted")
    address = tidegate.address()
    crash(tidegate, workers=False)
    answered(park(address, 10))
    start_again(tidegate)
    status = tidegate.wait_generations(1)
    assert status["generation"] == 2 and status["counters"]["requests_total"] == 15
    assert [one["sockets"] for one in status["listeners"]] == [2]
    stored(tidegate, "socket", 2)
    answered(park(address, 10))
    # A request is counted when it has been answered.
    until(lambda: tidegate.counters()["requests_total"] == 25, "25 requests counted")
    crash(tidegate)
    parked = park(address)
    start_again(tidegate)
    answered(parked)
    expected = 25 + PARKED
    until(lambda: tidegate.counters()["requests_total"] == expected, f"{expected} requests counted")
    assert tidegate.generation == 3


def test_one_worker_of_two_lives_on(service):
    tidegate = service(workers=2)
    stored(tidegate, "socket", 2)
    address = tidegate.address()
    answered(park(address, 10))
    until(lambda: tidegate.counters()["requests_total"] == 10, "ten requests counted")
    victim = tidegate.workers()[0]
    tidegate.process.kill()
    tidegate.process.wait()
    os.kill(victim, 9)
    start_again(tidegate)
    assert tidegate.wait_generations(1)["counters"]["requests_total"] == 10
    answered(park(address))


# The ends.

def test_after_a_restart_those_who_came_in_between_are_served(service):
    """`systemctl restart`: systemd keeps the store from the stop to the start."""
    tidegate = service(workers=2)
    stored(tidegate, "socket", 2)
    address = tidegate.address()
    assert tidegate.stop() == 0
    assert len(tidegate.notify.names("socket")) == 2
    parked = park(address)
    start_again(tidegate)
    answered(parked)
    assert tidegate.generation == 2


def test_a_stop_by_command_takes_everything_back(service):
    tidegate = service(workers=2, listeners=[fixed("web")])
    stored(tidegate, "socket", 2)
    address = tidegate.address()
    tidegate.ok("stop")
    tidegate.wait_exit()
    stored(tidegate, "", 0)
    assert refused(address)
