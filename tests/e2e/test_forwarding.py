"""Messages, streamed both ways: framing, interim responses, keep-alive, pipelining, early answers."""

import hashlib
import http.client
import re
import subprocess
import threading

import pytest

from support.client import chunk, request
from support.wait import PATIENCE, until


# Requests to the origin.

def test_a_get_arrives_and_its_answer_comes_back(tidegate, origin):
    with tidegate.connect() as client:
        response = client.get("/some/path?x=1")
    assert (response.status, response.body, response.framing) == (200, b"hello\n", "length")
    assert origin.requests[0].start == "GET /some/path?x=1 HTTP/1.1"


@pytest.mark.parametrize("target", [
    "/", "//a//b/../c/./d", "/%2e%2E/%41%zz", "/a;b=c;d", "/a?", "/a?b?c=/d//e", "/q?x=%20+%2B&y=[1]|{2}", "/~!$&'()*+,=:@",
    "/a%00b", "/\"<>\\^`", "*",
])
def test_path_and_query_reach_the_origin_octet_for_octet(tidegate, origin, target):
    with tidegate.connect() as client:
        client.send(request("OPTIONS" if target == "*" else "GET", target))
        assert client.response().status == 200
    assert origin.requests[0].target == target


def test_an_absolute_form_target_becomes_origin_form_and_names_the_host(tidegate, origin):
    with tidegate.connect() as client:
        client.send(b"GET http://elsewhere.example:81/x?y HTTP/1.1\r\nHost: test\r\n\r\n")
        assert client.response().status == 200
    assert origin.requests[0].target == "/x?y"
    assert origin.requests[0].get("host") == "elsewhere.example:81"


def test_a_body_with_content_length_arrives_whole(tidegate, origin):
    body = bytes(range(256)) * 4096
    with tidegate.connect() as client:
        client.send(request("POST", "/", body=body))
        assert client.response("POST").status == 200
    assert origin.requests[0].body == body
    assert origin.requests[0].framing == "length"


def test_a_body_of_length_zero_stays_one(tidegate, origin):
    with tidegate.connect() as client:
        client.send(request("POST", "/", body=b""))
        assert client.response("POST").status == 200
    assert origin.requests[0].get("content-length") == "0"


def test_a_chunked_body_arrives_whole_with_its_trailers(tidegate, origin):
    body = [b"first", b"x" * 70000, b"last"]
    with tidegate.connect() as client:
        client.send(request("POST", "/", "Transfer-Encoding: chunked", "Trailer: X-Sum"))
        for part in body:
            client.send(chunk(part))
        client.send(b"0\r\nX-Sum: 42\r\n\r\n")
        assert client.response("POST").status == 200
    assert origin.requests[0].framing == "chunked"
    assert origin.requests[0].body == b"".join(body)
    assert origin.requests[0].trailers == [("X-Sum", "42")]


def test_chunk_extensions_are_read_and_not_passed_on(tidegate, origin):
    with tidegate.connect() as client:
        client.send(request("POST", "/", "Transfer-Encoding: chunked"), b'5;name="va;lue";b\r\nhello\r\n0;end\r\n\r\n')
        assert client.response("POST").status == 200
    assert origin.requests[0].body == b"hello"
    assert b"name" not in bytes(origin.peers[0].received).split(b"\r\n\r\n", 1)[1]


def test_octets_that_come_one_by_one_are_understood(tidegate, origin):
    octets = request("POST", "/slow", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\nT: 1\r\n\r\n"
    with tidegate.connect() as client:
        client.send(*[octets[i:i + 1] for i in range(len(octets))])
        assert client.response("POST").status == 200
    assert origin.requests[0].body == b"abc"


def test_each_chunk_reaches_the_origin_before_the_next_is_sent(tidegate, origin):
    seen = []

    def script(peer):
        peer.request_head()
        for _ in range(3):
            size = int(peer.up_to(b"\r\n"), 16)
            seen.append(peer.exactly(size + 2)[:-2])
        assert peer.up_to(b"\r\n\r\n") == b"0\r\n\r\n"
        peer.answer()
    origin.next(script)
    with tidegate.connect() as client:
        client.send(request("POST", "/", "Transfer-Encoding: chunked"))
        for number, part in enumerate([b"one", b"two", b"three"]):
            client.send(chunk(part))
            until(lambda n=number: len(seen) == n + 1, "the chunk at the origin")
        client.send(b"0\r\n\r\n")
        assert client.response("POST").status == 200
    assert seen == [b"one", b"two", b"three"]


# Responses to the client.

def test_a_chunked_response_comes_back_whole_with_its_trailers(tidegate, origin):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n",
                  chunk(b"abc"), chunk(b"d" * 100000), b"0\r\nX-Sum: 7\r\n\r\n")
    origin.next(script)
    with tidegate.connect() as client:
        response = client.get("/", "TE: trailers")
        assert response.framing == "chunked"
        assert response.body == b"abc" + b"d" * 100000
        assert response.trailers == [("X-Sum", "7")]
        assert client.get("/again").status == 200


def test_each_part_of_a_response_reaches_the_client_before_the_next_is_sent(tidegate, origin):
    steps = [threading.Event() for _ in range(3)]

    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        for step in steps:
            peer.wait(step)
            peer.send(b"abc")
    origin.next(script)
    with tidegate.connect() as client:
        client.send(request())
        assert client.response_head().length == 9
        for step in steps:
            step.set()
            assert client.exactly(3) == b"abc"


def test_a_body_that_ends_with_the_upstream_connection_arrives_whole(tidegate, origin):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n", b"until ", b"the end")
        peer.close()
    origin.next(script)
    with tidegate.connect() as client:
        response = client.get("/")
        assert response.framing == "chunked", "its end must be visible to an HTTP/1.1 client"
        assert response.body == b"until the end"
        assert client.get("/again").status == 200, "the client's connection need not end with the upstream's"


def test_an_answer_of_an_http_1_0_origin_is_understood(tidegate, origin):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold")
        peer.close()
    origin.next(script)
    with tidegate.connect() as client:
        response = client.get("/")
    assert (response.version, response.body) == ("HTTP/1.1", b"old")


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_has_none_and_keeps_the_connection(tidegate, origin, status):
    def script(peer):
        peer.request()
        peer.send(f"HTTP/1.1 {status} Nothing\r\nETag: \"a\"\r\n\r\n")
        peer.request()
        peer.answer()
    origin.next(script)
    with tidegate.connect() as client:
        response = client.get("/")
        assert (response.status, response.framing, response.get("etag")) == (status, "none", '"a"')
        assert response.get("transfer-encoding") is None
        assert client.get("/again").body == b"hello\n"
    assert len(origin.peers) == 1


def test_a_304_with_content_length_has_no_body(tidegate, origin):
    def script(peer):
        peer.request()
        peer.send("HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n")
        peer.request()
        peer.answer()
    origin.next(script)
    with tidegate.connect() as client:
        assert client.get("/").status == 304
        assert client.get("/again").status == 200


def test_head_keeps_the_length_and_has_no_body(tidegate, origin):
    def script(peer):
        peer.request()
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")
        peer.request()
        peer.answer()
    origin.next(script)
    with tidegate.connect() as client:
        client.send(request("HEAD"))
        response = client.response("HEAD")
        assert (response.status, response.get("content-length"), response.body) == (200, "12345", b"")
        assert client.get("/again").body == b"hello\n"
    assert len(origin.peers) == 1


def test_head_with_a_chunked_answer_has_no_body(tidegate, origin):
    def script(peer):
        peer.request()
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        peer.request()
        peer.answer()
    origin.next(script)
    with tidegate.connect() as client:
        client.send(request("HEAD"))
        assert client.response("HEAD").status == 200
        assert client.get("/again").body == b"hello\n"


def test_an_unknown_status_code_is_passed_on(tidegate, origin):
    origin.handler = lambda peer, _: peer.send("HTTP/1.1 799 Strange Thing\r\nContent-Length: 0\r\n\r\n")
    with tidegate.connect() as client:
        response = client.get("/")
    assert (response.status, response.reason) == (799, "Strange Thing")


# Interim responses.

def test_100_continue_comes_from_the_origin_before_the_body(tidegate, origin):
    def script(peer):
        head = peer.request_head()
        assert head.get("expect") == "100-continue"
        assert peer.silent(0.1), "the body came before the origin asked for it"
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert peer.exactly(5) == b"hello"
        peer.answer()
    origin.next(script)
    with tidegate.connect() as client:
        client.send(request("POST", "/", "Expect: 100-continue", "Content-Length: 5"))
        assert client.interim().status == 100
        client.send(b"hello")
        assert client.response("POST").status == 200


def test_a_final_answer_instead_of_100_is_passed_on_and_the_body_is_never_asked_for(tidegate, origin):
    def script(peer):
        peer.request_head()
        peer.answer(403, b"no\n")
    origin.next(script)
    with tidegate.connect() as client:
        client.send(request("POST", "/", "Expect: 100-continue", "Content-Length: 5"))
        response = client.response("POST")
        assert (response.status, response.body, response.interims) == (403, b"no\n", [])


def test_a_client_that_does_not_wait_for_100_is_served(tidegate, origin):
    def script(peer):
        peer.request_head()
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert peer.exactly(5) == b"hello"
        peer.answer()
    origin.next(script)
    with tidegate.connect() as client:
        client.send(request("POST", "/", "Expect: 100-continue", body=b"hello"))
        assert client.response("POST").status == 200


@pytest.mark.parametrize("status", [102, 103, 110])
def test_other_interim_responses_are_passed_on_in_order(tidegate, origin, status):
    def script(peer):
        peer.request()
        peer.send(f"HTTP/1.1 {status} First\r\nLink: </a.css>; rel=preload\r\n\r\n",
                  f"HTTP/1.1 {status} Second\r\nX-N: 2\r\n\r\n")
        peer.answer()
    origin.next(script)
    with tidegate.connect() as client:
        response = client.get("/")
    assert [(one.status, one.reason) for one in response.interims] == [(status, "First"), (status, "Second")]
    assert response.interims[0].get("link") == "</a.css>; rel=preload"
    assert response.status == 200


def test_an_http_1_0_client_gets_no_interim_response(tidegate, origin):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        peer.answer()
    origin.next(script)
    with tidegate.connect() as client:
        client.send(request(version="HTTP/1.0"))
        assert client.response().interims == []


# Both directions at once.

def test_an_answer_may_begin_while_the_upload_continues(tidegate, origin):
    more = threading.Event()

    def script(peer):
        head = peer.request_head()
        assert peer.exactly(3) == b"abc"
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", b"xyz")
        assert peer.exactly(head.length - 3) == b"d" * 100000
        peer.send(b"end")
        more.set()
        peer.request()
        peer.answer()
    origin.next(script)
    with tidegate.connect() as client:
        client.send(request("POST", "/", "Content-Length: 100003") + b"abc")
        assert client.response_head("POST").status == 200
        assert client.exactly(3) == b"xyz"
        assert not more.is_set()
        client.send(b"d" * 100000)
        assert client.exactly(3) == b"end"
        assert client.get("/again").status == 200


def test_an_answer_that_ends_before_the_upload_is_delivered_whole(tidegate, origin):
    def script(peer):
        peer.request_head()
        peer.answer(413, b"too much for me\n", "Connection: close")
        peer.close()
    origin.next(script)
    with tidegate.connect() as client:
        client.send(request("POST", "/", "Content-Length: 50000000"))
        response = client.response("POST")
        assert (response.status, response.body) == (413, b"too much for me\n")
        # The upload is of no use any more: the connection may not be kept as if it had been read.
        assert response.get("connection") == "close"


def test_an_early_answer_arrives_while_the_client_keeps_sending(tidegate, origin):
    """The client only writes: the answer must not be lost to a reset (RFC 9112 section 9.6)."""
    def script(peer):
        peer.request_head()
        peer.answer(403, b"stop\n", "Connection: close")
        peer.half_close()
        peer.expect_gone()
    origin.next(script)
    with tidegate.connect() as client:
        client.send(request("POST", "/", "Content-Length: 30000000"))
        client.sock.settimeout(0.5)
        try:
            for _ in range(400):
                client.sock.send(b"u" * 65536)
        except OSError:
            pass
        client.sock.settimeout(10 * PATIENCE)
        assert client.response("POST").status == 403


def test_upload_and_download_stream_at_the_same_time(tidegate, origin):
    size = 8 << 20

    def script(peer):
        peer.request_head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        left = size
        while left:
            octets = peer.some()
            peer.send(octets)
            left -= len(octets)
    origin.next(script)
    sent, block = hashlib.sha256(), bytes(range(256)) * 1024
    with tidegate.connect() as client:
        client.send(request("POST", "/echo", f"Content-Length: {size}"))

        def upload():
            for _ in range(size // len(block)):
                client.send(block)
                sent.update(block)
        thread = threading.Thread(target=upload)
        thread.start()
        response = client.response("POST")
        thread.join()
    assert hashlib.sha256(response.body).digest() == sent.digest()


# Connections.

def test_the_clients_connection_is_kept(tidegate, origin):
    with tidegate.connect() as client:
        for number in range(5):
            response = client.get(f"/{number}")
            assert response.status == 200
            assert response.get("connection") is None
    assert [one.target for one in origin.requests] == ["/0", "/1", "/2", "/3", "/4"]


def test_the_upstream_connection_is_kept_across_clients(tidegate, origin):
    for _ in range(3):
        with tidegate.connect() as client:
            assert client.get("/").status == 200
    assert len(origin.peers) == 1
    assert all(one.get("connection") is None for one in origin.requests)


def test_connection_close_of_the_client_ends_its_connection_and_not_the_upstreams(tidegate, origin):
    for _ in range(2):
        with tidegate.connect() as client:
            response = client.get("/", "Connection: close")
            assert response.get("connection") == "close"
            client.expect_end()
    assert len(origin.peers) == 1


def test_connection_close_of_the_origin_ends_its_connection_and_not_the_clients(tidegate, origin):
    def script(peer):
        peer.request()
        peer.answer(200, b"bye\n", "Connection: close")
        peer.expect_end()
    origin.forever(script)
    with tidegate.connect() as client:
        for _ in range(3):
            response = client.get("/")
            assert (response.body, response.get("connection")) == (b"bye\n", None)
    assert len(origin.peers) == 3


def test_pipelined_requests_are_answered_in_order(tidegate, origin):
    origin.handler = lambda peer, got: peer.answer(200, got.target)
    with tidegate.connect() as client:
        client.send(b"".join(request("GET", f"/{number}") for number in range(20)))
        assert [client.response().text for _ in range(20)] == [f"/{number}" for number in range(20)]


def test_pipelined_requests_with_bodies_are_kept_apart(tidegate, origin):
    origin.handler = lambda peer, got: peer.answer(200, got.body)
    with tidegate.connect() as client:
        client.send(request("POST", "/a", body=b"GET /evil HTTP/1.1\r\nHost: x\r\n\r\n")
                    + request("POST", "/b", "Transfer-Encoding: chunked") + b"4\r\nbody\r\n0\r\n\r\n"
                    + request("GET", "/c"))
        assert client.response("POST").body == b"GET /evil HTTP/1.1\r\nHost: x\r\n\r\n"
        assert client.response("POST").body == b"body"
        assert client.response().body == b""
    assert [one.target for one in origin.requests] == ["/a", "/b", "/c"]


def test_a_half_closed_client_still_gets_its_answers(tidegate, origin):
    """`printf 'GET ...' | nc`: the end of the client's direction is not an abort."""
    go = threading.Event()

    def slow(peer, got):
        peer.wait(go)
        peer.answer(200, got.target)
    origin.handler = slow
    with tidegate.connect() as client:
        client.send(request("GET", "/1") + request("GET", "/2"))
        client.half_close()
        origin.wait_requests(1)
        go.set()
        assert client.response().text == "/1"
        assert client.response().text == "/2"
        client.expect_end()


def test_empty_lines_before_a_request_are_skipped(tidegate):
    with tidegate.connect() as client:
        client.send(b"\r\n\r\n" + request())
        assert client.response().status == 200
        client.send(b"\r\n" + request())
        assert client.response().status == 200


# HTTP/1.0 clients.

def test_an_http_1_0_client_gets_its_answer_and_the_end(tidegate, origin):
    with tidegate.connect() as client:
        client.send(request(version="HTTP/1.0"))
        response = client.response()
        assert (response.status, response.body, response.get("connection")) == (200, b"hello\n", "close")
        client.expect_end()
    assert origin.requests[0].version == "HTTP/1.1"


def test_an_http_1_0_client_may_ask_to_keep_the_connection(tidegate):
    with tidegate.connect() as client:
        for _ in range(2):
            client.send(request("GET", "/", "Connection: keep-alive", version="HTTP/1.0"))
            response = client.response()
            assert (response.body, response.get("connection")) == (b"hello\n", "keep-alive")


def test_a_chunked_answer_reaches_an_http_1_0_client_without_chunks(tidegate, origin):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk(b"abc"), chunk(b"def"), b"0\r\n\r\n")
    origin.next(script)
    with tidegate.connect() as client:
        client.send(request("GET", "/", "Connection: keep-alive", version="HTTP/1.0"))
        response = client.response()
        assert (response.framing, response.body) == ("close", b"abcdef")


def test_an_http_1_0_request_without_host_is_served(tidegate, origin):
    with tidegate.connect() as client:
        client.send(b"GET /old HTTP/1.0\r\n\r\n")
        assert client.response().status == 200
    assert "host" in origin.requests[0].names(), "an HTTP/1.1 request must carry Host, if only an empty one"


# Real clients.

def test_curl_uploads_and_downloads(tidegate, origin, tmp_path):
    origin.handler = lambda peer, got: peer.answer(200, got.body)
    payload = tmp_path / "payload"
    payload.write_bytes(bytes(range(256)) * 8192)
    for extra in ([], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"], ["--http1.0"]):
        if "Expect: 100-continue" in extra:
            origin.script = continue_and_echo
            for peer in origin.peers:
                peer.sock.shutdown(2)
        done = subprocess.run(["curl", "-sS", "--max-time", str(20 * PATIENCE), "--data-binary", f"@{payload}", *extra, tidegate.url("/up")],
                              capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout == payload.read_bytes()


def continue_and_echo(peer):
    while True:
        head = peer.request_head()
        if head.get("expect"):
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        peer.answer(200, peer.body_of(head, head.framing, head.length).body)


def test_the_http_client_of_python_is_happy(tidegate, origin):
    origin.handler = lambda peer, got: peer.answer(200, got.body or got.target.encode())
    connection = http.client.HTTPConnection("127.0.0.1", tidegate.port(), timeout=10 * PATIENCE)
    for number in range(3):
        connection.request("GET", f"/{number}")
        assert connection.getresponse().read() == b"/%d" % number
    connection.request("POST", "/", body=iter([b"a" * 1000, b"b" * 1000]), encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked"})
    assert connection.getresponse().read() == b"a" * 1000 + b"b" * 1000
    connection.close()


def test_wrk_sees_no_error(tidegate, origin):
    seconds = max(1, round(PATIENCE))
    done = subprocess.run(["wrk", "-t1", "-c16", f"-d{seconds}s", "--timeout", f"{10 * seconds}s", tidegate.url("/")],
                          capture_output=True, text=True, check=True)
    assert "Socket errors" not in done.stdout and "Non-2xx" not in done.stdout, done.stdout
    assert int(re.search(r"(\d+) requests in", done.stdout)[1]) > 100
