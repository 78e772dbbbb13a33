"""Item 6 of the issue: first everything of one connection is stripped, then ours is added."""

import re

from conformance.case import GET, OK, POST, Row, Seen, forwarded, table
from conformance.steps import Answer, Interim, Request

END = b"\r\n\r\n"
OURS = {"host": "a", "via": "1.1 tidegate", "x-forwarded-for": "127.0.0.1", "x-forwarded-host": "a",
        "x-forwarded-proto": "http",
        "x-forwarded-port": re.compile(r"\d+"), "x-request-id": re.compile(r"\S+")}


def with_fields(*lines, start=GET):
    return start + b"".join(one + b"\r\n" for one in lines) + b"\r\n"


def upward(name, source, *lines, has=None, lacks=(), on="plain"):
    """What becomes of the fields of a request. Ours are there whatever they say."""
    return forwarded(name, source, with_fields(*lines),
                     Seen("GET", "/", has={**OURS, **(has or {})}, lacks=("connection", *lacks)), on=on)


def downward(name, source, *lines, has=None, lacks=(), **more):
    """What becomes of the fields of an answer."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + b"".join(one + b"\r\n" for one in lines) + b"\r\nok"
    return Row(name, source, client=[GET + b"\r\n", Answer(200, b"ok", has=has or {}, lacks=lacks, closes=False)],
               origin=[[Request(), answer]], sees=(Seen("GET", "/"),), **more)


table(
    "forwarding",

    # Nominations of a client.
    *[upward(f"A client cannot nominate {name.decode()} away", source, b"Connection: " + name)
      for name, source in ((b"Host", "CVE-2021-33197"), (b"Via", "RFC 9110 section 7.6.1"),
                           (b"X-Forwarded-For", "CVE-2022-31813"),
                           (b"x-forwarded-host", "CVE-2022-31813"), (b"X-Forwarded-Proto", "CVE-2022-31813"),
                           (b"X-Forwarded-Port", "CVE-2022-31813"), (b"X-Request-Id", "RFC 9110 section 7.6.1"))],
    forwarded("A client cannot nominate Content-Length away", "CVE-2021-33197",
              with_fields(b"Connection: Content-Length", b"Content-Length: 5", start=POST) + b"hello",
              Seen("POST", "/", b"hello", has={"content-length": "5"}, lacks=("connection",))),
    forwarded("A client cannot nominate Transfer-Encoding away", "CVE-2021-33197",
              with_fields(b"Connection: Transfer-Encoding", b"Transfer-Encoding: chunked",
                          start=POST) + b"5\r\nhello\r\n0" + END,
              Seen("POST", "/", b"hello", framing="chunked", lacks=("connection",))),
    upward("A client cannot nominate Forwarded away", "RFC 7239 section 8.1", b"Connection: Forwarded",
           has={"forwarded": re.compile(r'for="?127\.0\.0\.1"?;.*')}, on="naming"),
    upward("What Connection names goes, all of its lines, in any case", "RFC 9110 section 7.6.1",
           b"X-A: 1", b"Connection: x-A", b"x-a: 2", b"X-B: 3", has={"x-b": "3"}, lacks=("x-a",)),
    upward("Connection may come in several lines", "RFC 9110 section 5.3",
           b"Connection: x-a", b"X-A: 1", b"Connection: keep-alive, x-b", b"X-B: 2", b"X-C: 3", has={"x-c": "3"},
           lacks=("x-a", "x-b")),
    upward("Connection may have empty elements", "RFC 9110 section 5.6.1",
           b"Connection: ,, x-a ,\t, x-b,", b"X-A: 1", b"X-B: 2", b"X-C: 3", has={"x-c": "3"}, lacks=("x-a", "x-b")),
    upward("An empty Connection names nothing", "RFC 9110 section 7.6.1", b"Connection:", b"X-C: 3", has={"x-c": "3"}),
    upward("Connection that names itself goes all the same", "RFC 9110 section 7.6.1", b"Connection: connection",
           b"X-C: 3", has={"x-c": "3"}),
    upward("A nomination of what is not there is no matter", "RFC 9110 section 7.6.1", b"Connection: x-none", b"X-C: 3",
           has={"x-c": "3"}),
    upward("Nominations do not take the next field along", "RFC 9110 section 7.6.1", b"Connection: x-a", b"X-AB: 1",
           has={"x-ab": "1"}),
    Row("`close` among nominations closes, and the nominated go", "RFC 9112 section 9.6",
        client=[with_fields(b"Connection: x-a, Close", b"X-A: 1"), Answer(200, b"GET /\n", closes=True)],
        sees=(Seen("GET", "/", lacks=("x-a", "connection")),), reused=True),
    Row("`close` beside keep-alive closes", "RFC 9112 section 9.6",
        client=[with_fields(b"Connection: keep-alive", b"Connection: close"), Answer(200, closes=True)],
        sees=(Seen("GET", "/"),)),
    Row("What follows a request with `close` is not read", "RFC 9112 section 9.6",
        client=[with_fields(b"Connection: close") + GET + b"\r\n", Answer(200, closes=True)], sees=(Seen("GET", "/"),),
        together=True),

    # Fields of one connection.
    *[upward(f"{line.split(b':')[0].decode()} of a client stays here", source, line,
             lacks=(line.split(b":")[0].decode(),))
      for line, source in ((b"Keep-Alive: timeout=5", "RFC 9112 section 9.3"),
                           (b"Proxy-Connection: keep-alive", "RFC 9112 section 9.3"),
                           (b"TE: gzip", "RFC 9110 section 10.1.4"), (b"Upgrade: websocket", "RFC 9110 section 7.8"))],
    upward("`TE: trailers` of a client is not passed on, ours would be our own", "RFC 9110 section 10.1.4",
           b"Connection: TE", b"TE: trailers, gzip;q=0.5", lacks=("te",)),
    upward("Authorization, Cookie and Accept pass", "RFC 9110 section 11.6.2", b"Authorization: Basic eDp5",
           b"Cookie: a=b",
           b"Cookie: c=d", b"Accept: */*", has={"authorization": "Basic eDp5", "cookie": ["a=b", "c=d"],
                                                "accept": "*/*"}),
    upward("Range and conditions pass", "RFC 9110 section 14.2", b"Range: bytes=0-1", b'If-None-Match: "x"',
           has={"range": "bytes=0-1", "if-none-match": '"x"'}),

    # What is said of a client.
    upward("X-Forwarded-For of a client is replaced, all of its lines", "RFC 7239 section 8.1",
           b"X-Forwarded-For: 1.2.3.4",
           b"x-forwarded-for: 5.6.7.8"),
    upward("X-Forwarded-Proto, -Host and -Port of a client are replaced", "RFC 7239 section 8.1",
           b"X-Forwarded-Proto: https",
           b"X-Forwarded-Host: evil", b"X-Forwarded-Port: 1"),
    upward("Any X-Forwarded-* of a client goes", "RFC 7239 section 8.1", b"X-Forwarded-Prefix: /evil",
           b"X-Forwarded-Server: evil", lacks=("x-forwarded-prefix", "x-forwarded-server")),
    upward("Forwarded of a client goes", "RFC 7239 section 8.1", b"Forwarded: for=1.2.3.4", lacks=("forwarded",)),
    upward("Forwarded of a client is replaced where ours is on", "RFC 7239 section 4", b"Forwarded: for=1.2.3.4",
           has={"forwarded": 'for=127.0.0.1;host="a";proto=http'}, on="naming"),
    forwarded("Forwarded quotes a host with a port", "RFC 7239 section 4", b"GET / HTTP/1.1\r\nHost: [::1]:80" + END,
              Seen("GET", "/", has={"forwarded": 'for=127.0.0.1;host="[::1]:80";proto=http'}), on="naming"),
    forwarded("Forwarded cannot be broken by a Host with a semicolon", "RFC 7239 section 8.1",
              b"GET / HTTP/1.1\r\nHost: a;for=1.2.3.4" + END,
              Seen("GET", "/", has={"forwarded": 'for=127.0.0.1;host="a;for=1.2.3.4";proto=http'}), on="naming"),
    upward("X-Request-Id of a client that is not trusted is replaced", "RFC 9110 section 7.6.3", b"X-Request-Id: mine",
           has={"x-request-id": re.compile(r"(?!mine)\S+")}),
    forwarded("X-Forwarded-For of a trusted proxy is continued, in one field", "RFC 7239 section 4",
              with_fields(b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-For: 5.6.7.8"),
              Seen("GET", "/", has={"x-forwarded-for": "1.2.3.4, 5.6.7.8, 127.0.0.1"}), on="trusting"),
    forwarded("X-Forwarded-Proto and -Host of a trusted proxy stay", "RFC 7239 section 4",
              with_fields(b"X-Forwarded-Proto: https", b"X-Forwarded-Host: public"),
              Seen("GET", "/", has={"x-forwarded-proto": "https", "x-forwarded-host": "public"}), on="trusting"),
    forwarded("Forwarded of a trusted proxy is continued", "RFC 7239 section 4", with_fields(b"Forwarded: for=1.2.3.4"),
              Seen("GET", "/", has={"forwarded": 'for=1.2.3.4, for=127.0.0.1;host="a";proto=http'}), on="trusting"),
    forwarded("A trusted proxy cannot nominate X-Forwarded-For away either", "CVE-2022-31813",
              with_fields(b"X-Forwarded-For: 1.2.3.4", b"Connection: X-Forwarded-For"),
              Seen("GET", "/", has={"x-forwarded-for": "1.2.3.4, 127.0.0.1"}), on="trusting"),
    forwarded("Names that pass for X-Forwarded-* are dropped even from a trusted proxy", "RFC 7239 section 8.1",
              with_fields(b"X_Forwarded_For: 1.2.3.4"),
              Seen("GET", "/", has={"x-forwarded-for": "127.0.0.1"}, lacks=("x_forwarded_for",)), on="trusting"),

    # Via.
    upward("Via of a client is continued", "RFC 9110 section 7.6.3", b"Via: 1.0 before",
           has={"via": "1.0 before, 1.1 tidegate"}),
    upward("Via in several lines becomes one", "RFC 9110 section 7.6.3", b"Via: 1.0 one", b"Via: 1.1 two",
           has={"via": "1.0 one, 1.1 two, 1.1 tidegate"}),
    Row("Via names the version that we received", "RFC 9110 section 7.6.3",
        client=[b"GET / HTTP/1.0\r\nHost: a" + END, Answer(200)],
        sees=(Seen("GET", "/", has={"via": "1.0 tidegate"}),)),
    downward("Via of an answer is continued", "RFC 9110 section 7.6.3", b"Via: 1.1 behind",
             has={"via": "1.1 behind, 1.1 tidegate"}),
    Row("Via of an answer names the version of the origin", "RFC 9110 section 7.6.3",
        client=[GET + b"\r\n", Answer(200, b"ok", has={"via": "1.0 tidegate"})],
        origin=[[Request(), b"HTTP/1.0 200 OK\r\nContent-Length: 2" + END + b"ok"]], sees=(Seen("GET", "/"),)),

    # Answers.
    downward("Set-Cookie is never joined", "RFC 9110 section 5.3", b"Set-Cookie: a=1, b", b"X-A: b", b"Set-Cookie: c=2",
             has={"set-cookie": ["a=1, b", "c=2"]}),
    downward("Fields of an answer keep their order and stay apart", "RFC 9110 section 5.3", b"X-A: 2", b"X-A: 1",
             b"WWW-Authenticate: Basic", b"WWW-Authenticate: Bearer",
             has={"x-a": ["2", "1"], "www-authenticate": ["Basic", "Bearer"]}),
    downward("What Connection of an answer names goes", "RFC 9110 section 7.6.1", b"Connection: x-a,, X-B", b"X-A: 1",
             b"x-b: 2",
             b"X-C: 3", has={"x-c": "3"}, lacks=("connection", "x-a", "x-b")),
    downward("An origin cannot nominate framing, Via or Date away", "RFC 9110 section 7.6.1",
             b"Connection: Content-Length, Via, Date", b"Date: Sun, 06 Nov 1994 08:49:37 GMT",
             has={"content-length": "2", "via": "1.1 tidegate", "date": "Sun, 06 Nov 1994 08:49:37 GMT"},
             lacks=("connection",)),
    *[downward(f"{line.split(b':')[0].decode()} of an origin stays here", source, line,
               lacks=(line.split(b":")[0].decode(),))
      for line, source in ((b"Keep-Alive: timeout=5", "RFC 9112 section 9.3"),
                           (b"Proxy-Connection: close", "RFC 9112 section 9.3"),
                           (b"Upgrade: h2", "RFC 9110 section 7.8"), (b"TE: trailers", "RFC 9110 section 10.1.4"))],
    downward("A Date is added where there is none", "RFC 9110 section 6.6.1",
             has={"date": re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT")}),
    downward("Server and Date of the origin stay", "RFC 9110 section 10.2.4", b"Server: x/1",
             b"Date: Sun, 06 Nov 1994 08:49:37 GMT", has={"server": "x/1", "date": "Sun, 06 Nov 1994 08:49:37 GMT"}),
    Row("An interim answer is stripped as a final one is", "RFC 9110 section 7.6.1",
        client=[GET + b"\r\n", Interim(103, has={"link": "</a>", "via": "1.1 tidegate"},
                                       lacks=("connection", "x-a", "keep-alive")),
                Answer(200, b"ok")],
        origin=[[Request(),
                 b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x-a\r\nX-A: 1\r\nKeep-Alive: 5" + END, OK]],
        sees=(Seen("GET", "/"),)),
    Row("Trailers of an answer are stripped as its fields are", "RFC 9110 section 6.5.1",
        client=[with_fields(b"TE: trailers", b"Connection: TE"), Answer(200, b"ok", trailers=[("X-Sum", "7")])],
        origin=[[Request(), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked" + END + b"2\r\nok\r\n0\r\nHost: evil\r\n"
                 b"Connection: x\r\nVia: 1.1 evil\r\nTE: x\r\nX-Sum: 7" + END]], sees=(Seen("GET", "/"),)),
    Row("`close` of the origin ends its connection and not the client's", "RFC 9112 section 9.6",
        client=[GET + b"\r\n", Answer(200, b"ok", closes=False), GET + b"\r\n", Answer(200, b"GET /\n")],
        origin=[[Request(), b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2" + END + b"ok"]],
        sees=(Seen("GET", "/", connection=0), Seen("GET", "/", connection=1)), connections=2),
    Row("A connection to the origin serves one client after the other", "RFC 9112 section 9.3",
        client=[GET + b"\r\n", Answer(200, b"GET /\n"), GET + b"\r\n", Answer(200, b"GET /\n")],
        sees=(Seen("GET", "/", connection=0), Seen("GET", "/", connection=0)), connections=1, reused=True),
    Row("Pipelined requests are answered in order", "RFC 9112 section 9.3.2",
        client=[b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(8)),
                *[Answer(200, b"GET /%d\n" % n) for n in range(8)]],
        sees=tuple(Seen("GET", f"/{n}") for n in range(8))),
)
