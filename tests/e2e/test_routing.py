"""Routes: the most specific wins, by host, path and method; respond, redirect, strip_prefix."""

import pytest

from support.client import Client, request
from support.daemon import basic


def said(name, **match):
    return {"name": name, **match, "respond": {"status": 200, "body": name}}


def asking(tidegate, target="/", host="test", method="GET"):
    with tidegate.connect() as client:
        client.send(request(method, target, host=host))
        response = client.response(method)
        return response.text if response.status == 200 else response.status


def test_an_exact_host_beats_a_wildcard_and_a_wildcard_beats_any(launch):
    tidegate = launch(basic(upstreams=None, routes=[
        said("any"), said("wild", host="*.example.org"), said("exact", host="a.example.org"),
        said("list", host=["one.test", "*.two.test"])]))
    for host, name in [("a.example.org", "exact"), ("A.Example.ORG", "exact"), ("a.example.org:8080", "exact"),
                       ("b.example.org", "wild"), ("x.y.example.org", "wild"), ("example.org", "any"),
                       ("badexample.org", "any"), ("one.test", "list"), ("x.two.test", "list"), ("other", "any"),
                       ("127.0.0.1", "any"), ("[::1]:80", "any")]:
        assert asking(tidegate, host=host) == name, host


def test_the_longest_path_wins_within_a_host_and_the_host_comes_first(launch):
    tidegate = launch(basic(upstreams=None, routes=[
        said("root"), said("api", path="/api/"), said("v2", path="/api/v2/"), said("host", host="h.test"),
        said("exactly", path="/file")]))
    for target, host, name in [("/", "x", "root"), ("/api/", "x", "api"), ("/api/v1", "x", "api"), ("/api/v2/x", "x", "v2"),
                               ("/api/v2/x?y=/", "x", "v2"), ("/api/v2/x", "h.test", "host"), ("/file?q", "x", "exactly"),
                               ("/API/", "x", "root"), ("/%61pi/", "x", "root"), ("//api/", "x", "root"), ("/apix", "x", "root")]:
        assert asking(tidegate, target, host) == name, (target, host)


def test_among_equals_the_first_wins_and_methods_choose(launch):
    tidegate = launch(basic(upstreams=None, routes=[
        said("get", path="/m", methods=["GET", "HEAD"]), said("post", path="/m", methods=["POST"]), said("root")]))
    assert asking(tidegate, "/m") == "get"
    assert asking(tidegate, "/m", method="POST") == "post"


def test_respond_answers_with_status_body_and_headers(launch):
    routes = [{"name": "r", "respond": {"status": 418, "body": "short and stout\n", "headers": {"X-Tea": "yes",
                                                                                             "Content-Type": "text/tea"}}}]
    tidegate = launch(basic(upstreams=None, routes=routes))
    with tidegate.connect() as client:
        response = client.get("/")
        assert (response.status, response.text, response.get("x-tea")) == (418, "short and stout\n", "yes")
        assert response.all("content-type") == ["text/tea"]
        assert response.get("date") and response.get("connection") is None
        client.send(request("HEAD"))
        assert client.response("HEAD").get("content-length") == "16"
        client.send(request("POST", "/", body=b"x" * 100000))
        response = client.response("POST")
        assert response.status == 418
        if response.get("connection") == "close":
            client.expect_end()
        else:
            assert client.get("/").status == 418, "the connection was kept: the body must have been read"
    assert tidegate.logged(route="r")["status"] == 418


def test_respond_without_a_body_has_length_zero(launch):
    tidegate = launch(basic(upstreams=None, routes=[{"name": "r", "respond": {"status": 200}}]))
    with tidegate.connect() as client:
        response = client.get("/")
        assert (response.get("content-length"), response.body) == ("0", b"")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirect_keeps_path_and_query(launch, status):
    routes = [{"name": "old", "host": "old.example.org", "redirect": {"to": "https://example.org", "status": status}}]
    tidegate = launch(basic(upstreams=None, routes=routes))
    with tidegate.connect() as client:
        response = client.get("/a/b?c=d", host="old.example.org")
        assert response.status == status
        assert response.get("location") == "https://example.org/a/b?c=d"


def test_strip_prefix_takes_the_prefix_from_the_path(launch, origin):
    routes = [{"name": "api", "path": "/v1/", "strip_prefix": "/v1", "upstream": "app"}]
    tidegate = launch(basic(origin.address, routes=routes))
    with tidegate.connect() as client:
        for target in ("/v1/users?x=/v1/", "/v1/", "/v1/v1/x"):
            assert client.get(target).status == 200
    assert [one.target for one in origin.requests] == ["/users?x=/v1/", "/", "/v1/x"]
    assert tidegate.logged(path="/v1/users?x=/v1/")["route"] == "api", "the log names what the client asked for"


def test_a_route_that_can_never_match_is_a_warning(launch):
    tidegate = launch(basic(upstreams=None, routes=[said("one"), said("never")]))
    assert "never" in tidegate.stderr and "warning" in tidegate.stderr.lower()
    assert asking(tidegate) == "one"


def test_two_listeners_serve_the_same_routes(launch):
    config = basic(upstreams=None, routes=[said("x")])
    config["listeners"] = [{"name": "web", "bind": "127.0.0.1:0"}, {"name": "six", "bind": "[::1]:0"},
                           {"name": "shared", "bind": "127.0.0.1:0", "accept": "shared"},
                           {"name": "local", "bind": "unix:@DIR@/front.sock"}]
    tidegate = launch(config)
    for name in ("web", "six", "shared", "local"):
        with tidegate.connect(name) as client:
            assert client.get("/").text == "x", name
            assert tidegate.logged(listener=name)


def test_the_short_form_is_a_whole_configuration(launch, origin):
    tidegate = launch('// the smallest\n{ "listen": "127.0.0.1:0", "upstream": "%s" }' % origin.address)
    address = tidegate.status()["listeners"][0]["addresses"][0]
    with Client(address) as client:
        assert client.get("/").body == b"hello\n"
