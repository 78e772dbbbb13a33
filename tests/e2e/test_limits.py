"""Limits of what a client may send: head, fields, URL, body."""

from collections import Counter

import pytest

from support.client import chunk, request
from support.daemon import basic
from support.errors import expect_error
from support.wait import PATIENCE, until
from support.wire import Ended


@pytest.fixture
def limited(launch, origin):
    return launch(basic(origin.address, limits={"max_header_bytes": "4KiB", "max_headers": 20, "max_url_bytes": "1KiB",
                                                "max_body": "100KB"}))


def test_a_head_that_is_too_large_is_431(limited, origin):
    with limited.connect() as client:
        client.send(request("GET", "/", *[f"X-{n}: {'y' * 900}" for n in range(5)]))
        expect_error(limited, client.response(), "head_too_large", closes=True)
        client.expect_gone()
    assert not origin.requests


def test_one_field_that_never_ends_is_431_before_it_ends(limited):
    with limited.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"y" * 6000)
        expect_error(limited, client.response(), "head_too_large", closes=True)


def test_too_many_fields_are_431(limited, origin):
    with limited.connect() as client:
        client.send(request("GET", "/", *[f"X-{n}: y" for n in range(25)]))
        expect_error(limited, client.response(), "too_many_fields", closes=True)
    assert not origin.requests


def test_a_url_that_is_too_long_is_414(limited, origin):
    with limited.connect() as client:
        client.send(request("GET", "/" + "u" * 1100))
        expect_error(limited, client.response(), "url_too_long", closes=True)
    assert not origin.requests


def test_a_url_that_never_ends_is_414_before_it_ends(limited):
    with limited.connect() as client:
        client.send(b"GET /" + b"u" * 3000)
        expect_error(limited, client.response(), "url_too_long", closes=True)


def test_what_is_just_within_the_limits_passes(limited, origin):
    with limited.connect() as client:
        assert client.get("/" + "u" * 1000).status == 200
        assert client.get("/", *[f"X-{n}: y" for n in range(18)]).status == 200
        assert client.get("/", "X-Large: " + "y" * 3900).status == 200
        client.send(request("POST", "/", body=b"x" * 100000))
        assert client.response("POST").status == 200
    assert len(origin.requests[-1].body) == 100000


def test_a_declared_body_that_is_too_large_is_413_at_once(limited, origin):
    with limited.connect() as client:
        client.send(request("POST", "/", "Content-Length: 100001"))
        expect_error(limited, client.response("POST"), "body_too_large", closes=True)
    assert not origin.requests, "the origin need not hear of it"


def test_a_declared_body_that_is_too_large_gets_413_instead_of_100(limited):
    with limited.connect() as client:
        client.send(request("POST", "/", "Content-Length: 100001", "Expect: 100-continue"))
        response = client.response("POST")
        assert response.interims == []
        expect_error(limited, response, "body_too_large")


def test_a_chunked_body_that_grows_too_large_is_413_and_the_origin_sees_no_whole_one(limited, origin):
    ends = []

    def script(peer):
        peer.request_head()
        ends.append(peer.expect_gone())
    origin.next(script)
    with limited.connect() as client:
        client.send(request("POST", "/", "Transfer-Encoding: chunked"))
        for _ in range(11):
            client.send(chunk(b"x" * 10000))
        expect_error(limited, client.response("POST"), "body_too_large", closes=True)
    # The answer is not the origin's: it may be about to hear of the request.
    assert origin.wait_peers(1)[0].finished.wait(10 * PATIENCE)
    assert b"\r\n0\r\n\r\n" not in ends[0]


def test_a_route_may_have_a_limit_of_its_own(launch, origin):
    routes = [{"name": "large", "path": "/large/", "max_body": "off", "upstream": "app"},
              {"name": "small", "path": "/", "max_body": "10B", "upstream": "app"}]
    tidegate = launch(basic(origin.address, routes=routes, limits={"max_body": "1KiB"}))
    with tidegate.connect() as client:
        client.send(request("POST", "/large/x", body=b"x" * 5000))
        assert client.response("POST").status == 200
        client.send(request("POST", "/y", body=b"x" * 11))
        expect_error(tidegate, client.response("POST"), "body_too_large")


def test_a_body_without_a_length_where_one_is_needed_is_411(tidegate, origin):
    """POST and PUT of an HTTP/1.0 client without Content-Length: where its body ends cannot be known (RFC 9110 8.6)."""
    with tidegate.connect() as client:
        client.send(b"POST / HTTP/1.0\r\nHost: a\r\n\r\nbody?")
        expect_error(tidegate, client.response("POST"), "length_required", closes=True)
    assert not origin.requests


def test_trailers_are_limited_like_heads(limited):
    with limited.connect() as client:
        client.send(request("POST", "/", "Transfer-Encoding: chunked"), chunk(b"x"), b"0\r\n", b"X: " + b"y" * 8000)
        response = client.response("POST")
        assert response.status in (431, 400)
        client.expect_gone()


def test_the_defaults_take_what_browsers_send(tidegate):
    with tidegate.connect() as client:
        assert client.get("/" + "u" * 8000, "Cookie: " + "c" * 16000, *[f"X-{n}: v" for n in range(60)]).status == 200
        client.send(request("GET", "/", "Cookie: " + "c" * 40000))
        expect_error(tidegate, client.response(), "head_too_large", closes=True)


def test_a_full_worker_leaves_its_queue_to_a_neighbour(launch, origin):
    """Connections are spread by the kernel; who waits for a full worker is served by one that has room."""
    tidegate = launch(basic(origin.address, workers=2, limits={"max_connections": 8}))
    kept = []
    # Until one worker has its four: then the other has room for at least one more.
    while len(kept) < 7 and 4 not in Counter(entry["pid"] for entry in tidegate.ok("conns", "--json").json["connections"]).values():
        kept.append(tidegate.connect())
        assert kept[-1].get("/").status == 200
    for _ in range(16):
        with tidegate.connect(seconds=5) as client:
            assert client.get("/", "Connection: close").status == 200
    for client in kept:
        client.close()


def test_one_address_has_only_so_many_connections(launch, origin):
    tidegate = launch(basic(origin.address, workers=2, limits={"max_connections_per_ip": 8},
                            listeners=[{"name": "web", "bind": "127.0.0.1:0"},
                                       {"name": "lb", "bind": "127.0.0.1:0", "trusted_proxies": ["127.0.0.0/8"]}]))
    kept = []

    def refused():
        """Workers have their share: the kernel decides when the first of them is full."""
        client = tidegate.connect()
        try:
            client.send(request())
            kept.append(client) if client.response().status == 200 else None
            return False
        except (Ended, OSError):
            return True
    until(lambda: refused() or len(kept) > 8, "a refused connection")
    assert 4 <= len(kept) <= 8
    assert tidegate.counters()["connections_refused"] >= 1
    until(lambda: "max_connections_per_ip" in tidegate.stderr, "the warning")
    with tidegate.connect("lb") as through_a_proxy:
        assert through_a_proxy.get("/").status == 200
    assert [client.get("/").status for client in kept] == [200] * len(kept), "who is there is served"
    for client in kept:
        client.close()
    until(lambda: not refused(), "room again")
    kept[-1].close()
