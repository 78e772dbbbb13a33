"""redirect_to_https and hsts: where clients without TLS are sent, and what browsers are told to remember."""

import pytest

from support.certificates import TlsClient, make_pair, trusting
from support.client import request
from support.daemon import basic

HSTS = "Strict-Transport-Security"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return make_pair(tmp_path_factory.mktemp("certificates"), "a.example")


def both(origin, pair, plain=None, tls=None, **changes):
    """One listener that redirects, one with TLS."""
    return basic(origin.address, certificates=[pair.entry()], listeners=[
        {"name": "web", "bind": "127.0.0.1:0", "redirect_to_https": True, **(plain or {})},
        {"name": "tls", "bind": "127.0.0.1:0", "tls": tls or {}}], **changes)


def location(tidegate, raw):
    """The status, the Location and the whole answer to a request without TLS."""
    with tidegate.connect("web") as client:
        client.send(raw)
        answer = client.response("HEAD" if raw.startswith(b"HEAD") else "GET")
        return answer.status, answer.get("Location"), answer


@pytest.mark.parametrize("method, status", [("GET", 301), ("HEAD", 301), ("POST", 308), ("PUT", 308), ("DELETE", 308),
                                            ("OPTIONS", 308), ("PURGE", 308)])
def test_the_method_decides_the_status(launch, origin, pair, method, status):
    tidegate = launch(both(origin, pair))
    body = b"x" if method in ("POST", "PUT") else None
    got, where, answer = location(tidegate, request(method, "/a/../b?c=%2F", host="a.example:81", body=body))
    assert (got, where) == (status, f"https://a.example:{tidegate.port('tls')}/a/../b?c=%2F")
    assert answer.get("X-Request-Id") and answer.get(HSTS) is None
    line = tidegate.logged(path="/a/../b?c=%2F")
    assert line["status"] == status and line["listener"] == "web" and "reason" not in line
    assert not origin.requests


def test_a_connection_goes_on_after_a_redirect(launch, origin, pair):
    tidegate = launch(both(origin, pair))
    with tidegate.connect("web") as client:
        for _ in range(3):
            client.send(request("POST", "/", host="a.example", body=b"x" * 1000))
            assert client.response().status == 308


@pytest.mark.parametrize("raw, where", [
    (b"GET http://other.example:8080/x HTTP/1.1\r\nHost: a.example\r\n\r\n", "https://other.example:PORT/x"),
    (b"OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n", "https://a.example:PORT/"),
    (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "https://[::1]:PORT/"),
    (b"GET //evil.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", "https://a.example:PORT//evil.example/"),
    (b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n", "https://a.example:PORT/"),
])
def test_the_address_is_kept(launch, origin, pair, raw, where):
    tidegate = launch(both(origin, pair))
    assert location(tidegate, raw)[1] == where.replace("PORT", str(tidegate.port("tls")))


@pytest.mark.parametrize("raw", [b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost:\r\n\r\n"])
def test_without_a_host_there_is_nowhere_to_go(launch, origin, pair, raw):
    tidegate = launch(both(origin, pair))
    status, where, _ = location(tidegate, raw)
    assert status == 400 and where is None
    assert tidegate.logged(path="/")["reason"] == "bad_host"


def test_several_ports_are_no_port(launch, origin, pair):
    config = both(origin, pair)
    config["listeners"].append({"name": "more", "bind": "127.0.0.1:0", "tls": {}})
    assert location(launch(config), request("GET", "/", host="a.example"))[1] == "https://a.example/"


def test_challenges_of_acme_are_served(launch, origin, pair):
    challenge = {"name": "acme", "path": "/.well-known/acme-challenge/", "respond": {"body": "token"}}
    site = {"name": "site", "upstream": "app"}
    tidegate = launch(both(origin, pair, routes=[challenge, site]))
    status, _, answer = location(tidegate, request("GET", "/.well-known/acme-challenge/x", host="a.example"))
    assert status == 200 and answer.body == b"token"
    assert location(tidegate, request("GET", "/.well-known/acme-challenges", host="a.example"))[0] == 301
    # Without such a route there is nothing to serve.
    tidegate = launch(both(origin, pair, routes=[site]))
    assert location(tidegate, request("GET", "/.well-known/acme-challenge/x", host="a.example"))[0] == 301


def test_a_trusted_peer_that_ended_tls_is_not_sent_round(launch, origin, pair):
    tidegate = launch(both(origin, pair, plain={"trusted_proxies": ["127.0.0.0/8"]}))
    assert location(tidegate, request("GET", "/", "X-Forwarded-Proto: https", host="a.example"))[0] == 200
    assert location(tidegate, request("GET", "/", "X-Forwarded-Proto: http", host="a.example"))[0] == 301
    tidegate = launch(both(origin, pair))
    assert location(tidegate, request("GET", "/", "X-Forwarded-Proto: https", host="a.example"))[0] == 301


def test_a_reload_reaches_open_connections(launch, origin, pair):
    config = both(origin, pair)
    tidegate = launch(config)
    with tidegate.connect("web") as client:
        assert client.get("/").status == 301
        config["listeners"][0]["redirect_to_https"] = False
        config["listeners"][1]["tls"] = {"hsts": "1h"}
        tidegate.write(config)
        tidegate.ok("reload")
        assert client.get("/").status == 200


def test_a_name_that_changes_hands_sends_nobody_with_tls_round(launch, origin, pair):
    """Connections belong to the name that accepted them, also when it is that of a listener without TLS now."""
    tidegate = launch(basic(origin.address, certificates=[pair.entry()],
                            listeners=[{"name": "web", "bind": "127.0.0.1:0", "tls": {"hsts": "1h"}}]))
    with TlsClient(tidegate.address(), trusting(pair), "a.example") as client:
        assert client.get("/").get(HSTS) == "max-age=3600"
        tidegate.write(both(origin, pair))
        tidegate.ok("reload")
        for _ in range(2):
            answer = client.get("/")
            assert answer.status == 200 and answer.get(HSTS) is None
    with tidegate.connect("web") as client:
        assert client.get("/").status == 301


def test_hsts_is_not_said_without_tls(launch, origin, pair):
    """RFC 6797 section 7.2."""
    routes = [{"path": "/local", "respond": {"body": "x"}}, {"path": "/app", "upstream": "app"}]
    plain = basic(origin.address, routes=routes, listeners=[{"name": "web", "bind": "127.0.0.1:0"}])
    tidegate = launch(plain)
    with tidegate.connect() as client:
        assert client.get("/local").status == 200
        tidegate.write({**plain, "certificates": [pair.entry()],
                        "listeners": [{"name": "web", "bind": "127.0.0.1:0", "tls": {"hsts": "1h"}}]})
        tidegate.ok("reload")
        for path, status in (("/local", 200), ("/app", 200), ("/none", 404)):
            answer = client.get(path)
            assert answer.status == status and answer.all(HSTS) == [], path
    with TlsClient(tidegate.address(), trusting(pair), "a.example") as client:
        assert client.get("/local").all(HSTS) == ["max-age=3600"]


def over_tls(tidegate, pair, raw):
    with TlsClient(tidegate.addresses("tls")[0], trusting(pair), "a.example") as client:
        client.send(raw)
        return client.response()


@pytest.mark.parametrize("hsts, value", [("180d", "max-age=15552000"), ("0s", "max-age=0"), ("1500ms", "max-age=1")])
def test_hsts_is_in_every_answer(launch, origin, pair, hsts, value):
    routes = [{"path": "/local", "respond": {"body": "x"}}, {"path": "/moved", "redirect": {"to": "/x"}},
              {"path": "/app", "upstream": "app"}]
    tidegate = launch(both(origin, pair, tls={"hsts": hsts}, routes=routes))
    for path, status in (("/local", 200), ("/moved", 302), ("/app", 200), ("/none", 404)):
        answer = over_tls(tidegate, pair, request("GET", path))
        assert answer.status == status and answer.all(HSTS) == [value], path
    bad = over_tls(tidegate, pair, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    assert bad.status == 400 and bad.all(HSTS) == [value]


def test_what_the_origin_says_of_hsts_stands(launch, origin, pair):
    origin.handler = lambda peer, got: peer.answer(200, b"x", "strict-transport-security: max-age=5")
    tidegate = launch(both(origin, pair, tls={"hsts": "1d"}))
    assert over_tls(tidegate, pair, request("GET", "/")).all(HSTS) == ["max-age=5"]


def test_without_hsts_nothing_is_said(launch, origin, pair):
    tidegate = launch(both(origin, pair, tls={"hsts": "off"}))
    assert over_tls(tidegate, pair, request("GET", "/")).all(HSTS) == []
