"""An upgrade moves live connections to the new workers: nobody reconnects, nothing is lost, everything goes on counting."""

import threading
import time

import pytest

from support import processes
from support.client import request
from support.daemon import basic
from support.live import SWITCH, UPGRADE, Live, LiveOrigin, kernel_holds, listed
from support.wait import PATIENCE, duration, until

SOON = {"probation": "20ms", "drain": "20s", "drain_tunnels": "20s"}


@pytest.fixture
def live_origin(make_origin):
    one = LiveOrigin(make_origin)
    yield one
    one.release.set()


def upgraded(tidegate, *more):
    """One upgrade, until the old generation has gone; the result that --json prints."""
    result = tidegate.ok("upgrade", "--force", "--json", *more).json_lines[-1]
    tidegate.wait_generations(1)
    return result


def active(tidegate):
    """(connections, tunnels) that are counted now."""
    counters = tidegate.counters()
    return counters["connections_active"], counters["tunnels_active"]


def open_tunnel(client, *early, path="/tunnel/x"):
    client.send(request("GET", path, *UPGRADE, "User-Agent: mover/1") + b"".join(early))
    assert client.response().status == 101


def test_everything_moves_and_nobody_notices(launch, live_origin):
    tidegate = launch(basic(live_origin.address, workers=2, upgrade=SOON))
    with Live(tidegate, live_origin, asking=10, pipelining=5, idle=200, tunnels=10) as live:
        before = listed(tidegate)
        assert len(before) == 225
        result = upgraded(tidegate)
        # The last of them may be on their way when the old worker has gone.
        until(lambda: active(tidegate) == (225, 10), lambda: f"all to have arrived, not {active(tidegate)}")
        live.more()
        live.expect_all_alive()
        live.settle()
        after = listed(tidegate)
        assert set(after) == set(before)
        assert {(one["generation"], one.get("hand_overs")) for one in after.values()} == {(2, 1)}
        assert all(after[port]["age_seconds"] >= before[port]["age_seconds"] for port in before), "they are as old as before"
        assert all(after[port]["bytes_in"] > before[port]["bytes_in"] for port in before), "and go on counting"
        moved = result["handed_over"]
        assert (moved["idle"], moved["tunnels"], result["declined"]) == (215, 10, {})
        assert (result["drained"], result["forced"]) == (0, 0)
        counters = tidegate.counters()
        assert (counters["handed_over_idle"], counters["handed_over_tunnels"]) == (215, 10)
        assert counters["handed_over_upstream"] == moved["upstream"] > 0
        assert counters["connections_accepted"] == 225, "nobody came again"
    until(lambda: not kernel_holds(tidegate.port()), "nobody to hold what has left")
    until(lambda: active(tidegate) == (0, 0), "no connection to be left")


def test_the_upgrade_says_what_has_moved(launch, live_origin):
    tidegate = launch(basic(live_origin.address, upgrade=SOON))
    with Live(tidegate, live_origin, idle=3, tunnels=1) as live:
        said = tidegate.ok("upgrade", "--force").text
        assert "hand over   3 idle connections, 1 tunnel moved" in said, said
        live.more()
        live.expect_all_alive()


def test_what_is_inside_an_exchange_moves_when_that_ends(launch, live_origin):
    tidegate = launch(basic(live_origin.address, upgrade=SOON))
    with Live(tidegate, live_origin, held=5, idle=2) as live:
        tidegate.ok("upgrade", "--force", "--detach")
        until(lambda: tidegate.counters()["handed_over_idle"] == 2, "the idle ones to move")
        assert {one["generation"] for one in listed(tidegate).values() if one["state"] != "idle"} == {1}
        live_origin.release.set()
        tidegate.wait_generations(1)
        live.ask(*live.of("held"))
        live.expect_all_alive()
        assert {one["generation"] for one in listed(tidegate).values()} == {2}
        assert tidegate.counters()["handed_over_idle"] == 7


def test_pooled_connections_move_so_that_the_origin_sees_none_come(launch, live_origin):
    tidegate = launch(basic(live_origin.address, upgrade=SOON))
    with Live(tidegate, live_origin, held=6) as live:
        live_origin.release.set()
        until(lambda: all(one.answers for one in live.all), "the answers")
        assert len(live_origin.origin.peers) == 6
        for number in range(2):
            assert upgraded(tidegate)["handed_over"]["upstream"] == 6
            live.ask(*live.all)
            assert len(live_origin.origin.peers) == 6, f"a new connection to the origin after upgrade {number + 1}"
        live.expect_all_alive()


def test_five_upgrades_in_a_row(launch, live_origin):
    """What has moved and says nothing is parked: from the second time on it moves from there."""
    tidegate = launch(basic(live_origin.address, workers=2, upgrade=SOON))
    with Live(tidegate, live_origin, asking=6, idle=40, tunnels=6) as live:
        silent = live.of("idle")[20:]
        for _ in range(5):
            upgraded(tidegate)
            live.more(*[one for one in live.all if one not in silent])
        live.expect_all_alive()
        live.more()
        live.settle()
        lines = listed(tidegate)
        assert len(lines) == 52
        assert {(one["generation"], one["hand_overs"]) for one in lines.values()} == {(6, 5)}


@pytest.mark.parametrize("old, new", [(1, 3), (3, 1)])
def test_the_number_of_workers_may_change(launch, live_origin, old, new):
    tidegate = launch(basic(live_origin.address, workers=old, upgrade=SOON))
    with Live(tidegate, live_origin, asking=6, idle=30, tunnels=6) as live:
        tidegate.change(workers=new)
        result = upgraded(tidegate)
        assert (result["handed_over"]["idle"], result["handed_over"]["tunnels"]) == (36, 6)
        live.more()
        live.expect_all_alive()
        assert {one["generation"] for one in listed(tidegate).values()} == {2}


def test_connections_of_a_unix_socket_move_too(launch, live_origin):
    tidegate = launch(basic(live_origin.address, upgrade=SOON,
                            listeners=[{"name": "web", "bind": "unix:@DIR@/front.sock"}]))
    with Live(tidegate, live_origin, asking=2, idle=5, tunnels=2) as live:
        for _ in range(2):
            result = upgraded(tidegate)
            assert (result["handed_over"]["idle"], result["handed_over"]["tunnels"]) == (7, 2)
            live.more()
        live.expect_all_alive()


def test_a_tunnel_that_moved_has_one_whole_line_in_the_log(launch, live_origin):
    logging = {"access": {"path": "@DIR@/access.log", "request_headers": ["User-Agent"]}}
    tidegate = launch(basic(live_origin.address, upgrade=SOON, logging=logging))

    def say(client, octets):
        client.send(octets)
        assert client.exactly(len(octets)) == octets
    with tidegate.connect() as moved:
        open_tunnel(moved, path="/tunnel/moved?a=b")
        opened = time.monotonic()
        say(moved, b"before" * 100)
        assert upgraded(tidegate)["handed_over"]["tunnels"] == 1
        say(moved, b"after" * 50)
        moving = time.monotonic() - opened
    line = tidegate.logged(path="/tunnel/moved?a=b")
    # The same in one generation, to compare with.
    with tidegate.connect() as stayed:
        open_tunnel(stayed, path="/tunnel/stays?a=b")
        say(stayed, b"before" * 100)
        say(stayed, b"after" * 50)
    like = tidegate.logged(path="/tunnel/stays?a=b")
    own = ("ts", "id", "peer", "path", "time_total", "time_queue", "time_connect", "time_first_byte", "reused")
    assert {key: value for key, value in line.items() if key not in own} == \
           {key: value for key, value in like.items() if key not in own}
    assert set(line) == set(like) and line["status"] == 101 and "mover/1" in str(line)
    assert moving <= line["time_total"] + 0.001 and line["time_total"] < moving + 2 * PATIENCE
    assert line["id"] == live_origin.origin.requests[0].get("x-request-id")
    assert [one["path"] for one in tidegate.access_lines()] == ["/tunnel/moved?a=b", "/tunnel/stays?a=b"]


def stuffed(sock, start):
    """Sends numbers until nothing can be sent for a while; returns what went. How much that is, the kernel decides."""
    went, left = bytearray(), b""
    before = sock.gettimeout()
    sock.settimeout(0.4)
    try:
        while len(went) < 1 << 28:
            if not left:
                first = start + len(went) // 4
                left = b"".join(number.to_bytes(4, "big") for number in range(first, first + 65536))
            sent = sock.send(left)
            went += left[:sent]
            left = left[sent:]
        raise AssertionError(f"{len(went)} octets, and no end")
    except TimeoutError:
        return bytes(went)
    finally:
        sock.settimeout(before)


def test_a_tunnel_whose_peers_do_not_read_moves_with_all_that_waits(launch, make_origin):
    """Both directions are full to the brim, buffers of the worker and of the kernel."""
    origin = make_origin()
    said, got, go = [], [], threading.Event()

    def script(peer):
        peer.request()
        peer.send(SWITCH)
        said.append(stuffed(peer.sock, 0))
        peer.wait(go)
        got.append(peer.to_end())
    origin.next(script)
    tidegate = launch(basic(origin.address, upgrade=SOON))
    with tidegate.connect(receive_buffer=8192) as client:
        open_tunnel(client)
        mine = stuffed(client.sock, 1 << 30)
        until(lambda: said, "the origin to have said what it can")
        result = upgraded(tidegate)
        assert result["handed_over"]["tunnels"] == 1, result
        [line] = until(lambda: listed(tidegate).values(), "it to have arrived")
        assert (line["generation"], line["state"]) == (2, "tunnel")
        go.set()
        client.half_close()
        assert client.to_end() == said[0]
    assert origin.peers[0].finished.wait(15 * PATIENCE)
    assert got[0] == mine


def test_half_closed_tunnels_move(launch, make_origin):
    origin = make_origin()
    go = threading.Event()
    rest = []

    def client_has_ended(peer):
        peer.request()
        peer.send(SWITCH)
        assert peer.to_end() == b"all that I say"
        peer.send(b"heard.")
        peer.wait(go)
        peer.send(b"answer")

    def origin_has_ended(peer):
        peer.request()
        peer.send(SWITCH + b"all that I say")
        peer.half_close()
        rest.append(peer.to_end())
    tidegate = launch(basic(origin.address, upgrade=SOON))
    with tidegate.connect() as listening, tidegate.connect() as talking:
        origin.next(client_has_ended)
        open_tunnel(listening)
        listening.send(b"all that I say")
        listening.half_close()
        assert listening.exactly(6) == b"heard."
        origin.next(origin_has_ended)
        open_tunnel(talking)
        assert talking.to_end() == b"all that I say"
        for _ in range(2):
            assert upgraded(tidegate)["handed_over"]["tunnels"] == 2
        go.set()
        assert listening.to_end() == b"answer"
        talking.send(b"still talking")
        talking.half_close()
        assert origin.peers[1].finished.wait(10 * PATIENCE) and rest == [b"still talking"]
    assert origin.peers[0].finished.wait(10 * PATIENCE)
    until(lambda: tidegate.counters()["connections_active"] == 0, "both to have ended")
    tidegate.logged(count=2, status=101)
    assert len(tidegate.access_lines()) == 2
    assert not any("reason" in line for line in tidegate.access_lines()), tidegate.access_lines()


def test_deadlines_go_on_and_do_not_begin_anew(launch, live_origin):
    limit = 4.0 * PATIENCE
    tidegate = launch(basic(live_origin.address, upgrade=SOON, timeouts={"keepalive": duration(4), "tunnel_idle": duration(4)}))
    with tidegate.connect() as kept, tidegate.connect() as tunnel:
        before = time.monotonic()
        assert kept.get("/").status == 200
        open_tunnel(tunnel)
        # Both wait since a moment between the two.
        began = time.monotonic()
        # More than half of it is over when they move: anew would be too late.
        until(lambda: time.monotonic() - began > 0.6 * limit, "the time to pass", 2 * limit)
        result = upgraded(tidegate)
        assert (result["handed_over"]["idle"], result["handed_over"]["tunnels"]) == (1, 1)
        moved = time.monotonic() - began
        ends = {}

        def wait(name, client):
            client.expect_gone()
            ends[name] = time.monotonic() - began
        threads = [threading.Thread(target=wait, args=one) for one in (("kept", kept), ("tunnel", tunnel))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert 0.6 * limit < moved < limit, "the upgrade was too slow to tell anything"
    for name, end in ends.items():
        assert limit - 0.2 < end + (began - before) and end < 1.5 * limit, (name, end, moved)
    assert tidegate.logged(status=101)["reason"] == "tunnel_idle_timeout"


def test_a_connection_that_has_moved_ends_at_once_when_its_client_leaves(launch, live_origin):
    """Nobody else holds it: the kernel ends it, the origin of a tunnel is told."""
    tidegate = launch(basic(live_origin.address, upgrade=SOON))
    port = tidegate.port()
    with tidegate.connect() as kept, tidegate.connect() as tunnel:
        assert kept.get("/").status == 200
        open_tunnel(tunnel)
        upgraded(tidegate)
        assert set(kernel_holds(port)) == {kept.port, tunnel.port} < processes.client_ports(tidegate.workers()[0], port)
        kept.half_close()
        kept.expect_end()
        until(lambda: set(kernel_holds(port)) == {tunnel.port}, "the kept one to be gone", 3)
        tunnel.half_close()
        tunnel.expect_end()
        until(lambda: not kernel_holds(port), "the tunnel to be gone", 3)
    assert all(peer.finished.wait(5 * PATIENCE) for peer in live_origin.origin.peers[1:])


def test_twenty_upgrades_without_pause(launch, live_origin):
    """Kept connections that ask and pipeline, and tunnels that talk all the time: nothing is lost, nobody reconnects."""
    settings = {**SOON, "probation": "1ms", "max_generations": 4}
    tidegate = launch(basic(live_origin.address, workers=2, upgrade=settings))
    with Live(tidegate, live_origin, asking=45, pipelining=5, tunnels=20) as live:
        for _ in range(20):
            tidegate.ok("upgrade", "--force", "--detach")
        tidegate.wait_generations(1)
        live.more()
        live.expect_all_alive()
        live.settle()
        assert {one["generation"] for one in listed(tidegate).values()} == {21}
        counters = tidegate.counters()
        assert (counters["connections_accepted"], counters["connections_active"], counters["tunnels_active"]) == (70, 70, 20)
    answers = sum(one.answers for one in live.of("asking", "pipelining"))
    assert answers > 1000, answers
    until(lambda: not kernel_holds(tidegate.port()), "nobody to hold what has left")
