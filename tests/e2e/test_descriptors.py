"""Running out: of descriptors, of connections. Keep serving, say it once, resume."""

import os
import resource
import threading
from collections import Counter

from support import h2_frames as h2
from support import processes
from support.client import request
from support.daemon import basic, clear
from support.errors import expect_error
from support.wait import SMALL, until

FEW = 128


def few_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, FEW))


def test_out_of_descriptors_stops_accepting_before_the_limit_and_resumes(launch, origin):
    """A reserve is kept for upstreams and logs, so that who is in is served."""
    tidegate = launch(basic(origin.address), preexec=few_descriptors)
    worker = tidegate.workers()[0]
    clients = [tidegate.connect(seconds=20) for _ in range(2 * FEW)]
    for client in clients:
        client.send(request())
    first = [client for client in clients[:20]]
    assert [client.response().status for client in first] == [200] * 20, "who was accepted is served"

    def full():
        return tidegate.counters()["connections_active"] >= FEW // 4
    until(full, "the worker to be full")
    said = "not accepting"
    until(lambda: said in tidegate.stderr, "a word about it in the log")
    assert first[0].get("/again").status == 200, "who is in is still served"
    for client in first:
        client.close()
    statuses = []
    for client in clients[20:]:
        statuses.append(client.response().status)
        client.close()
    assert Counter(statuses) == {200: len(clients) - 20}, "who waited is served when there is room, who is in has his upstream"
    lines = [line for line in tidegate.stderr.splitlines() if said in line.lower()]
    assert len(lines) <= 6, "said once, not for every connection:\n" + "\n".join(lines[:10])
    with tidegate.connect() as client:
        assert client.get("/").status == 200
    assert tidegate.workers() == [worker], "nothing crashed"


def test_streams_of_http2_leave_descriptors_for_other_clients(launch, origin):
    """Each stream that waits for its origin holds a descriptor, and three clients may have more streams than there are."""
    go = threading.Event()

    def held(peer, got):
        if got.target == "/held":
            peer.wait(go)
        peer.answer()
    origin.handler = held
    tidegate = launch(clear(origin.address), preexec=few_descriptors)
    worker = tidegate.workers()[0]
    clients = [tidegate.h2() for _ in range(3)]
    streams = [(client, client.ask("/held")) for client in clients for _ in range(100)]
    for client in clients:
        client.roundtrip()
    refused = [known for client, stream in streams if (known := client.of(stream)).over]
    assert refused and all(known.reset == h2.REFUSED_STREAM for known in refused), "who is refused may try again"
    assert len(refused) < len(streams) - 20, "many are served"
    for _ in range(5):
        with tidegate.connect() as other:
            assert other.get("/").status == 200
    with tidegate.h2() as other:
        assert other.get("/").status == 200
    go.set()
    for client, stream in streams:
        if client.of(stream) not in refused:
            assert client.answer(stream).status == 200
    for client in clients:
        assert client.get("/again").status == 200
        client.close()
    assert tidegate.workers() == [worker], "nothing crashed"


def test_held_streams_and_held_requests_together_leave_descriptors_for_upstreams(launch, origin):
    """Connections whose request the origin holds, and as many streams beside them: who was let in is served, the others wait
    outside or may try again."""
    go = threading.Event()

    def held(peer, got):
        if got.target == "/held":
            peer.wait(go)
        peer.answer()
    origin.handler = held
    tidegate = launch(clear(origin.address), preexec=few_descriptors)
    worker = tidegate.workers()[0]
    streamer = tidegate.h2()
    streams = [streamer.ask("/held") for _ in range(60)]
    streamer.roundtrip()
    begun = len([stream for stream in streams if not streamer.of(stream).over])
    assert begun > 20, "many are served"
    clients = [tidegate.connect(seconds=20) for _ in range(80)]
    for client in clients:
        client.send(request("GET", "/held"))
    until(lambda: "not accepting" in tidegate.stderr, "the worker to be full")
    connections = tidegate.counters()["connections_active"]
    assert 2 * connections + begun - 1 <= FEW - 32, "each connection and its upstream, and an upstream for each further stream"
    # With the streams gone there is room again, before any connection has ended.
    for stream in streams:
        if not streamer.of(stream).over:
            streamer.leave(stream)
    until(lambda: tidegate.counters()["connections_active"] > connections, "more to be accepted")
    go.set()
    statuses = []
    for client in clients:
        statuses.append(client.response().status)
        client.close()
    assert Counter(statuses) == {200: len(clients)}, "nobody who was let in lacks an upstream"
    streamer.close()
    assert tidegate.workers() == [worker], "nothing crashed"


def test_no_descriptor_for_an_upstream_is_503_and_passes(launch, origin):
    if SMALL:
        return  # UBSan opens a pipe to look at memory: without descriptors it reports faults that are none
    # The same user as ours: only then may we lower its limit without CAP_SYS_RESOURCE.
    same_user = {"user": "root"} if os.geteuid() == 0 else {}
    tidegate = launch(basic(origin.address, **same_user))
    worker = tidegate.workers()[0]
    with tidegate.connect() as client:
        assert client.get("/missing", "Expect: x").status == 417, "the worker is warm, without an upstream connection"
    until(lambda: tidegate.counters()["connections_active"] == 0, "its descriptor to be free")
    with tidegate.connect() as client:
        until(lambda: tidegate.counters()["connections_active"] == 1, "the connection to be accepted")
        used = max(processes.descriptors(worker)) + 1
        before = resource.prlimit(worker, resource.RLIMIT_NOFILE, (used, resource.prlimit(worker, resource.RLIMIT_NOFILE)[1]))
        fillers = len(processes.descriptors(worker))
        assert fillers <= used
        # Below the highest there may be holes; with them gone the next socket() fails.
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (min(free_below(worker, used), used), before[1]))
        expect_error(tidegate, client.get("/"), "out_of_descriptors", closes=False)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, before)
        assert client.get("/").status == 200


def free_below(pid, limit):
    """The lowest free descriptor number: a limit there makes the next one impossible."""
    held = set(processes.descriptors(pid))
    return next((number for number in range(limit) if number not in held), limit)


def test_max_connections_holds_and_lets_the_next_in(launch, origin):
    tidegate = launch(basic(origin.address, limits={"max_connections": 5}))
    clients = [tidegate.connect(seconds=20) for _ in range(12)]
    answers = {}
    for client in clients:
        client.send(request())
    for client in clients[:5]:
        answers[client] = client.response().status
    assert list(answers.values()) == [200] * 5
    assert tidegate.counters()["connections_active"] <= 5
    refused = 0
    for client in clients[5:]:
        if not client.silent(0.05):
            expect_error(tidegate, client.response(), "connection_limit", closes=True)
            refused += 1
    for client in clients[:5]:
        client.close()
    for client in clients[5 + refused:]:
        assert client.response().status == 200, "who waited is let in"
        client.close()
    with tidegate.connect() as client:
        assert client.get("/").status == 200


def test_max_connections_off_and_auto_are_accepted(launch, origin):
    tidegate = launch(basic(origin.address, limits={"max_connections": "auto"}))
    tidegate.change(limits={"max_connections": 1000})
    tidegate.ok("reload")
    with tidegate.connect() as client:
        assert client.get("/").status == 200


def test_nothing_leaks_over_many_connections_and_requests(tidegate):
    worker = tidegate.workers()[0]
    with tidegate.connect() as client:
        client.get("/")
    until(lambda: tidegate.counters()["connections_active"] == 0, "quiet")
    supervisor_before, worker_before = len(processes.descriptors(tidegate.pid)), len(processes.descriptors(worker))
    for _ in range(3):
        clients = [tidegate.connect() for _ in range(50)]
        for client in clients:
            assert client.get("/").status == 200
        for number, client in enumerate(clients):
            (client.reset if number % 2 else client.close)()
    until(lambda: tidegate.counters()["connections_active"] == 0, "quiet again")
    until(lambda: len(processes.descriptors(tidegate.pid)) <= supervisor_before, "the supervisor's descriptors to be closed")
    until(lambda: len(processes.descriptors(worker)) <= worker_before + 1, "the worker's descriptors to be closed")


def test_a_worker_holds_no_descriptor_that_is_not_its_business(tidegate):
    """Only its channel, listeners, logs, counters, event loop: no control socket, no other worker's channel."""
    held = processes.descriptors(tidegate.workers()[0])
    assert len(held) < 40, held
    assert not [target for target in held.values() if target.endswith((".sock", ".json"))]
