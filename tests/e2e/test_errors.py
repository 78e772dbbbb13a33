"""What Tidegate answers itself: each row of the error table, with status, Proxy-Status, Connection and log."""

import re
import signal
import socket
import threading
from pathlib import Path

import pytest

from support.client import chunk, request
from support.daemon import Tidegate, basic
from support.errors import TABLE, expect_error, expect_line
from support.origin import Origin, closed_port
from support.wait import PATIENCE, until


def test_every_row_of_the_error_table_has_a_test():
    """By name: a new row without a test fails here."""
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    # `internal` is our own impossibility: nothing from outside may reach it.
    missing = [row.name for row in TABLE.values()
               if not row.internal and row.name != "internal" and f'"{row.name}"' not in text]
    assert not missing


# What clients send.

BAD = {
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello \r\n\r\n", ["bad_request"]),
    "words": (b"hello there\r\n\r\n", ["bad_request", "method_not_implemented"]),
    "no-version": (b"GET /\r\n\r\n", ["bad_request", "version_not_supported"]),
    "space-in-target": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", ["bad_request", "bad_target"]),
    "two-spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", ["bad_request", "bad_target"]),
    "control-in-target": (b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", ["bad_request", "bad_target"]),
    "version-2": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", ["version_not_supported"]),
    "version-0.9": (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", ["version_not_supported", "bad_request"]),
    "no-host": (b"GET / HTTP/1.1\r\nAccept: */*\r\n\r\n", ["bad_host"]),
    "two-hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", ["bad_host"]),
    "same-host-twice": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", ["bad_host"]),
    "host-with-slash": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", ["bad_host"]),
    "host-with-space": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", ["bad_host"]),
    "host-with-user": (b"GET / HTTP/1.1\r\nHost: me@a\r\n\r\n", ["bad_host"]),
    "relative-target": (b"GET foo HTTP/1.1\r\nHost: a\r\n\r\n", ["bad_target", "bad_request"]),
    "asterisk-get": (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", ["bad_target", "bad_request"]),
    "length-and-chunked": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                           ["bad_request"]),
    "chunked-and-length": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
                           ["bad_request"]),
    "two-lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", ["bad_request"]),
    "length-list": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\nhello", ["bad_request"]),
    "length-plus": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", ["bad_request"]),
    "length-minus": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello", ["bad_request"]),
    "length-hex": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello", ["bad_request"]),
    "length-empty": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", ["bad_request"]),
    "length-huge": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", ["bad_request"]),
    "coding-gzip": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", ["bad_transfer_coding"]),
    "coding-identity": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", ["bad_transfer_coding", "bad_request"]),
    "coding-not-last": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", ["bad_transfer_coding", "bad_request"]),
    "chunked-twice": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
                      ["bad_transfer_coding", "bad_request"]),
    "coding-tab": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
                   ["bad_transfer_coding", "bad_request"]),
    "chunked-http-1.0": (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                         ["bad_transfer_coding", "bad_request"]),
    "space-before-colon": (b"GET / HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n", ["bad_request"]),
    "folded-field": (b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n", ["bad_request"]),
    "leading-space": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", ["bad_request"]),
    "no-colon": (b"GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n", ["bad_request"]),
    "empty-name": (b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", ["bad_request"]),
    "nul-in-value": (b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\x00c\r\n\r\n", ["bad_request"]),
    "bare-cr": (b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rc\r\n\r\n", ["bad_request"]),
    "bare-lf": (b"GET / HTTP/1.1\nHost: a\n\n", ["bad_request"]),
    "connect": (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", ["method_not_implemented", "method_not_allowed"]),
    "unknown-method": (b"BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n", ["method_not_implemented"]),
    "lower-case-method": (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", ["method_not_implemented", "bad_request"]),
    "bad-chunk-size": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", ["bad_request"]),
    "huge-chunk-size": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", ["bad_request"]),
    "chunk-without-crlf": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcXX0\r\n\r\n", ["bad_request"]),
}


@pytest.fixture(scope="module")
def shared():
    """One Tidegate for the tests that only send rubbish."""
    origin = Origin()
    tidegate = Tidegate(basic(origin.address))
    yield tidegate, origin
    faults = tidegate.close()
    tidegate.remove()
    origin.close()
    assert not faults, faults


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_request_is_refused_and_the_connection_ends(shared, name):
    octets, reasons = BAD[name]
    tidegate, origin = shared
    before = len(origin.requests)
    with tidegate.connect() as client:
        client.send(octets)
        response = client.response()
        assert response.status in {TABLE[reason].status for reason in reasons}, response.raw
        line = tidegate.logged(id=response.get("x-request-id"))
        assert line["reason"] in reasons, line
        expect_error(tidegate, response, line["reason"], closes=True)
        client.expect_end()
    if "chunk-" not in name:
        assert len(origin.requests) == before, "nothing of it may reach the origin"


def test_what_follows_a_malformed_request_is_not_read(shared):
    tidegate, origin = shared
    before = len(origin.requests)
    with tidegate.connect() as client:
        client.send(BAD["length-and-chunked"][0] + request("GET", "/smuggled"))
        assert client.response().status == 400
        client.expect_end()
    assert len(origin.requests) == before


def test_an_answer_of_our_own_to_head_has_no_body(shared):
    tidegate, _ = shared
    with tidegate.connect() as client:
        client.send(request("HEAD", "/", "Expect: miracles"))
        response = client.response("HEAD")
        assert response.status == 417
        rest = client.expect_gone() if response.get("connection") == "close" else b""
        assert rest == b""


def test_an_expectation_that_nobody_knows_is_417(shared):
    tidegate, _ = shared
    with tidegate.connect() as client:
        expect_error(tidegate, client.get("/", "Expect: miracles"), "expectation_failed")


def test_a_client_that_goes_away_is_logged_and_its_upstream_connection_ends(tidegate, origin):
    gone = []

    def script(peer):
        peer.request()
        gone.append(peer.expect_gone())
    origin.next(script)
    client = tidegate.connect()
    client.send(request("GET", "/left"))
    origin.wait_requests(1)
    client.reset()
    line = tidegate.logged(path="/left")
    expect_line(line, "client_closed")
    assert origin.peers[0].finished.wait(10 * PATIENCE)
    assert gone == [b""]


def test_a_client_that_goes_away_during_its_upload_is_logged(tidegate, origin):
    client = tidegate.connect()
    client.send(request("POST", "/up", "Content-Length: 100") + b"abc")
    origin.wait_requests(1)
    client.close()
    expect_line(tidegate.logged(path="/up"), "client_closed")
    assert origin.peers[0].finished.wait(10 * PATIENCE)
    assert origin.requests[0].body == b"", "half a body may not look like a whole one"


# Routes.

def test_no_route_is_404_and_the_connection_is_kept(launch, origin):
    tidegate = launch(basic(origin.address, routes=[{"name": "one", "host": "one.example", "upstream": "app"}]))
    with tidegate.connect() as client:
        expect_error(tidegate, client.get("/", host="two.example"), "no_route", closes=False)
        assert client.get("/", host="one.example").status == 200


def test_a_method_that_no_route_takes_is_405_with_allow(launch, origin):
    tidegate = launch(basic(origin.address, routes=[{"name": "r", "methods": ["GET", "HEAD"], "upstream": "app"}]))
    with tidegate.connect() as client:
        client.send(request("DELETE"))
        response = client.response("DELETE")
        expect_error(tidegate, response, "method_not_allowed", closes=False)
        assert {one.strip() for one in (response.get("allow") or "").split(",")} >= {"GET", "HEAD"}


# What upstreams do.

def test_a_refused_connect_is_502(launch):
    holder, address = closed_port()
    with holder:
        tidegate = launch(basic(address))
        with tidegate.connect() as client:
            line = expect_error(tidegate, client.get("/"), "upstream_refused", closes=False)
            assert line["attempts"] >= 1 and line["endpoint"] == address


def test_a_unix_socket_that_is_not_there_is_502(launch, tmp_path):
    tidegate = launch(basic(f"unix:{tmp_path}/nobody.sock"))
    with tidegate.connect() as client:
        expect_error(tidegate, client.get("/"), "upstream_connect_failed", closes=False)


def test_a_refused_connect_during_an_upload_is_502_and_the_answer_arrives(launch):
    holder, address = closed_port()
    with holder:
        tidegate = launch(basic(address))
        with tidegate.connect() as client:
            client.send(request("POST", "/", "Content-Length: 1000000") + b"x" * 1000)
            expect_error(tidegate, client.response("POST"), "upstream_refused", closes=True)


def test_an_origin_that_closes_without_an_answer_is_502(tidegate, origin):
    origin.forever(lambda peer: peer.request())
    with tidegate.connect() as client:
        expect_error(tidegate, client.get("/"), "upstream_closed", closes=False)


def test_an_origin_that_resets_without_an_answer_is_502(tidegate, origin):
    def script(peer):
        peer.request()
        peer.reset()
    origin.forever(script)
    with tidegate.connect() as client:
        expect_error(tidegate, client.get("/"), "upstream_reset", closes=False)


def test_half_a_response_head_is_502(tidegate, origin):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-")
    origin.forever(script)
    with tidegate.connect() as client:
        response = client.get("/")
        reason = tidegate.logged(id=response.get("x-request-id"))["reason"]
        assert reason in ("upstream_truncated", "upstream_closed")
        expect_error(tidegate, response, reason, closes=False)


@pytest.mark.parametrize("octets", [
    b"ERROR\r\n\r\n", b"HTTP/1.1 2000 OK\r\n\r\n", b"HTTP/1.1 20 OK\r\n\r\n", b"HTTP/3.0 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
])
def test_a_malformed_response_is_502(tidegate, origin, octets):
    def script(peer):
        peer.request()
        peer.send(octets)
        peer.expect_gone()
    origin.forever(script)
    with tidegate.connect() as client:
        expect_error(tidegate, client.get("/"), "upstream_bad_response", closes=False)


def test_a_response_head_that_is_too_large_is_502(tidegate, origin):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n", *[b"X-%d: %s\r\n" % (n, b"y" * 8000) for n in range(60)], b"\r\n")
    origin.forever(script)
    with tidegate.connect() as client:
        expect_error(tidegate, client.get("/"), "upstream_head_too_large", closes=False)


# Too late for a status: the client must see that the body is not whole.

def test_a_truncated_length_body_ends_the_clients_connection_early(tidegate, origin):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"short")
    origin.forever(script)
    with tidegate.connect() as client:
        client.send(request("GET", "/cut"))
        assert client.response_head().length == 100
        assert client.expect_gone() == b"short"
    expect_line(tidegate.logged(path="/cut"), "upstream_truncated", status=200)


@pytest.mark.parametrize("ending", ["close", "reset", "rubbish"])
def test_a_truncated_chunked_body_never_looks_whole(tidegate, origin, ending):
    seen = threading.Event()

    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk(b"part"))
        if ending == "rubbish":
            peer.send(b"zz\r\n")
            peer.expect_gone()
        elif ending == "reset":
            peer.wait(seen)
            peer.reset()
    origin.forever(script)
    with tidegate.connect() as client:
        client.send(request("GET", "/cut"))
        head = client.response_head()
        if head.status == 200:
            # Rubbish that came together with a chunk takes it along: it was never passed on.
            first = b"" if ending == "rubbish" else client.up_to(b"part\r\n")
            seen.set()
            assert b"0\r\n\r\n" not in first + client.expect_gone()
        else:
            # The fault was seen before the head was passed on: then the answer is a whole 502.
            assert head.status == 502 and ending == "rubbish"
    line = tidegate.logged(path="/cut")
    assert line["reason"] in ("upstream_truncated", "upstream_reset", "upstream_bad_response") and line["who"] == "upstream"


def test_a_reset_body_that_ends_with_the_connection_never_looks_whole(tidegate, origin):
    seen = threading.Event()

    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n", b"part")
        peer.wait(seen)
        peer.reset()
    origin.forever(script)
    with tidegate.connect() as client:
        client.send(request("GET", "/cut"))
        client.response_head()
        client.up_to(b"part\r\n")
        seen.set()
        assert b"0\r\n\r\n" not in client.expect_gone()


def test_octets_after_a_response_never_reach_a_client(tidegate, origin):
    """What an origin sends unasked belongs to no request: the connection may not be used again."""
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        peer.expect_gone()
    origin.forever(script)
    with tidegate.connect() as client:
        for _ in range(3):
            assert client.get("/").body == b"ok"
    assert len(origin.peers) == 3


# Tidegate's own end.

def test_error_pages_name_no_internals(launch):
    holder, address = closed_port()
    with holder:
        tidegate = launch(basic(address))
        with tidegate.connect() as client:
            response = client.get("/")
    text = response.raw.decode() + response.text
    assert address not in text and "errno" not in text.lower() and "refused" not in response.text.lower()
    assert re.match(r"text/(plain|html)", response.get("content-type"))


def test_a_request_during_shutdown_is_answered_and_the_connection_ends(proxy, origin):
    """`shutdown`: what is in flight at TERM is finished; a further request on the connection is not begun."""
    go = threading.Event()

    def slow(peer, got):
        if got.target == "/slow":
            peer.wait(go)
        peer.answer()
    origin.handler = slow
    tidegate = proxy()
    with tidegate.connect() as client:
        client.send(request("GET", "/slow"))
        origin.wait_requests(1)
        tidegate.signal(signal.SIGTERM)
        until(lambda: refused(client.sock.getpeername()), "the listener is closed")
        go.set()
        response = client.response()
        assert (response.status, response.get("connection")) == (200, "close")
        client.expect_end()
    assert tidegate.wait_exit() == 0


def refused(address):
    try:
        socket.create_connection(address, timeout=1).close()
        return False
    except ConnectionRefusedError:
        return True
    except OSError:
        return False


def test_what_does_not_end_by_the_shutdown_deadline_is_cut_and_logged(launch, origin):
    origin.handler = lambda peer, _: peer.expect_gone()
    tidegate = launch(basic(origin.address, shutdown={"timeout": "500ms"}))
    with tidegate.connect() as client:
        client.send(request("GET", "/stuck"))
        origin.wait_requests(1)
        tidegate.signal(signal.SIGTERM)
        answer = client.expect_gone()
        assert answer == b"" or answer.startswith(b"HTTP/1.1 503 ")
    assert tidegate.wait_exit() == 0
    line = tidegate.logged(path="/stuck")
    assert line["reason"] in ("shutdown", "drain_deadline") and line["who"] == "tidegate"
