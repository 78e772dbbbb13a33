"""Upstreams: unix sockets, balancing, pools, retries, connection limits and queues, names."""

import os
import tempfile
import threading
from collections import Counter

import pytest

from support.client import request
from support.daemon import basic
from support.errors import expect_error
from support.origin import closed_port
from support.wait import PATIENCE, until


def upstream(tidegate_config, **changes):
    tidegate_config["upstreams"]["app"].update(changes)
    return tidegate_config


def test_a_unix_socket_serves_as_upstream(launch, make_origin):
    folder = tempfile.mkdtemp(prefix="tg-")
    os.chmod(folder, 0o755)
    origin = make_origin(path=f"{folder}/o.sock")
    tidegate = launch(basic(origin.address))
    with tidegate.connect() as client:
        assert client.get("/").body == b"hello\n"
        assert client.get("/").body == b"hello\n"
    assert len(origin.peers) == 1
    os.unlink(f"{folder}/o.sock")
    os.rmdir(folder)


def test_a_name_is_resolved(launch, origin):
    port = origin.address.rsplit(":", 1)[1]
    tidegate = launch(basic(f"localhost:{port}"))
    with tidegate.connect() as client:
        assert client.get("/").status == 200


def test_a_name_that_does_not_resolve_is_a_warning_and_503(launch, origin):
    tidegate = launch(basic("no-such-host.invalid:80"))
    with tidegate.connect() as client:
        expect_error(tidegate, client.get("/"), "upstream_unresolved", closes=False)
    until(lambda: "no-such-host.invalid" in tidegate.stderr, "the warning")
    tidegate.change(timeouts={"keepalive": "70s"})
    tidegate.ok("reload")


def test_an_endpoint_that_does_not_resolve_does_not_spoil_the_others(launch, origin):
    tidegate = launch(basic("no-such-host.invalid:80", origin.address))
    with tidegate.connect() as client:
        assert {client.get("/").status for _ in range(6)} == {200}


def test_an_endpoint_may_be_an_object(launch, origin):
    tidegate = launch(basic({"address": origin.address}))
    with tidegate.connect() as client:
        assert client.get("/").status == 200


def test_round_robin_takes_turns(launch, make_origin):
    origins = [make_origin() for _ in range(3)]
    tidegate = launch(upstream(basic(*[one.address for one in origins]), balance="round_robin"))
    with tidegate.connect() as client:
        for _ in range(12):
            assert client.get("/").status == 200
    assert [len(one.requests) for one in origins] == [4, 4, 4]


def test_least_connections_avoids_the_busy_one(launch, make_origin):
    go = threading.Event()
    origins = [make_origin(), make_origin()]
    tidegate = launch(upstream(basic(*[one.address for one in origins]), balance="least_connections"))
    busy = tidegate.connect()
    for one in origins:
        one.handler = lambda peer, got: (peer.wait(go) if got.target == "/slow" else None, peer.answer())
    busy.send(request("GET", "/slow"))
    until(lambda: any(one.requests for one in origins), "the slow request at an origin")
    slow = next(one for one in origins if one.requests)
    with tidegate.connect() as client:
        for _ in range(8):
            assert client.get("/").status == 200
    assert len(slow.requests) == 1, "the busy endpoint gets nothing while the other is free"
    go.set()
    assert busy.response().status == 200
    busy.close()


def test_an_endpoint_that_refuses_is_passed_over_for_another(launch, origin):
    holder, dead = closed_port()
    with holder:
        tidegate = launch(basic(dead, origin.address))
        with tidegate.connect() as client:
            assert Counter(client.get(f"/{n}").status for n in range(6)) == {200: 6}
        line = tidegate.logged(6)
    assert any(line["attempts"] == 2 for line in tidegate.access_lines()), line


def test_a_post_is_passed_over_to_another_endpoint_too_when_the_connect_failed(launch, origin):
    """Nothing was sent: the request cannot have been acted on."""
    holder, dead = closed_port()
    with holder:
        tidegate = launch(basic(dead, origin.address))
        with tidegate.connect() as client:
            for _ in range(4):
                client.send(request("POST", "/", body=b"once"))
                assert client.response("POST").status == 200
    assert [one.body for one in origin.requests] == [b"once"] * 4


def test_retries_can_be_switched_off(launch, origin):
    holder, dead = closed_port()
    with holder:
        tidegate = launch(upstream(basic(dead, origin.address), retry={"attempts": 0}))
        with tidegate.connect() as client:
            assert Counter(client.get("/").status for _ in range(6)) == {200: 3, 502: 3}


def stale(peer):
    """Answers one request, then closes when the next one arrives or at once: a pooled connection gone stale."""
    peer.request()
    peer.answer()
    peer.exactly(1)
    peer.reset()


def test_a_stale_pooled_connection_is_retried_once(tidegate, origin):
    origin.next(stale)
    with tidegate.connect() as client:
        client.get("/1")
        assert client.get("/2").status == 200
    assert [one.target for one in origin.requests] == ["/1", "/2"]
    assert len(origin.peers) == 2
    assert tidegate.logged(path="/2")["attempts"] == 2


def test_a_pooled_connection_that_the_origin_closed_is_not_used(tidegate, origin):
    origin.next(lambda peer: (peer.request(), peer.answer()))
    with tidegate.connect() as client:
        client.get("/1")
        assert origin.peers[0].finished.wait(10 * PATIENCE)
        assert client.get("/2").status == 200


@pytest.mark.parametrize("expect", [(), ("Expect: 100-continue",)], ids=["late", "expected"])
def test_a_put_whose_body_has_not_come_is_retried_on_a_stale_connection(tidegate, origin, expect):
    origin.next(stale)
    if expect:
        origin.next(lambda peer: (peer.request_head(), peer.send(b"HTTP/1.1 100 Continue\r\n\r\n"), peer.exactly(5), peer.answer()))
    with tidegate.connect() as client:
        client.get("/1")
        client.send(request("PUT", "/2", "Content-Length: 5", *expect))
        origin.wait_peers(2)
        if expect:
            assert client.interim().status == 100
        client.send(b"hello")
        assert client.response("PUT").status == 200
    assert tidegate.logged(path="/2")["attempts"] == 2


POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"


@pytest.mark.parametrize("size", [100, 16384, 16384 + 65536])
def test_octets_behind_an_answer_reach_nobody(launch, origin, size):
    """RFC 9112 section 9.2. The answer fills a read buffer, so that what follows it is still with the kernel when the next request
    is at hand: of the same client, or of another that waits for the only connection."""
    def script(peer):
        peer.request()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
        length = size - len(head % size)
        answer = head % length
        peer.send(answer + b"x" * (size - len(answer)) + POISON)
        peer.expect_gone()
    tidegate = launch(upstream(basic(origin.address), max_connections_per_endpoint=1, queue={"size": 10, "timeout": "10s"}))
    for _ in range(5):
        origin.next(script)
        with tidegate.connect() as client, tidegate.connect() as other:
            client.send(request("GET", "/1"), request("GET", "/2"))
            other.send(request("GET", "/3"))
            assert client.response().status == 200
            assert client.response().body == b"hello\n"
            assert other.response().body == b"hello\n"


def test_a_post_that_was_sent_on_a_stale_connection_is_not_sent_again(tidegate, origin):
    """It may have been acted on (RFC 9110 section 9.2.2)."""
    def script(peer):
        peer.request()
        peer.answer()
        peer.request()
        peer.reset()
    origin.next(script)
    with tidegate.connect() as client:
        client.get("/1")
        client.send(request("POST", "/2", body=b"pay"))
        assert client.response("POST").status == 502
    assert [one.target for one in origin.requests] == ["/1", "/2"]


def test_a_request_that_had_an_answer_begun_is_not_sent_again(tidegate, origin):
    def script(peer):
        peer.request()
        peer.answer()
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-")
        peer.reset()
    origin.next(script)
    with tidegate.connect() as client:
        client.get("/1")
        assert client.get("/2").status == 502
    assert len(origin.requests) == 2


def test_a_get_on_a_new_connection_that_dies_is_not_sent_again(tidegate, origin):
    """`stale_connection` is about reused ones; a new one that dies after the request is the origin's answer."""
    origin.forever(lambda peer: (peer.request(), peer.reset()))
    with tidegate.connect() as client:
        assert client.get("/").status == 502
    assert len(origin.requests) == 1


def test_requests_queue_when_every_connection_is_taken(launch, origin):
    go = threading.Event()
    origin.handler = lambda peer, got: (peer.wait(go) if got.target == "/slow" else None, peer.answer(200, got.target))
    tidegate = launch(upstream(basic(origin.address), max_connections_per_endpoint=1, queue={"size": 10, "timeout": "10s"}))
    with tidegate.connect() as first, tidegate.connect() as second:
        first.send(request("GET", "/slow"))
        origin.wait_requests(1)
        second.send(request("GET", "/waits"))
        assert second.silent()
        go.set()
        assert first.response().text == "/slow"
        assert second.response().text == "/waits"
    assert len(origin.peers) == 1
    assert tidegate.logged(path="/waits")["time_queue"] > 0


def test_a_full_queue_is_503(launch, origin):
    go = threading.Event()
    origin.handler = lambda peer, _: (peer.wait(go), peer.answer())
    tidegate = launch(upstream(basic(origin.address), max_connections_per_endpoint=1, queue={"size": 1, "timeout": "10s"}))
    with tidegate.connect() as first, tidegate.connect() as second, tidegate.connect() as third:
        first.send(request("GET", "/1"))
        origin.wait_requests(1)
        second.send(request("GET", "/2"))
        assert second.silent()
        expect_error(tidegate, third.get("/3"), "queue_full", closes=False)
        go.set()
        assert (first.response().status, second.response().status) == (200, 200)


def test_waiting_too_long_in_the_queue_is_503(launch, origin):
    go = threading.Event()
    origin.handler = lambda peer, _: (peer.wait(go), peer.answer())
    tidegate = launch(upstream(basic(origin.address), max_connections_per_endpoint=1, queue={"size": 5, "timeout": "300ms"}))
    with tidegate.connect() as first, tidegate.connect() as second:
        first.send(request("GET", "/1"))
        origin.wait_requests(1)
        expect_error(tidegate, second.get("/2"), "queue_timeout", closes=False)
        go.set()
        assert first.response().status == 200
    assert len(origin.requests) == 1


def test_a_client_that_leaves_the_queue_frees_its_place(launch, origin):
    go = threading.Event()
    origin.handler = lambda peer, got: (peer.wait(go) if got.target == "/1" else None, peer.answer(200, got.target))
    tidegate = launch(upstream(basic(origin.address), max_connections_per_endpoint=1, queue={"size": 1, "timeout": "1h"}))
    with tidegate.connect() as first, tidegate.connect() as third:
        first.send(request("GET", "/1"))
        origin.wait_requests(1)
        second = tidegate.connect()
        second.send(request("GET", "/2"))
        assert second.silent()
        second.reset()
        tidegate.logged(path="/2", reason="client_closed")
        third.send(request("GET", "/3"))
        assert third.silent()
        go.set()
        assert third.response().text == "/3"
    assert [one.target for one in origin.requests] == ["/1", "/3"]


def test_no_endpoint_to_try_is_503_when_all_were_found_dead(launch):
    """"upstream_unavailable" needs an upstream with no usable endpoint; a dead one is tried and named instead."""
    holder, dead = closed_port()
    with holder:
        tidegate = launch(basic(dead))
        with tidegate.connect() as client:
            assert client.get("/").status in (502, 503)


def test_status_shows_upstreams_with_what_is_under_way(launch, origin):
    go = threading.Event()
    origin.handler = lambda peer, got: (peer.wait(go) if got.target == "/slow" else None, peer.answer())
    tidegate = launch(basic(workers=2, upstreams={"app": {"endpoints": [origin.address, "no-such-name.invalid:80"]}}))
    until(lambda: tidegate.status()["upstreams"][0]["endpoints"][1]["state"] == "unresolved", "the name to fail", 20)
    with tidegate.connect() as client:
        client.send(request("GET", "/slow"))
        origin.wait_requests(1)
        first, second = tidegate.status()["upstreams"][0]["endpoints"]
        assert (first["address"], first["state"], first["in_flight"]) == (origin.address, "up", 1)
        assert "no-such-name.invalid" in second["failure"]
        go.set()
        assert client.response().status == 200
    until(lambda: tidegate.status()["upstreams"][0]["endpoints"][0]["idle"] == 1, "the connection in the pool")
    said = tidegate.ok("status", "app").out
    assert origin.address in said and "UPSTREAM" in said
