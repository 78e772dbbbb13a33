"""HTTP/2 from clients, with clients as people have them: curl, nghttp and h2load."""

import hashlib
import os
import subprocess

import pytest

from support.certificates import make_pair
from support.daemon import basic
from support.wait import until

MIB = 1 << 20


@pytest.fixture
def front(launch, origin, tmp_path):
    """A plain listener for both versions and one with TLS, with the address of each as a URL."""
    pair = make_pair(tmp_path, "a.example")
    tidegate = launch(basic(origin.address, certificates=[pair.entry()], listeners=[
        {"name": "plain", "bind": "127.0.0.1:0", "protocols": ["h1", "h2c"]},
        {"name": "secure", "bind": "127.0.0.1:0", "tls": {}}]))
    return tidegate, f"http://127.0.0.1:{tidegate.port('plain')}", f"https://127.0.0.1:{tidegate.port('secure')}"


def run(*command, octets=b""):
    done = subprocess.run(command, input=octets, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def curl(*arguments, octets=b""):
    return run("curl", "-sS", "-k", "--max-time", "30", *arguments, octets=octets)


def test_curl_speaks_what_it_wants_to(front, origin):
    tidegate, http, https = front
    version = ("-o", os.devnull, "-w", "%{http_version} %{response_code}")
    assert curl(*version, "--http2-prior-knowledge", http + "/a") == b"2 200"
    assert curl(*version, "--http1.1", http + "/b") == b"1.1 200"
    assert curl(*version, "--http2", https + "/c") == b"2 200"
    assert curl(*version, "--http1.1", https + "/d") == b"1.1 200"
    assert tidegate.logged(path="/a")["proto"] == tidegate.logged(path="/c")["proto"] == "HTTP/2.0"
    assert tidegate.logged(path="/b")["proto"] == tidegate.logged(path="/d")["proto"] == "HTTP/1.1"
    assert ("Via", "2.0 tidegate") in [tuple(field) for field in origin.requests[0].fields]
    until(lambda: tidegate.counters()["h2_connections"] == 2 and tidegate.counters()["h2_streams"] == 2, "both counted")


@pytest.mark.parametrize("place", [1, 2], ids=["plain", "secure"])
def test_large_bodies_pass_in_both_directions(front, origin, place):
    origin.handler = lambda peer, got: peer.answer(body=got.body)
    body = os.urandom(8 * MIB)
    back = curl("--http2" if place == 2 else "--http2-prior-knowledge", "--data-binary", "@-", front[place] + "/", octets=body)
    assert hashlib.sha256(back).digest() == hashlib.sha256(body).digest()


def test_many_streams_of_many_connections(front):
    tidegate, http, https = front
    for url in (http, https):
        told = run("h2load", "-n2000", "-c8", "-m32", url + "/").decode()
        assert "2000 succeeded, 0 failed, 0 errored" in told, told
    until(lambda: tidegate.counters()["h2_streams"] == 4000, "all counted")


def test_nghttp_takes_trailers_and_interim_heads(front, origin):
    def answer(peer, _):
        peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
                  b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n")
    origin.handler = answer
    told = run("nghttp", "-v", front[1] + "/").decode()
    for line in (":status: 103", "link: </a>", ":status: 200", "x-sum: 7"):
        assert line in told, told
