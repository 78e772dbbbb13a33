"""What becomes of a request on its way to an HTTP/1.1 origin: RFC 9113 sections 8.2 and 8.3, and what each version has that
the other has not."""

import re

from conformance.steps import Arrived, Gone, Released, Request
from conformance.steps import Body as ReadsBody
from conformance.steps import Head as ReadsHead
from conformance_h2.case import ASKED_AGAIN, OK, Row, Seen, served, shown, table
from conformance_h2.steps import Alive, Answer, Body, Failed, Interim
from support import hpack
from support.h2_frames import data, get, headers, post

NO = b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
X = ("x-a", "b")


def seen_as(name, source, *more, has=None, lacks=(), on="plain", **options):
    """What becomes of the fields of a GET."""
    return served(name, source, get(1, "/", *more, **options), Seen("GET", "/", has=has or {}, lacks=lacks), on=on)


def target(what, path, method="GET", source="RFC 9113 section 8.3.1"):
    return served(f"The :path `{path}` arrives as it is: {what}", source, get(1, path, method=method), Seen(method, path))


def authority(what, value):
    return served(f":authority may be {what}", "RFC 9113 section 8.3.1", get(1, authority=value),
                  Seen("GET", "/", has={"host": value, "x-forwarded-host": value}))


def failed(name, source, reason, octets, to="GET", **more):
    """A request that we answer ourselves; the connection is kept, and no origin is reached."""
    return Row(name, source, client=[octets, Failed(reason, to=to), Alive()], sees=(ASKED_AGAIN,), **more)


def answered(name, source, octets, *steps, seen=Seen("GET", "/"), ask=get(1)):
    """The origin sends `octets`; the client does `steps`."""
    return Row(name, source, client=[ask, *steps, Alive()], origin=[[Request(), *octets]], sees=(seen, ASKED_AGAIN))


table(
    "translation",

    # Targets and hosts.
    target("%2F is no slash", "/a%2Fb%2fc", source="CVE-2021-29492"),
    target("slashes are not merged", "//a///b//"),
    target("dots are not resolved", "/a/../b/./c/..", source="CVE-2019-9901"),
    target("an empty query stays", "/a?"),
    target("a broken percent sign stays", "/a%zz%"),
    target("an encoded line end stays encoded", "/a%0d%0aHost:%20evil", source="CVE-2023-25690"),
    target("a path that looks like a URL is a path", "/http://b/"),
    target("`*` goes with OPTIONS", "*", "OPTIONS"),
    Row("A fragment in a :path is refused", "CVE-2023-45539", client=[get(1, "/a#b"), Failed("bad_target"), Alive()],
        sees=(ASKED_AGAIN,)),
    authority("a name and a port", "example.org:8080"),
    authority("an address of IPv6 with a port", "[::1]:8080"),
    authority("a name in capitals", "Example.ORG"),
    served("Host stands in for :authority", "RFC 9113 section 8.3.1", get(1, "/", ("host", "other"), authority=None),
           Seen("GET", "/", has={"host": "other", "x-forwarded-host": "other"})),
    served("Host that says what :authority says comes once", "RFC 9113 section 8.3.1", get(1, "/", ("host", "test")),
           Seen("GET", "/", has={"host": "test"})),
    served("Host and :authority have no case", "RFC 9110 section 4.2.3", get(1, "/", ("host", "TEST")),
           Seen("GET", "/", has={"host": re.compile("test|TEST")})),
    served("Content-Length of zero where no body follows", "RFC 9113 section 8.1.1", get(1, "/", ("content-length", "0")),
           Seen("GET", "/", b"")),
    served(":scheme is not what the origin is told of the connection", "RFC 9113 section 8.3.1", get(1, scheme="https"),
           Seen("GET", "/", has={"x-forwarded-proto": re.compile("https?")})),
    *[served(f"The method {method} passes", "RFC 9110 section 9.1", get(1, "/m", method=method), Seen(method, "/m"))
      for method in ("DELETE", "PATCH", "PROPFIND", "QUERY")],
    failed("A method that nobody knows is not implemented", "RFC 9110 section 9.1", "method_not_implemented",
           get(1, method="BREW")),
    failed("Methods have case", "RFC 9110 section 9.1", "method_not_implemented", get(1, method="get")),
    failed("TRACE is not served unless the route names it", "RFC 9110 section 9.3.8", "method_not_allowed",
           get(1, method="TRACE")),
    failed("CONNECT without :protocol is not served", "RFC 9113 section 8.5", "method_not_allowed",
           headers(1, (":method", "CONNECT"), (":authority", "b:443"), end=False)),

    # Fields.
    seen_as("Every message carries the fields that Tidegate adds", "RFC 9110 section 7.6.3",
            has={"via": re.compile(r"2(\.0)? tidegate"), "x-forwarded-for": "127.0.0.1",
                 "x-forwarded-host": "test", "x-request-id": re.compile(r"\S+")}, lacks=("connection",)),
    seen_as("Crumbs of a cookie become one field", "RFC 9113 section 8.2.3", ("cookie", "a=b"), ("cookie", "c=d"), X,
            ("cookie", "e=f"), has={"cookie": "a=b; c=d; e=f", "x-a": "b"}),
    seen_as("One cookie stays one", "RFC 9113 section 8.2.3", ("cookie", "a=b; c=d"), has={"cookie": "a=b; c=d"}),
    seen_as("A hundred crumbs are one field, and count as one", "RFC 9113 section 8.2.3",
            *[("cookie", f"c{number}=x") for number in range(99)],
            has={"cookie": "; ".join(f"c{number}=x" for number in range(99))}),
    seen_as("Other fields that come twice stay two, in order", "RFC 9110 section 5.3", ("x-a", "1"), ("x-b", "2"),
            ("x-a", "3"), has={"x-a": ["1", "3"], "x-b": "2"}),
    seen_as("Authorization, Accept and Range pass", "RFC 9110 section 11.6.2", ("authorization", "Basic eDp5"),
            ("accept", "*/*"), ("range", "bytes=0-1"),
            has={"authorization": "Basic eDp5", "accept": "*/*", "range": "bytes=0-1"}),
    seen_as("TE of trailers is not passed on", "RFC 9110 section 10.1.4", ("te", "trailers"), lacks=("te", "connection")),
    seen_as("X-Forwarded-* of a client is replaced", "RFC 7239 section 8.1", ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "ftp"), ("forwarded", "for=1.2.3.4"),
            has={"x-forwarded-for": "127.0.0.1", "x-forwarded-proto": re.compile("https?")}, lacks=("forwarded",)),
    seen_as("`x_forwarded_for` never passes for X-Forwarded-For", "RFC 7239 section 8.1", ("x_forwarded_for", "1.2.3.4"),
            lacks=("x_forwarded_for",)),
    seen_as("`proxy` never becomes HTTP_PROXY of a CGI program", "CVE-2016-5385", ("proxy", "http://evil.example/"),
            lacks=("proxy",)),
    seen_as("HTTP2-Settings of a client is nobody's", "RFC 9113 section 3.1", ("http2-settings", "AAMAAABk"),
            lacks=("connection", "upgrade")),
    seen_as("A field that is never indexed passes", "RFC 7541 section 7.1.3", hpack.never("x-secret", "s"),
            has={"x-secret": "s"}),
    *[served(f"A value with `{shown(value)}` stays one field", "RFC 9113 section 8.2.1", get(1, "/", ("x-a", value)),
             Seen("GET", "/", has={"x-a": value.decode()})) for value in (b"a, b; c", b"a:b", b"\\r\\n", b'"x')],

    # Bodies.
    served("A body without a length is chunked to the origin", "RFC 9113 section 8.1", post(1) + data(1, b"hello", end=True),
           Seen("POST", "/", b"hello")),
    Row("A large body arrives whole, by the windows that are given", "RFC 9113 section 5.2",
        client=[post(1), Body(bytes(range(256)) * 4096), Answer(1, 200, b"POST /\n" + bytes(range(256)) * 4096), Alive()],
        sees=(Seen("POST", "/", bytes(range(256)) * 4096), ASKED_AGAIN), together=True),
    served("A body with its length keeps it", "RFC 9110 section 8.6",
           post(1, "/", ("content-length", "5")) + data(1, b"hel") + data(1, b"lo", end=True),
           Seen("POST", "/", b"hello", framing="length", has={"content-length": "5"})),
    served("The end of a body may come in an empty frame", "RFC 9113 section 6.1",
           post(1, "/", ("content-length", "5")) + data(1, b"hello") + data(1, end=True),
           Seen("POST", "/", b"hello", framing="length")),
    served("A body of GET passes", "RFC 9110 section 9.3.1", get(1, end=False) + data(1, b"hello", end=True),
           Seen("GET", "/", b"hello")),
    served("Trailers reach the origin, behind chunks", "RFC 9110 section 6.5.1",
           post(1) + data(1, b"hello") + headers(1, ("x-sum", "7"), ("x-b", "c")),
           Seen("POST", "/", b"hello", framing="chunked", trailers=[("x-sum", "7"), ("x-b", "c")])),
    served("Trailers that framing, routing or trust would need are dropped", "RFC 9110 section 6.5.1",
           post(1) + data(1, b"hello") + headers(1, ("x-sum", "7"), ("host", "evil"), ("content-length", "5"),
                                                ("trailer", "y"), ("x-forwarded-for", "1.2.3.4")),
           Seen("POST", "/", b"hello", framing="chunked", trailers=[("x-sum", "7")])),
    served("Trailers without a body", "RFC 9113 section 8.1", post(1) + headers(1, ("x-sum", "7")),
           Seen("POST", "/", b"", trailers=[("x-sum", "7")])),
    served("Empty trailers end a body", "RFC 9113 section 8.1", post(1) + data(1, b"hello") + headers(1),
           Seen("POST", "/", b"hello", trailers=[])),
    served("Trailers where a length was given end the body", "RFC 9113 section 8.1",
           post(1, "/", ("content-length", "5")) + data(1, b"hello") + headers(1, ("x-sum", "7")),
           Seen("POST", "/", b"hello")),

    # Expect and interim answers.
    Row("100 is the origin's to say, and the body waits for it", "RFC 9110 section 10.1.1",
        client=[post(1, "/", ("expect", "100-continue"), ("content-length", "5")), Interim(100),
                data(1, b"hello", end=True), Answer(1, 200, b"ok", interims=(100,)), Alive()],
        origin=[[ReadsHead(), CONTINUE, ReadsBody(), OK]],
        sees=(Seen("POST", "/", b"hello", has={"expect": "100-continue"}), ASKED_AGAIN)),
    Row("A final answer instead of 100 ends the exchange, and nothing else", "RFC 9110 section 10.1.1",
        client=[post(1, "/", ("expect", "100-continue"), ("content-length", "5")), Answer(1, 403, b"no"), Released(),
                Alive((1,))],
        origin=[[ReadsHead(), NO, Gone()]], sees=(Seen("POST", "/", cut=True), ASKED_AGAIN)),
    Row("An answer comes before the body has, and the body is taken on", "RFC 9113 section 8.1",
        client=[post(1, "/", ("content-length", "9")) + data(1, b"part"), Arrived(1), Answer(1, 403, b"no"), Released(),
                Alive((1,))],
        origin=[[ReadsHead(), NO, Gone(quiet=False)]], sees=(Seen("POST", "/", cut=True), ASKED_AGAIN)),
    failed("An expectation that nobody knows is 417", "RFC 9110 section 10.1.1", "expectation_failed",
           get(1, "/", ("expect", "miracles"))),
    answered("103 passes with its fields, before the final answer", "RFC 8297 section 2", [HINTS, OK],
             Interim(103, has={"link": "</a.css>; rel=preload"}), Answer(1, 200, b"ok", interims=(103,))),
    answered("Several interim answers pass, in order", "RFC 9110 section 15.2", [CONTINUE + HINTS + HINTS + OK],
             Answer(1, 200, b"ok", interims=(100, 103, 103))),
    answered("An interim answer before a HEAD's final one passes", "RFC 9110 section 15.2",
             [HINTS, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"], Answer(1, 200, b"", interims=(103,), to="HEAD"),
             ask=get(1, method="HEAD"), seen=Seen("HEAD", "/")),

    # Limits: the names of the errors are those of HTTP/1.
    failed("A head beyond the limit is 431", "RFC 9113 section 10.5.1", "head_too_large", get(1, "/", ("x-a", "a" * 3000)),
           on="bounded"),
    failed("Many small fields beyond the limit of octets are 431", "RFC 9113 section 10.5.1", "head_too_large",
           get(1, "/", *[("x-a", "a" * 400)] * 6), on="bounded"),
    failed("Too many fields are 431", "RFC 9113 section 10.5.1", "too_many_fields", get(1, "/", *[("x", "1")] * 20),
           on="bounded"),
    failed("Crumbs beyond the limit of octets are 431", "RFC 9113 section 8.2.3", "head_too_large",
           get(1, "/", *[("cookie", "c" * 100)] * 25), on="bounded"),
    failed("A :path beyond the limit is 414", "RFC 9110 section 4.1", "url_too_long", get(1, "/" + "t" * 256),
           on="bounded"),
    Row("A body beyond the limit that announces itself is 413", "RFC 9110 section 15.5.14",
        client=[post(1, "/", ("content-length", "1025")), Failed("body_too_large"), Alive((1,))], sees=(ASKED_AGAIN,),
        on="bounded"),
    Row("A body beyond the limit that does not is 413", "RFC 9110 section 15.5.14",
        client=[post(1) + data(1, b"b" * 1025), Failed("body_too_large"), Alive((1,))],
        sees=(Seen("POST", "/", cut=True, perhaps=True), ASKED_AGAIN), on="bounded", together=True),
    Row("A body that does not come is 408, on its stream alone", "RFC 9110 section 15.5.9",
        client=[post(1), Failed("body_idle_timeout"), Alive((1,))],
        origin=[[ReadsHead(), Gone(quiet=False)]], sees=(Seen("POST", "/", cut=True, perhaps=True), ASKED_AGAIN), on="hasty"),
    Row("An origin that takes too long is 504, on its stream alone", "RFC 9110 section 15.6.5",
        client=[get(1), Failed("upstream_response_timeout"), Released(), Alive()], origin=[[Request(), Gone()]],
        sees=(Seen("GET", "/"), ASKED_AGAIN), on="hasty"),
)
