"""Header fields on their way: hop-by-hop ones go, our own come, everything else passes as it is."""

import re
from email.utils import parsedate_to_datetime

import pytest

from support.client import request
from support.daemon import basic


def sent(tidegate, origin, *fields, **options):
    """The head that the origin got for a request with these fields."""
    with tidegate.connect() as client:
        client.send(request("GET", "/", *fields, **options))
        assert client.response().status == 200
    return origin.requests[-1]


def answered(tidegate, origin, *fields):
    """The head that the client got for a response with these fields."""
    origin.handler = lambda peer, _: peer.answer(200, b"x", *fields)
    with tidegate.connect() as client:
        return client.get("/")


# What passes.

def test_end_to_end_fields_arrive_in_order_with_their_case_and_duplicates(tidegate, origin):
    fields = ["X-One: 1", "x-TWO: 2", "Cookie: a=b", "X-One: 3", "Accept: */*", "X-Empty:", "X-Odd: a,  b;c=\"d\"\t e", "Via-Not: x"]
    head = sent(tidegate, origin, *fields)
    got = [(name, value) for name, value in head.fields if name.lower() in ("x-one", "x-two", "cookie", "accept", "x-empty", "x-odd", "via-not")]
    assert got == [("X-One", "1"), ("x-TWO", "2"), ("Cookie", "a=b"), ("X-One", "3"), ("Accept", "*/*"), ("X-Empty", ""),
                   ("X-Odd", "a,  b;c=\"d\"\t e"), ("Via-Not", "x")]


def test_octets_above_ascii_in_values_pass(tidegate, origin):
    head = sent(tidegate, origin, "X-Name: J\xf6rg \xff")
    assert head.get("x-name") == "J\xf6rg \xff"
    assert answered(tidegate, origin, "X-Name: caf\xe9").get("x-name") == "caf\xe9"


def test_response_fields_arrive_in_order_with_duplicates(tidegate, origin):
    response = answered(tidegate, origin, "Set-Cookie: a=1; Path=/", "Set-Cookie: b=2", "Server: origin/1", "ETag: \"x\"")
    assert response.all("set-cookie") == ["a=1; Path=/", "b=2"], "Set-Cookie is never joined"
    assert (response.get("server"), response.get("etag")) == ("origin/1", '"x"')


def test_the_host_arrives_as_sent(tidegate, origin):
    assert sent(tidegate, origin, host="Example.ORG:8080").get("host") == "Example.ORG:8080"


# Hop-by-hop.

@pytest.mark.parametrize("field", ["Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "TE: gzip", "Upgrade: h2c",
                                   "Connection: keep-alive"])
def test_a_hop_by_hop_field_of_a_request_stays_here(tidegate, origin, field):
    head = sent(tidegate, origin, field)
    name = field.split(":")[0].lower()
    assert name not in head.names(), head.raw


def test_what_connection_names_in_a_request_stays_here(tidegate, origin):
    head = sent(tidegate, origin, "Connection: X-Secret, keep-alive ,,x-other", "X-Secret: 1", "X-OTHER: 2", "X-Kept: 3")
    assert head.get("x-kept") == "3"
    assert not {"x-secret", "x-other", "connection"} & set(head.names())


@pytest.mark.parametrize("name", ["Host", "Content-Length", "X-Forwarded-For", "Via"])
def test_connection_cannot_name_away_what_the_proxy_needs(tidegate, origin, name):
    """CVE-2021-33197, CVE-2022-31813: a client must not strip what the origin relies on."""
    origin.handler = lambda peer, got: peer.answer(200, got.body)
    with tidegate.connect() as client:
        client.send(request("POST", "/", f"Connection: close, {name}", body=b"abc"))
        assert client.response("POST").body == b"abc"
    assert name.lower() in origin.requests[0].names()


@pytest.mark.parametrize("field", ["Keep-Alive: timeout=5", "Proxy-Connection: close", "Upgrade: h2c", "Connection: X-Secret",
                                   "Proxy-Authenticate: Basic"])
def test_a_hop_by_hop_field_of_a_response_stays_here(tidegate, origin, field):
    response = answered(tidegate, origin, field, "X-Secret: 1")
    name = field.split(":")[0].lower()
    if name == "proxy-authenticate":
        return  # RFC 9110 section 11.7.1: it is for the client whose proxy asked; either way is defensible
    assert name not in response.names(), response.raw
    if name == "connection":
        assert response.get("x-secret") is None


def test_te_trailers_may_be_passed_and_nothing_else_of_te(tidegate, origin):
    head = sent(tidegate, origin, "TE: trailers, gzip;q=0.5", "Connection: TE")
    assert head.get("te") in (None, "trailers")


def test_fields_that_may_not_be_trailers_are_dropped(tidegate, origin):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
                  b"Host: x\r\nX-Sum: 1\r\nTrailer: y\r\nConnection: close\r\nTE: z\r\n\r\n")
        peer.expect_gone()
    origin.next(script)
    with tidegate.connect() as client:
        assert client.get("/", "TE: trailers").trailers == [("X-Sum", "1")]


# What Tidegate adds for the origin.

def test_the_client_is_named_to_the_origin(tidegate, origin):
    port = tidegate.port()
    head = sent(tidegate, origin, host="example.org:99")
    assert head.get("x-forwarded-for") == "127.0.0.1"
    assert head.get("x-forwarded-proto") == "http"
    assert head.get("x-forwarded-host") == "example.org:99"
    assert head.get("x-forwarded-port") == str(port)


def test_what_an_untrusted_client_says_of_itself_is_replaced(tidegate, origin):
    head = sent(tidegate, origin, "X-Forwarded-For: 1.2.3.4", "x-forwarded-for: 5.6.7.8", "X-Forwarded-Proto: https",
                "X-Forwarded-Host: evil", "X-Forwarded-Port: 1", "Forwarded: for=1.2.3.4")
    assert head.get("x-forwarded-for") == "127.0.0.1"
    assert (head.get("x-forwarded-proto"), head.get("x-forwarded-host")) == ("http", "test")
    assert head.get("x-forwarded-port") != "1"
    assert head.get("forwarded") is None


def test_what_a_trusted_proxy_says_is_appended_to(launch, origin):
    tidegate = launch(basic(origin.address, trusted_proxies=["127.0.0.0/8"]))
    head = sent(tidegate, origin, "X-Forwarded-For: 1.2.3.4", "X-Forwarded-For: 10.0.0.1", "X-Forwarded-Proto: https",
                "X-Forwarded-Host: public.example", "X-Forwarded-Port: 443")
    joined = ", ".join(head.all("x-forwarded-for"))
    assert re.split(r",\s*", joined) == ["1.2.3.4", "10.0.0.1", "127.0.0.1"]
    assert (head.get("x-forwarded-proto"), head.get("x-forwarded-host")) == ("https", "public.example")
    assert head.get("x-forwarded-port") == "443"


def test_trusted_proxies_of_a_listener_count_instead_of_the_general_ones(launch, origin):
    config = basic(origin.address, trusted_proxies=["127.0.0.0/8"])
    config["listeners"] = [{"name": "web", "bind": "127.0.0.1:0", "trusted_proxies": ["10.0.0.0/8"]}]
    head = sent(launch(config), origin, "X-Forwarded-For: 1.2.3.4")
    assert head.get("x-forwarded-for") == "127.0.0.1"


def test_x_forwarded_fields_can_be_switched_off(launch, origin):
    tidegate = launch(basic(origin.address, forwarded={"x_forwarded": False}))
    head = sent(tidegate, origin)
    assert not [name for name in head.names() if name.startswith("x-forwarded-")]


def test_rfc_7239_forwarded_can_be_switched_on(launch, origin):
    tidegate = launch(basic(origin.address, forwarded={"rfc7239": True}))
    head = sent(tidegate, origin, "Forwarded: for=1.2.3.4", host="example.org")
    value = head.get("forwarded")
    parts = dict(part.strip().lower().split("=", 1) for part in value.split(";"))
    assert parts["for"].strip('"') == "127.0.0.1"
    assert parts["proto"] == "http" and parts["host"].strip('"') == "example.org"


def test_via_names_us_both_ways_and_is_appended_to(tidegate, origin):
    head = sent(tidegate, origin, "Via: 1.0 before")
    assert re.fullmatch(r"1\.0 before, ?1\.1 tidegate", ", ".join(head.all("via"))), head.all("via")
    response = answered(tidegate, origin, "Via: 1.1 behind")
    assert re.fullmatch(r"1\.1 behind, ?1\.1 tidegate", ", ".join(response.all("via"))), response.all("via")


def test_via_can_be_switched_off(launch, origin):
    tidegate = launch(basic(origin.address, forwarded={"via": False}))
    assert sent(tidegate, origin).get("via") is None
    assert answered(tidegate, origin).get("via") is None


def test_a_date_is_added_when_the_origin_sends_none(tidegate, origin):
    date = answered(tidegate, origin).get("date")
    assert re.fullmatch(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", date)
    parsedate_to_datetime(date)
    kept = answered(tidegate, origin, "Date: Sun, 06 Nov 1994 08:49:37 GMT").all("date")
    assert kept == ["Sun, 06 Nov 1994 08:49:37 GMT"]


def test_every_request_gets_an_id_that_the_log_names(tidegate, origin):
    ids = [sent(tidegate, origin).get("x-request-id") for _ in range(3)]
    assert len(set(ids)) == 3 and all(ids)
    assert tidegate.logged(id=ids[1])["status"] == 200


def test_an_id_of_a_trusted_proxy_is_kept(launch, origin):
    tidegate = launch(basic(origin.address, trusted_proxies=["127.0.0.1"]))
    assert sent(tidegate, origin, "X-Request-Id: abc-123").all("x-request-id") == ["abc-123"]


def test_a_second_id_never_reaches_the_origin(tidegate, origin):
    assert len(sent(tidegate, origin, "X-Request-Id: mine").all("x-request-id")) == 1


# Rules of a route.

def test_header_rules_set_add_and_remove_both_ways(launch, origin):
    rules = {"request": {"set": {"X-Set": "new", "Host": "inside.example"}, "add": {"X-Add": "two"}, "remove": ["Cookie"]},
             "response": {"set": {"X-Frame-Options": "DENY"}, "add": {"Set-Cookie": "t=1"}, "remove": ["Server"]}}
    tidegate = launch(basic(origin.address, routes=[{"name": "r", "upstream": "app", "headers": rules}]))
    head = sent(tidegate, origin, "X-Set: old", "x-set: older", "X-Add: one", "Cookie: secret")
    assert (head.all("x-set"), head.all("x-add"), head.get("cookie")) == (["new"], ["one", "two"], None)
    assert head.all("host") == ["inside.example"]
    response = answered(tidegate, origin, "Server: origin", "X-Frame-Options: ALLOW", "Set-Cookie: o=1")
    assert (response.get("server"), response.all("x-frame-options")) == (None, ["DENY"])
    assert response.all("set-cookie") == ["o=1", "t=1"]
