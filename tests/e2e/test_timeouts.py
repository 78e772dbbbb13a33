"""One timeout a phase, each named in the log. Configured short here; nothing is answered before its time."""

import threading
import time

import pytest

from support.client import request
from support.daemon import basic
from support.errors import expect_error, expect_line
from support.origin import black_hole
from support.wait import PATIENCE, duration
from support.wire import Ended

# Seconds, as configured below: what a test or its origin does meanwhile has to be in time on a slow machine, too.
SHORT = 0.3 * PATIENCE
HASTY = duration(0.3)
# Eight of them are longer, and each leaves time for the next piece.
PAUSE = SHORT / 6


class Took:
    """Fails if the block, with all that the timeout begins with, ended before that could have fired."""

    def __enter__(self):
        self.began = time.monotonic()

    def __exit__(self, kind, *_):
        if kind is None:
            assert time.monotonic() - self.began >= SHORT * 0.8, "too early"


def with_timeouts(launch, address, **timeouts):
    tidegate = launch(basic(address, timeouts=timeouts))
    tidegate.address()  # Asking for it takes time.
    return tidegate


def test_a_request_head_that_does_not_end_is_408(launch, origin):
    tidegate = with_timeouts(launch, origin.address, request_head=HASTY)
    with Took(), tidegate.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        expect_error(tidegate, client.response(), "request_head_timeout", closes=True)
        client.expect_gone()


def test_a_head_that_comes_drop_by_drop_is_408_all_the_same(launch, origin):
    """Slowloris: octets do not extend the time of a head."""
    tidegate = with_timeouts(launch, origin.address, request_head=HASTY)
    with tidegate.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        client.sock.settimeout(0.05)
        began = time.monotonic()
        while True:
            try:
                assert time.monotonic() - began < 10 * PATIENCE, "each octet buys more time"
                client.sock.send(b"X")
                client.received += client.sock.recv(4096)
                break
            except TimeoutError:
                continue
        client.sock.settimeout(10 * PATIENCE)
        assert client.response().status == 408


def test_a_new_connection_without_a_request_is_closed(launch, origin):
    tidegate = with_timeouts(launch, origin.address, request_head=HASTY, keepalive=HASTY)
    with Took(), tidegate.connect() as client:
        got = client.expect_gone()
        assert got == b"" or got.startswith(b"HTTP/1.1 408 ")


def test_a_body_that_stops_coming_is_408(launch, origin):
    tidegate = with_timeouts(launch, origin.address, body_idle=HASTY)
    with Took(), tidegate.connect() as client:
        client.send(request("POST", "/", "Content-Length: 100") + b"half")
        expect_error(tidegate, client.response("POST"), "body_idle_timeout", closes=True)
    assert origin.peers[0].finished.wait(10 * PATIENCE)


def test_a_body_that_comes_drop_by_drop_is_408_where_a_rate_is_asked_for(launch, origin):
    """R-U-Dead-Yet: each octet is in time for body_idle."""
    tidegate = with_timeouts(launch, origin.address, body_idle=HASTY, body_min_rate="1KiB/s")
    with Took(), tidegate.connect() as client:
        client.send(request("POST", "/", "Content-Length: 100000"))
        client.sock.settimeout(0.05)
        began = time.monotonic()
        while not client.received:
            assert time.monotonic() - began < 10 * PATIENCE, "each octet buys more time than it is worth"
            try:
                client.sock.send(b"x")
                client.received += client.sock.recv(4096)
            except TimeoutError:
                continue
        client.sock.settimeout(10 * PATIENCE)
        expect_error(tidegate, client.response("POST"), "body_too_slow", closes=True)
    assert origin.peers[0].finished.wait(10 * PATIENCE), "the request that was cut short is not kept"


def test_a_body_at_its_rate_is_in_time(launch, origin):
    tidegate = with_timeouts(launch, origin.address, body_idle=HASTY, body_min_rate="1KiB/s")
    with tidegate.connect() as client:
        client.send(request("POST", "/", "Content-Length: 8192"))
        for _ in range(8):
            assert client.silent(PAUSE)
            client.send(b"x" * 1024)
        assert client.response("POST").status == 200


def test_a_slow_body_that_keeps_coming_is_in_time(launch, origin):
    tidegate = with_timeouts(launch, origin.address, body_idle=HASTY)
    with tidegate.connect() as client:
        client.send(request("POST", "/", "Content-Length: 8"))
        for _ in range(8):
            assert client.silent(PAUSE)
            client.send(b"x")
        assert client.response("POST").status == 200


def test_an_idle_kept_connection_is_closed_cleanly(launch, origin):
    tidegate = with_timeouts(launch, origin.address, keepalive=HASTY)
    with Took(), tidegate.connect() as client:
        client.get("/")
        client.expect_end()
    # No request was there, so nothing is logged as one: only "keepalive_timeout" may be counted.
    assert len(tidegate.access_lines()) <= 1


def test_a_client_that_does_not_read_is_cut(launch, origin):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        peer.sock.settimeout(None)
        while True:
            peer.send(b"x" * 65536)
    origin.next(script)
    tidegate = with_timeouts(launch, origin.address, write_idle=HASTY)
    with Took(), tidegate.connect(receive_buffer=4096) as client:
        client.send(request("GET", "/unread"))
        client.response_head()
        line = tidegate.logged(path="/unread")
        expect_line(line, "write_idle_timeout", status=200)
        # A clean end would leave what it does not read in the kernel.
        with pytest.raises(Ended) as ended:
            client.to_end()
        assert ended.value.how == "reset"
    assert origin.peers[0].finished.wait(10 * PATIENCE), "the upstream connection is given up too"


def test_an_upstream_that_does_not_connect_is_504(launch):
    held, address = black_hole()
    tidegate = with_timeouts(launch, address, upstream_connect=HASTY)
    with Took(), tidegate.connect() as client:
        expect_error(tidegate, client.get("/"), "upstream_connect_timeout", closes=False)
    for sock in held:
        sock.close()


def test_an_upstream_that_does_not_answer_is_504(launch, origin):
    origin.forever(lambda peer: (peer.request(), peer.expect_gone()))
    tidegate = with_timeouts(launch, origin.address, upstream_response=HASTY)
    with tidegate.connect() as client:
        with Took():
            expect_error(tidegate, client.get("/"), "upstream_response_timeout", closes=False)
        assert client.get("/again").status == 504, "the client's connection is kept"
    assert origin.peers[0].finished.wait(10 * PATIENCE), "the late answer must not meet another request"


def test_an_origin_that_stalls_after_its_100_is_504(launch, origin):
    """A GET that expects 100 has no body to send: nobody's time but the origin's is running."""
    origin.forever(lambda peer: (peer.request_head(), peer.send(b"HTTP/1.1 100 Continue\r\n\r\n"), peer.expect_gone()))
    tidegate = with_timeouts(launch, origin.address, upstream_response=HASTY, body_idle=HASTY)
    with Took(), tidegate.connect() as client:
        expect_error(tidegate, client.get("/", "Expect: 100-continue"), "upstream_response_timeout")


def test_an_origin_that_stalls_in_an_early_answer_is_cut_though_the_body_comes(launch, origin):
    def script(peer):
        peer.request_head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        peer.expect_gone()
    origin.next(script)
    tidegate = with_timeouts(launch, origin.address, upstream_response=HASTY)
    with Took(), tidegate.connect() as client:
        client.send(request("POST", "/", "Content-Length: 5", "Expect: 100-continue"))
        assert client.response_head("POST").status == 200
        client.send(b"hello")
        assert client.expect_gone() == b"abc"
    expect_line(tidegate.logged(path="/"), "upstream_response_timeout", status=200)


def test_a_101_that_the_client_does_not_take_is_cut(launch, origin):
    filler = "".join(f"X-{number}: {'f' * 9000}\r\n" for number in range(90))
    origin.next(lambda peer: (peer.request(), peer.send(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: raw\r\n"
                                                        + filler.encode() + b"\r\n"), peer.expect_gone()))
    tidegate = launch(basic(origin.address, timeouts={"write_idle": HASTY}, limits={"max_header_bytes": "1MiB"}))
    tidegate.address()
    with Took(), tidegate.connect(receive_buffer=4096) as client:
        client.send(request("GET", "/", "Connection: upgrade", "Upgrade: raw"))
        expect_line(tidegate.logged(path="/"), "write_idle_timeout", status=101)


def test_an_empty_line_is_no_request(launch, origin):
    """RFC 9112 section 2.2. A 408 that nobody asked for could meet the next request."""
    tidegate = with_timeouts(launch, origin.address, request_head=HASTY, keepalive=duration(1))
    with tidegate.connect() as client:
        client.send(request(), b"\r\n")
        assert client.response().status == 200
        assert client.silent(0.5 * PATIENCE)
        client.send(b"\r\n\r\n")
        client.expect_end()
    with tidegate.connect() as client:
        client.send(b"\r\n")
        client.send(request())
        assert client.response().status == 200


def test_an_interim_answer_does_not_satisfy_the_response_timeout_for_ever(launch, origin):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 103 Early Hints\r\nX-A: b\r\n\r\n")
        peer.expect_gone()
    origin.forever(script)
    tidegate = with_timeouts(launch, origin.address, upstream_response=HASTY)
    with tidegate.connect() as client:
        response = client.get("/")
        assert response.interims[0].status == 103
        expect_error(tidegate, response, "upstream_response_timeout")


def test_a_long_upload_does_not_count_against_the_response_timeout(launch, origin):
    tidegate = with_timeouts(launch, origin.address, upstream_response=HASTY, body_idle="10s")
    with tidegate.connect() as client:
        client.send(request("POST", "/", "Content-Length: 10"))
        for _ in range(10):
            assert client.silent(PAUSE)
            client.send(b"x")
        assert client.response("POST").status == 200


def test_an_answer_that_stalls_in_its_body_is_cut_visibly(launch, origin):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"part")
        peer.expect_gone()
    origin.next(script)
    tidegate = with_timeouts(launch, origin.address, upstream_response=HASTY, body_idle=HASTY, upstream_idle=HASTY)
    with Took(), tidegate.connect() as client:
        client.send(request("GET", "/stall"))
        client.response_head()
        assert client.expect_gone() == b"part"
    line = tidegate.logged(path="/stall")
    assert line["who"] == "upstream" and line["status"] == 200, line


def test_an_upstream_that_does_not_read_is_504(launch, origin):
    go = threading.Event()

    def script(peer):
        peer.request_head()
        peer.wait(go)
    origin.next(script)
    tidegate = with_timeouts(launch, origin.address, write_idle=HASTY, upstream_response=HASTY, body_idle="10s")
    with tidegate.connect() as client:
        client.send(request("POST", "/unread", "Content-Length: 100000000"))
        client.sock.settimeout(1)
        try:
            while True:
                client.sock.send(b"x" * 65536)
        except OSError:
            pass
        client.sock.settimeout(10 * PATIENCE)
        expect_error(tidegate, client.response("POST"), "upstream_write_timeout")
    go.set()


def test_an_idle_pooled_connection_is_closed(launch, origin):
    tidegate = with_timeouts(launch, origin.address, upstream_idle=HASTY)
    with tidegate.connect() as client:
        with Took():
            client.get("/")
            assert origin.peers[0].finished.wait(10 * PATIENCE)
        assert client.get("/").status == 200
    assert len(origin.peers) == 2


def test_a_silent_tunnel_is_closed(launch, origin):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
        peer.expect_gone()
    origin.next(script)
    tidegate = with_timeouts(launch, origin.address, tunnel_idle=HASTY, body_idle="100ms", keepalive="100ms")
    with Took(), tidegate.connect() as client:
        client.send(request("GET", "/quiet", "Connection: upgrade", "Upgrade: raw"))
        assert client.response().status == 101
        client.expect_gone()
    expect_line(tidegate.logged(path="/quiet"), "tunnel_idle_timeout", status=101)


def test_a_route_may_have_timeouts_of_its_own(launch, origin):
    origin.forever(lambda peer: (peer.request(), peer.expect_gone()))
    routes = [{"name": "hasty", "path": "/hasty", "timeouts": {"upstream_response": HASTY}, "upstream": "app"},
              {"name": "patient", "upstream": "app"}]
    tidegate = launch(basic(origin.address, routes=routes, timeouts={"upstream_response": "1h"}))
    with tidegate.connect() as client, tidegate.connect() as other:
        other.send(request("GET", "/patient"))
        expect_error(tidegate, client.get("/hasty"), "upstream_response_timeout")
        assert other.silent()


def test_off_means_never(launch, origin):
    tidegate = with_timeouts(launch, origin.address, keepalive="off", request_head="off", tunnel_idle="off")
    with tidegate.connect() as client:
        client.get("/")
        assert client.silent(0.5)
        assert client.get("/").status == 200
