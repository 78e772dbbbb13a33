"""HTTP/2 with clients that others wrote: curl, nghttp, h2load, Node. (Chromium: tests/support/chromium, by hand.)"""

import base64
import hashlib
import json
import re
import subprocess
from pathlib import Path

import pytest

from support import report
from support.certificates import make_pair
from support.daemon import CLEAR, basic
from support.wait import PATIENCE, SMALL

PEERS = Path(__file__).parent / "peers"
NAME = "a.example"
MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CHUNKED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return make_pair(tmp_path_factory.mktemp("certificates"), NAME)


@pytest.fixture
def front(launch, origin, pair):
    """A listener with TLS and one without, both speak both versions."""
    origin.forever(serve)
    return launch(basic(origin.address, listeners=[{"name": "web", "bind": "127.0.0.1:0", "tls": {}},
                                                   {**CLEAR, "name": "clear"}], certificates=[pair.entry()]))


def run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60 * PATIENCE, check=False)
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


# The origin: one function for each path.

def serve(peer):
    while True:
        head = peer.request_head()
        name = head.target.strip("/").replace("-", "_")
        answer = ANSWERS.get(name)
        if answer:
            answer(peer, head)
        else:
            whole(peer, head)
            peer.answer(200, head.target.encode())


def whole(peer, head):
    return peer.body_of(head, head.framing, head.length)


def chunks(*parts, trailers=""):
    return b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in parts) + b"0\r\n" + trailers.encode() + b"\r\n"


def echo(peer, head):
    got = whole(peer, head)
    peer.answer(200, got.body, *[f"X-Saw-Sum: {value}" for name, value in got.trailers if name.lower() == "x-sum"])


def hints(peer, head):
    peer.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")
    peer.answer()


def message(octets):
    return b"\x00" + len(octets).to_bytes(4, "big") + octets


def grpc(peer, head):
    got = whole(peer, head)
    peer.send(CHUNKED + "Content-Type: application/grpc\r\n\r\n")
    peer.send(chunks(message(b"you said " + got.body[5:]), trailers="grpc-status: 0\r\ngrpc-message: fine\r\n"))


def grpc_error(peer, head):
    whole(peer, head)
    peer.answer(200, b"", "Content-Type: application/grpc", "grpc-status: 5", "grpc-message: not found")


def grpc_echo(peer, head):
    """Each piece comes back before the next is asked for."""
    peer.send(CHUNKED + "Content-Type: application/grpc\r\n\r\n")
    while size := int(peer.up_to(b"\r\n"), 16):
        peer.send(b"%x\r\n%s\r\n" % (size, peer.exactly(size)))
        peer.exactly(2)
    peer.up_to(b"\r\n")
    peer.send("0\r\ngrpc-status: 0\r\n\r\n")


def websocket(peer, head):
    accept = base64.b64encode(hashlib.sha1((head.get("sec-websocket-key") + MAGIC).encode()).digest()).decode()
    peer.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
              f"Sec-WebSocket-Accept: {accept}\r\n\r\n")
    peer.send(peer.exactly(5))
    peer.send(peer.to_end())
    peer.half_close()


def endless(peer, head):
    peer.send(CHUNKED + "\r\n")
    while True:
        peer.send(b"1000\r\n" + b"e" * 4096 + b"\r\n")


def cut(peer, head):
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    peer.close()


ANSWERS = {
    "echo": echo, "hints": hints, "grpc": grpc, "grpc_error": grpc_error, "grpc_echo": grpc_echo, "ws": websocket,
    "endless": endless, "cut": cut,
    "trailers": lambda peer, head: peer.send(CHUNKED + "\r\n") or peer.send(chunks(b"ok", trailers="X-Sum: 7\r\n")),
    "cookies": lambda peer, head: peer.answer(200, head.get("cookie").encode()),
    "get": lambda peer, head: peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
                                        + ("" if head.method == "HEAD" else "hello")),
}


# curl.

def curl(front, pair, *options, path="/get"):
    host, _, port = front.address().rpartition(":")
    said = run("curl", "-sS", "--cacert", pair.cert, "--resolve", f"{NAME}:{port}:{host}", "-w", "\n%{http_version} %{http_code}",
               *options, f"https://{NAME}:{port}{path}")
    body, _, last = said.rpartition("\n")
    return body, last


def test_curl_speaks_http2(front, pair):
    assert curl(front, pair, "--http2") == ("hello", "2 200")
    assert curl(front, pair) == ("hello", "2 200"), "without being asked to"
    assert curl(front, pair, "--http1.1") == ("hello", "1.1 200")
    assert front.logged(path="/get")["tls"] == "TLSv1.3"


def test_curl_speaks_http2_without_tls(front):
    said = run("curl", "-sS", "--http2-prior-knowledge", "-w", " %{http_version}", front.url("/get", "clear"))
    assert said == "hello 2"
    said = run("curl", "-sS", "--http2", "-w", " %{http_version}", front.url("/get", "clear"))
    assert said == "hello 1.1", "Upgrade: h2c is not offered any more"


def test_curl_uploads_and_downloads(front, pair, tmp_path):
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * 20000)
    fetched = tmp_path / "fetched"
    _, last = curl(front, pair, "--http2", "--data-binary", f"@{large}", "-o", fetched, path="/echo")
    assert last == "2 200" and fetched.read_bytes() == large.read_bytes()
    _, last = curl(front, pair, "--http2", "-T", large, "-H", "Expect: 100-continue", "-X", "POST", "-o", fetched, path="/echo")
    assert last == "2 200" and fetched.read_bytes() == large.read_bytes()


def test_curl_sees_trailers_and_a_cut_answer(front, pair):
    body, last = curl(front, pair, "--http2", "-D", "-", path="/trailers")
    assert "x-sum: 7" in body and last == "2 200", body
    host, _, port = front.address().rpartition(":")
    done = subprocess.run(["curl", "-sS", "--cacert", pair.cert, "--resolve", f"{NAME}:{port}:{host}",
                           f"https://{NAME}:{port}/cut"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (18, 92), f"a cut answer ended with {done.returncode}: {done.stderr}"


# nghttp2's tools.

def test_nghttp(front, pair, tmp_path):
    large = tmp_path / "large"
    large.write_bytes(b"n" * 500000)
    url = f"https://{front.address()}"
    said = run("nghttp", "-nv", "-m", 30, f"{url}/get", "-H", f":authority: {NAME}")
    assert len(re.findall(r":status: 200", said)) == 30, said[-1000:]
    assert "h2" in said
    assert run("nghttp", "-d", large, f"{url}/echo") == "n" * 500000
    # It gives a length, behind which HTTP/1.1 has no place for trailers.
    assert run("nghttp", "-d", large, "--trailer", "x-sum: 7", f"http://{front.address('clear')}/echo") == "n" * 500000


@pytest.mark.parametrize("listener,scheme", [("web", "https"), ("clear", "http")])
def test_h2load(front, origin, listener, scheme):
    """Many streams on few connections, each answered."""
    count = 1000 if SMALL else 5000
    url = f"{scheme}://{front.address(listener)}/load"
    said = run("h2load", "-n", count, "-c", 16, "-m", 32, url)
    report.add([f"h2load over {scheme}: " + said.split("finished in ")[1].split("\n")[0]])
    assert re.search(rf"{count} total, {count} started, {count} done, {count} succeeded, 0 failed, 0 errored, 0 timeout", said), said
    assert f"status codes: {count} 2xx" in said
    assert len(origin.peers) <= 16 * 32 + 1


def test_h2load_of_uploads(front, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(b"u" * 100000)
    said = run("h2load", "-n", 200, "-c", 4, "-m", 16, "-d", body, f"https://{front.address()}/echo")
    assert "200 succeeded, 0 failed" in said, said


# Node.

def test_nodes_client(front, pair, origin):
    said = json.loads(run("node", PEERS / "exchanges.js", f"https://{front.address()}", pair.cert))
    assert said["alpn"] == "h2"
    assert (said["get"]["status"], said["get"]["body"]) == (200, "hello")
    assert (said["head"]["status"], said["head"]["length"], said["head"]["fields"]["content-length"]) == (200, 0, "5")
    assert said["hundred"] == [f"/{number}" for number in range(100)]
    assert (said["upload"]["status"], said["upload"]["length"]) == (200, 3000000)
    assert said["interim"]["informational"] == [103] and said["interim"]["status"] == 200
    assert said["trailers"]["trailers"] == {"x-sum": "7"} and said["trailers"]["body"] == "ok"
    assert said["cookies"]["body"] == "a=b; c=d"
    assert said["ping"] == {"error": None, "octets": 8}
    assert said["sends_trailers"] == {"status": 200, "sum": "7"}
    assert said["websocket"] == {"status": 200, "body": "hello!"}
    assert said["cancelled"]["code"] == 8
    assert said["cut"] == "ERR_HTTP2_STREAM_ERROR", said["cut"]


def test_grpc_keeps_its_trailers_through_an_http_1_origin(front, pair):
    said = json.loads(run("node", PEERS / "exchanges.js", f"https://{front.address()}", pair.cert))
    unary = said["grpc_unary"]
    assert unary["status"] == 200 and unary["fields"]["content-type"] == "application/grpc"
    assert unary["body"] == message(b"you said hello").decode()
    assert unary["trailers"] == {"grpc-status": "0", "grpc-message": "fine"}
    error = said["grpc_error"]
    assert error["fields"]["grpc-status"] == "5" and error["length"] == 0
    talk = said["grpc_conversation"]
    assert talk["length"] == sum(len(message(b"turn %d" % number)) for number in range(20))
    assert talk["trailers"] == {"grpc-status": "0"}
