"""What clients and origins that hold still cost: memory stays flat, others are served, and a burst gives back what it took."""

import resource
import socket
import threading
import time

import pytest

from support import processes, report
from support.client import request
from support.daemon import basic
from support.wait import PATIENCE, SMALL, until

MIB = 1 << 20
MANY = 500 if SMALL else 10_000
# A sanitizer's shadow and quarantine are not ours to bound.
BOUNDED = not SMALL


@pytest.fixture(scope="module", autouse=True)
def enough_descriptors():
    """One for each client, in this process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    assert hard == resource.RLIM_INFINITY or hard > MANY + 500, f"{hard} descriptors are too few for {MANY} clients"


def memory(tidegate):
    """Resident octets of all workers."""
    return sum(processes.resident_bytes(pid) for pid in tidegate.workers())


def served(tidegate):
    """Seconds that another client waits for its answer."""
    began = time.monotonic()
    with tidegate.connect() as client:
        assert client.get("/").status == 200
    return time.monotonic() - began


def warmed(tidegate):
    """Everything that is made once has been made; the memory from here on."""
    for _ in range(50):
        served(tidegate)
    return memory(tidegate)


def given_back(tidegate, what, before):
    """After `what` everything but the usual is the kernel's again, in a few seconds; printed."""
    until(lambda: tidegate.counters()["connections_active"] == 0, "the connections to go", 60)
    limit = 1.5 * before
    if BOUNDED:
        until(lambda: memory(tidegate) <= limit, lambda: f"{limit / MIB:.1f} MiB or less, not {memory(tidegate) / MIB:.1f}")
    report.add([f"  after {what}: {memory(tidegate) / before:.2f} times the memory of before (limit 1.5)"])
    served(tidegate)


def flat(what, tidegate, before, limit):
    """`what` has cost at most `limit` octets, and another client is served within 100 ms; both are printed."""
    grown = memory(tidegate) - before
    # The best of a few: the machine has other work, too.
    waited = min(served(tidegate) for _ in range(5))
    report.add([f"{what}: {grown / MIB:+.1f} MiB (limit {limit / MIB:.1f}), another client served in {1000 * waited:.1f} ms"])
    assert not BOUNDED or grown <= limit
    assert waited < 0.1 * PATIENCE
    return grown


def test_a_client_that_does_not_read_a_long_answer(launch, origin):
    size = 500 * MIB
    sent = [0]

    def pour(peer, got):
        if got.target != "/long":
            peer.answer()
            return
        peer.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")
        while sent[0] < size:
            peer.send(b"x" * 65536)
            sent[0] += 65536
    origin.handler = pour
    tidegate = launch(basic(origin.address))
    before = warmed(tidegate)
    with tidegate.connect(receive_buffer=4096) as paused:
        paused.send(request("GET", "/long"))
        until(lambda: sent[0] > 0, "the answer to begin")
        seen = []

        def stalled():
            seen.append(sent[0])
            return len(seen) > 20 and len(set(seen[-20:])) == 1
        until(stalled, "the answer to stall", 30)
        flat("500 MiB for a paused client", tidegate, before, MIB)
        assert sent[0] < size


def test_an_origin_that_does_not_read_a_long_upload(launch, origin):
    stop = threading.Event()

    def stall(peer, got):
        if got.method == "POST":
            stop.wait(60)
        else:
            peer.answer()

    def script(peer):
        while True:
            got = peer.request_head()
            stall(peer, got)
    origin.forever(script)
    tidegate = launch(basic(origin.address))
    before = warmed(tidegate)
    with tidegate.connect() as client:
        client.send(request("POST", "/up", f"Content-Length: {100 * MIB}"))
        client.sock.settimeout(1)
        sent = 0
        with pytest.raises(socket.timeout):
            while sent < 100 * MIB:
                sent += client.sock.send(b"x" * 65536)
        flat("an upload to a stalled origin", tidegate, before, MIB)
        stop.set()


# Between requests they are parked after 5 s, and what their sessions took goes back some seconds later.
PARKED = 600


@pytest.mark.parametrize("what,octets,each", [
    ("connections that send nothing", b"", PARKED),
    ("connections that were served and are kept", request(), PARKED),
    ("heads that do not go on", b"GET / HTTP/1.1\r\nHost: example.org\r\nX-Slow: ", 12 * 1024),
])
def test_many_connections_that_hold_still(launch, origin, what, octets, each):
    tidegate = launch(basic(origin.address, workers=2, timeouts={"request_head": "5m", "keepalive": "5m"}))
    before = warmed(tidegate)
    tidegate.port()
    host, port = tidegate.addresses()[0].rsplit(":", 1)
    clients = []
    try:
        for _ in range(MANY):
            client = socket.create_connection((host, int(port)), timeout=15)
            if octets:
                client.sendall(octets)
            if octets.endswith(b"\r\n\r\n"):
                assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
            clients.append(client)
        until(lambda: tidegate.counters()["connections_active"] >= MANY, f"{MANY} connections", 60)
        if BOUNDED and each == PARKED:
            until(lambda: memory(tidegate) - before <= MANY * each,
                  lambda: f"{each} octets each or less, not {(memory(tidegate) - before) / MANY:.0f}", 30)
        grown = flat(f"{MANY:,} {what}", tidegate, before, MANY * each)
        report.add([f"  {grown / MANY:.0f} octets each"])
    finally:
        for client in clients:
            client.close()
    given_back(tidegate, "them", before)


def test_a_burst_of_requests_gives_back_what_it_took(launch, origin):
    """Each connection is served once, so that everything which a request needs existed as often as there were clients."""
    tidegate = launch(basic(origin.address, workers=2, timeouts={"request_head": "5m", "keepalive": "5m", "upstream_idle": "2s"}))
    before = warmed(tidegate)
    host, port = tidegate.addresses()[0].rsplit(":", 1)
    octets = request("POST", "/", "Content-Length: 5")
    clients = [socket.create_connection((host, int(port)), timeout=30) for _ in range(min(MANY, 4000))]
    for client in clients:
        client.sendall(octets)
    until(lambda: tidegate.counters()["connections_active"] >= len(clients), "all connections", 60)
    for client in clients:
        client.sendall(b"hello")
    answers = sum(client.recv(4096).startswith(b"HTTP/1.1 200 ") for client in clients)
    assert answers == len(clients)
    highest = memory(tidegate)
    for client in clients:
        client.close()
    report.add([f"{len(clients):,} uploads at once: {highest / MIB:.1f} MiB with them, {before / MIB:.1f} MiB before"])
    given_back(tidegate, "them", before)
