"""Answers that begin before the request has ended, and closes that begin before the answer has arrived: neither is cut short."""

import select
import signal
import threading

import pytest

from support.client import request
from support.daemon import basic
from support.wait import PATIENCE, duration, stays, until

SHORT = {"body_idle": duration(0.5), "write_idle": duration(0.5), "keepalive": duration(0.5), "upstream_response": duration(5)}


@pytest.mark.parametrize("stop", ["sending", "half", "nothing"])
def test_a_long_early_answer_outlives_its_upload(launch, origin, stop):
    """RFC 9112 section 9.5: who hears an early answer ceases to send. That is no reason to cut the answer."""
    def script(peer):
        peer.request_head()
        peer.send(b"HTTP/1.1 413 Too Much\r\nContent-Length: 10\r\n\r\n")
        for _ in range(10):
            assert not go.wait(0.08 * PATIENCE)
            peer.send(b"x")
        peer.expect_gone()
    go = threading.Event()
    origin.next(script)
    tidegate = launch(basic(origin.address, timeouts=SHORT))
    with tidegate.connect() as client:
        client.send(request("POST", "/", "Content-Length: 10000000") + b"some of it")
        head = client.response_head("POST")
        assert head.status == 413
        if stop == "half":
            client.half_close()
        elif stop == "nothing":
            # The origin takes nothing: what we send stays in the buffers on the way.
            client.sock.settimeout(0.1)
            with pytest.raises(OSError):
                while True:
                    client.sock.send(b"y" * 65536)
            client.sock.settimeout(15 * PATIENCE)
        assert client.exactly(10) == b"x" * 10
        client.expect_gone()
    assert tidegate.logged(path="/").get("reason") is None


def test_an_early_answer_says_close_also_when_the_origin_has_gone(launch, origin):
    def script(peer):
        peer.request_head()
        peer.answer(413, b"no")
        peer.close()
    origin.forever(script)
    tidegate = launch(basic(origin.address))
    for _ in range(20):
        with tidegate.connect() as client:
            client.send(request("POST", "/", "Content-Length: 1000000"), b"z" * 100_000)
            response = client.response("POST")
            assert (response.status, response.get("connection")) == (413, "close")


def test_a_slow_reader_gets_all_of_an_answer_whose_connection_is_closed(launch, origin):
    """The lingering close ends after two seconds; what the kernel holds by then still arrives."""
    body = b"b" * 200_000
    origin.next(lambda peer: (peer.request(), peer.answer(200, body), peer.expect_gone()))
    tidegate = launch(basic(origin.address, timeouts=SHORT))
    with tidegate.connect(receive_buffer=4096) as client:
        client.send(request())
        assert client.response_head().status == 200
        tidegate.logged(path="/")
        stays(lambda: True, "", 2.8)
        assert client.exactly(len(body)) == body
        client.expect_end()


def test_a_stop_lets_a_slow_reader_finish(launch, origin):
    body = b"b" * 200_000
    origin.next(lambda peer: (peer.request(), peer.answer(200, body), peer.expect_gone()))
    tidegate = launch(basic(origin.address, shutdown={"timeout": "20s"}))
    with tidegate.connect(receive_buffer=4096) as client:
        client.send(request())
        assert client.response_head().status == 200
        tidegate.logged(path="/")
        tidegate.signal(signal.SIGTERM)
        stays(lambda: True, "", 2.8)
        assert client.exactly(len(body)) == body
        client.expect_end()
    assert tidegate.wait_exit() == 0


@pytest.mark.parametrize("how", ["pipelined", "half", "upload"])
def test_a_client_that_resets_while_nobody_reads_it_frees_its_origin(launch, origin, how):
    """Its octets fill our buffer, or it has ended its side: the socket is not read any more, and the reset comes all the same."""
    gone = threading.Event()

    def script(peer):
        peer.request_head()
        if how == "upload":
            # Reads nothing of it: only the end of the connection counts, which a full receive queue hides from recv.
            wait = select.poll()
            wait.register(peer.sock, select.POLLRDHUP)
            assert wait.poll(15_000 * PATIENCE)
        else:
            peer.expect_gone()
        gone.set()
    origin.forever(script)
    tidegate = launch(basic(origin.address))
    with tidegate.connect() as client:
        if how == "upload":
            client.send(request("POST", "/", "Content-Length: 100000000"))
            client.sock.settimeout(0.3)
            with pytest.raises(OSError):
                while True:
                    client.sock.send(b"y" * 65536)
        else:
            client.send(request())
            origin.wait_requests(1)
            client.half_close() if how == "half" else client.send(request("GET", "/again") * 3000)
            assert not gone.wait(0.3)
        client.reset()
    assert gone.wait(10 * PATIENCE)
    assert tidegate.logged(path="/")["reason"] == "client_closed"


@pytest.mark.parametrize("how", ["reset", "half", "stalled"])
def test_an_early_answer_that_waits_for_a_lost_upload_ends(launch, origin, how):
    """Without upstream_response nobody else would end it."""
    def script(peer):
        peer.request_head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        peer.expect_gone()
        gone.set()
    gone = threading.Event()
    origin.next(script)
    # Whose connection is gone is not waited for; the others have so long to be gone before it is that.
    body_idle = "1h" if how == "reset" else duration(1)
    tidegate = launch(basic(origin.address, timeouts={"upstream_response": "off", "body_idle": body_idle}))
    with tidegate.connect() as client:
        client.send(request("POST", "/", "Transfer-Encoding: chunked"), b"5\r\nhello\r\n")
        assert client.response_head("POST").status == 200
        assert client.exactly(3) == b"abc"
        if how == "reset":
            client.reset()
        elif how == "half":
            client.half_close()
        assert gone.wait(10 * PATIENCE)
        if how != "reset":
            client.expect_gone()
    assert tidegate.logged(path="/")["reason"] == ("body_idle_timeout" if how == "stalled" else "client_closed")


def test_an_empty_line_does_not_hold_up_a_stop(launch, origin):
    """RFC 9112 section 2.2: it is no request, so the connection is idle and is told of the close."""
    def script(peer):
        peer.request()
        assert go.wait(10 * PATIENCE)
        peer.answer()
        peer.expect_gone()
    go = threading.Event()
    origin.next(script)
    tidegate = launch(basic(origin.address, shutdown={"timeout": "60s"}))
    with tidegate.connect() as client:
        client.send(request(), b"\r\n")
        origin.wait_requests(1)
        tidegate.signal(signal.SIGTERM)
        until(lambda: "stopping" in tidegate.stderr, "the stop")
        go.set()
        assert client.response().get("connection") == "close"
        client.expect_end()
    assert tidegate.wait_exit() == 0
