"""Items 9 and 10 of the issue: what an origin may say, what is 502, and that a truncated answer never looks whole."""

from conformance.case import GET, OK, Row, Seen, shown, table
from conformance.steps import (Answer, Await, Broken, Cut, Dribble, Failed, Freeze, Gone, Leave, NewClient, Released,
                               Request, Reset, Signal, Thaw)

END = b"\r\n\r\n"
ASK = GET + b"\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a" + END
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked" + END
PARTLY = CHUNKED + b"4\r\npart\r\n"
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4" + END + b"evil"
SAW = (Seen("GET", "/"),)


def fields(*lines):
    return b"HTTP/1.1 200 OK\r\n" + b"".join(one + b"\r\n" for one in lines) + b"Content-Length: 2" + END + b"ok"


def length(*values, body=b"hello"):
    return b"HTTP/1.1 200 OK\r\n" + b"".join(b"Content-Length: " + one + b"\r\n" for one in values) + b"\r\n" + body


def status_line(octets):
    return octets + b"\r\nContent-Length: 2" + END + b"ok"


def bad(name, source, octets):
    """An answer that is 502. Its connection ends at once; the client's is kept."""
    return Row(name, source, client=[ASK, Failed("upstream_bad_response"), Released(), NEXT,
                                     Answer(200, b"GET /next\n")],
               origin=[[Request(), octets, Gone()]], sees=(*SAW, Seen("GET", "/next", connection=1)), connections=2)


def good(name, source, octets, answer, **more):
    return Row(name, source, client=[ASK, answer, NEXT, Answer(200, b"GET /next\n")], origin=[[Request(), octets]],
               sees=(*SAW, Seen("GET", "/next", connection=0)), connections=1, reused=True, **more)


def truncated(name, source, start, *ending, ask=ASK, part=b"part", **more):
    """An answer of which the beginning has gone to the client when it turns out to be broken."""
    return Row(name, source, client=[ask, Cut(part), Released()], origin=[[Request(), start, Await("part"), *ending]],
               sees=SAW, reused=False, **more)


def extra(name, source, octets, answer=Answer(200, b"ok"), method="GET"):
    """Octets that belong to no request: the connection they came on is not used again, and nobody gets them."""
    ask = method.encode() + b" / HTTP/1.1\r\nHost: a" + END
    return Row(name, source, client=[ask, answer, NEXT, Answer(200, b"GET /next\n"), NewClient(), NEXT,
                                     Answer(200, b"GET /next\n")],
               origin=[[Request(), octets, Gone()]],
               sees=(Seen(method, "/"), Seen("GET", "/next", connection=1), Seen("GET", "/next", connection=1)),
               connections=2, together=True)


def idle(name, source, *steps):
    """What an origin does on a connection that lies in the pool."""
    return Row(name, source, client=[ASK, Answer(200, b"ok"), Signal("idle"), Released(), NEXT,
                                     Answer(200, b"GET /next\n")],
               origin=[[Request(), OK, Await("idle"), *steps]], sees=(*SAW, Seen("GET", "/next", connection=1)),
               connections=2)


def bodiless(name, source, head, answer, method="GET"):
    """An answer without a body, which an origin sends with one: `evil` is never delivered."""
    return extra(name, source, head + b"evil", answer, method)


table(
    "answers",

    # Framing.
    good("An answer is as long as its Content-Length says", "RFC 9112 section 6.3", OK,
         Answer(200, b"ok", framing="length")),
    good("A chunked answer is framed anew, with its trailers", "RFC 9112 section 7.1",
         CHUNKED + b"2;x=y\r\nok\r\n00\r\nX-Sum: 7" + END,
         Answer(200, b"ok", framing="chunked", trailers=[("X-Sum", "7")])),
    Row("An answer that comes octet by octet is the same answer", "RFC 9112 section 2.2",
        client=[ASK, Answer(200, b"ok", has={"x-a": "b"}), NEXT, Answer(200, b"GET /next\n")],
        origin=[[Request(),
                 Dribble(b"HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked" + END + b"2\r\nok\r\n0" + END)]],
        sees=(*SAW, Seen("GET", "/next", connection=0))),
    good("An answer of length zero is one", "RFC 9110 section 8.6", b"HTTP/1.1 200 OK\r\nContent-Length: 0" + END,
         Answer(200, b"", has={"content-length": "0"})),
    truncated("The largest length of 64 bits is a length of an answer", "RFC 9110 section 8.6",
              length(b"18446744073709551615", body=b"part"), Leave()),
    truncated("The largest chunk size of 64 bits is a size in an answer", "RFC 9112 section 7.1",
              CHUNKED + b"ffffffffffffffff\r\npart",
              Leave()),
    *[bad(f"An answer whose Content-Length is `{shown(value)}` is 502", "RFC 9112 section 6.3", length(value))
      for value in (b"+5", b"-5", b"0x5", b"5a", b"5 5", b"5;x", b"", b"18446744073709551616", b"5, 5", b"5, 6",
                    b"5,")],
    bad("An answer with two different lengths is 502", "RFC 9112 section 6.3", length(b"5", b"2")),
    bad("An answer with the same length twice is 502", "RFC 9112 section 6.3", length(b"5", b"5")),
    bad("An answer of HEAD's making does not excuse a bad length", "RFC 9112 section 6.3", length(b"x", body=b"")),
    Row("Chunks win over Content-Length, and the connection is not reused", "RFC 9112 section 6.3",
        client=[ASK, Answer(200, b"ok", framing="chunked", lacks=("content-length",), closes=False), Released()],
        origin=[[Request(),
                 b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked" + END + b"2\r\nok\r\n0" + END,
                 Gone()]],
        sees=SAW, reused=False),
    Row("Chunks win over a Content-Length behind them, too", "RFC 9112 section 6.3",
        client=[ASK, Answer(200, b"ok", framing="chunked", lacks=("content-length",), closes=False), Released()],
        origin=[[Request(),
                 b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 7" + END + b"2\r\nok\r\n0" + END,
                 Gone()]],
        sees=SAW, reused=False),
    *[bad(f"An answer whose Transfer-Encoding is `{shown(value)}` is 502", "RFC 9112 section 6.1",
          b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + value + END + b"2\r\nok\r\n0" + END)
      for value in (b"gzip", b"gzip, chunked", b"chunked, chunked", b"chunked, gzip", b"identity", b"xchunked", b"",
                    b"chunked\r\nTransfer-Encoding: chunked", b"chunked\r\nTransfer-Encoding: x")],
    bad("A vertical tab before `chunked` is 502", "CVE-2022-1705",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked" + END + b"2\r\nok\r\n0" + END),

    # Status lines.
    *[good(f"Status {status} passes with its phrase", "RFC 9110 section 15",
           status_line(b"HTTP/1.1 %d Strange Thing" % status),
           Answer(status, b"ok", phrase="Strange Thing")) for status in (200, 226, 299, 399, 499, 599, 600, 799, 999)],
    good("An empty reason phrase stays empty", "RFC 9112 section 4", status_line(b"HTTP/1.1 200 "),
         Answer(200, b"ok", phrase="")),
    good("A reason phrase with octets above ASCII passes", "RFC 9112 section 4",
         status_line(b"HTTP/1.1 200 \xe4\xff ok"), Answer(200, b"ok", phrase="\xe4\xff ok")),
    good("A reason phrase with tabs and spaces passes", "RFC 9112 section 4", status_line(b"HTTP/1.1 200 a\tb  c"),
         Answer(200, b"ok", phrase="a\tb  c")),
    good("A reason phrase that looks like a status line is a phrase", "RFC 9112 section 4",
         status_line(b"HTTP/1.1 404 HTTP/1.1 200 OK"), Answer(404, b"ok", phrase="HTTP/1.1 200 OK")),
    *[bad(f"An answer that begins with `{shown(line)}` is 502", "RFC 9112 section 4", status_line(line))
      for line in (b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 099 OK", b"HTTP/1.1 000 OK", b"HTTP/1.1 OK",
                   b"HTTP/1.1 -20 OK",
                   b"HTTP/1.1 0x200 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1\t200 OK", b"HTTP/1.1200 OK",
                   b" HTTP/1.1 200 OK",
                   b"HTTP/1.2 200 OK", b"HTTP/2 200 OK", b"HTTP/2.0 200 OK", b"HTTP/0.9 200 OK", b"HTTP/11 200 OK",
                   b"http/1.1 200 OK",
                   b"HTTP 200 OK", b"ICY 200 OK", b"RTSP/1.0 200 OK", b"SSH-2.0-OpenSSH", b"ok", b"HTTP/1.1 200\x00OK",
                   b"HTTP/1.1 200 O\x00K", b"HTTP/1.1 200 O\x1bK", b"HTTP/1.1 200 O\rK", b"HTTP/1.1 200 OK\r",
                   b"HTTP/1.1 200:OK")],
    bad("An empty line before a status line is 502", "RFC 9112 section 2.2", b"\r\n" + OK),
    bad("A request is no answer", "RFC 9112 section 4", ASK),
    bad("A hello of TLS is no answer", "RFC 9112 section 4", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + END),
    bad("Bare line feeds are no line ends", "RFC 9112 section 2.2", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    bad("A bare line feed ends no status line", "RFC 9112 section 2.2",
        b"HTTP/1.1 200 OK\nContent-Length: 2" + END + b"ok"),

    # Fields.
    good("Octets above ASCII in a value pass", "RFC 9110 section 5.5", fields(b"X-A: \xe4\xff"),
         Answer(200, b"ok", has={"x-a": "\xe4\xff"})),
    good("A field may be empty", "RFC 9110 section 5.5", fields(b"X-A:"), Answer(200, b"ok", has={"x-a": ""})),
    bad("A space before the colon is 502", "RFC 9112 section 5.1", fields(b"X-A : b")),
    bad("A space before the colon of Content-Length is 502", "CVE-2023-27522",
        b"HTTP/1.1 200 OK\r\nContent-Length : 2" + END + b"ok"),
    bad("A folded field is 502", "RFC 9112 section 5.2", fields(b"X-A: b\r\n c")),
    bad("A folded field of framing is 502", "RFC 9112 section 5.2", fields(b"Transfer-Encoding:\r\n chunked")),
    bad("A line without a colon is 502", "CVE-2022-37436", fields(b"nonsense")),
    bad("An empty name is 502", "RFC 9110 section 5.1", fields(b": b")),
    bad("A name that is no token is 502", "RFC 9110 section 5.1", fields(b"X(A: b")),
    bad("NUL in a value is 502", "RFC 9110 section 5.5", fields(b"X-A: b\x00c")),
    bad("NUL in a name is 502", "RFC 9110 section 5.1", fields(b"X\x00A: b")),
    bad("A bare carriage return in a value is 502", "CVE-2023-27522", fields(b"X-A: b\rContent-Length: 9")),
    bad("A bare line feed in a value is 502", "CVE-2024-24795", fields(b"X-A: b\nContent-Length: 9")),
    bad("A control octet in a value is 502", "RFC 9110 section 5.5", fields(b"X-A: b\x1bc")),
    bad("A space before the first field is 502", "RFC 9112 section 2.2",
        b"HTTP/1.1 200 OK\r\n X-A: b\r\nContent-Length: 0" + END),
    bad("Line feed, carriage return and line feed end no head", "CVE-2024-24795",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nok"),

    # Truncation.
    Row("No answer at all is 502", "RFC 9112 section 8", client=[ASK, Failed("upstream_closed")],
        origin=[[Request(), Leave()]],
        sees=SAW, reused=False),
    Row("A reset instead of an answer is 502", "RFC 9112 section 8", client=[ASK, Failed("upstream_reset")],
        origin=[[Request(), Reset()]], sees=SAW, reused=False),
    Row("Our own answer to a HEAD that the origin failed has no body", "RFC 9110 section 9.3.2",
        client=[b"HEAD / HTTP/1.1\r\nHost: a" + END, Failed("upstream_closed", to="HEAD"), NEXT,
                Answer(200, b"GET /next\n")],
        origin=[[Request(), Leave()]], sees=(Seen("HEAD", "/"), Seen("GET", "/next"))),
    Row("Half a head is 502", "RFC 9112 section 8", client=[ASK, Failed("upstream_truncated")],
        origin=[[Request(), b"HTTP/1.1 200 OK\r\nContent-Le", Leave()]], sees=SAW, reused=False),
    Row("A head without its empty line is 502", "RFC 9112 section 8", client=[ASK, Failed("upstream_truncated")],
        origin=[[Request(), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", Leave()]], sees=SAW, reused=False),
    truncated("A body shorter than its length is cut, whether the origin closes", "RFC 9112 section 8",
              length(b"9", body=b"part"), Leave()),
    truncated("... or resets its body", "RFC 9112 section 8", length(b"9", body=b"part"), Reset()),
    truncated("A chunked answer without a last chunk is cut", "RFC 9112 section 8", PARTLY, Leave()),
    truncated("A chunked answer that is reset is cut", "RFC 9112 section 8", PARTLY, Reset()),
    truncated("A chunked answer that ends within a chunk is cut", "RFC 9112 section 8", CHUNKED + b"9\r\npart",
              Leave()),
    truncated("A chunked answer that ends within a chunk size is cut", "RFC 9112 section 8", PARTLY, b"1", Leave()),
    truncated("A chunked answer that ends before the last empty line is cut", "RFC 9112 section 8", PARTLY, b"0\r\n",
              Leave()),
    truncated("A chunked answer that ends within a trailer is cut", "RFC 9112 section 8", PARTLY, b"0\r\nX-Sum: ",
              Leave()),
    truncated("An answer until the end of the connection that is reset is cut", "RFC 9112 section 8",
              b"HTTP/1.1 200 OK" + END + b"part", Reset()),
    *[Row(f"An answer until the end of the connection never looks whole when its reset comes with its octets, {to}",
          "RFC 9112 section 8", client=[ask, Released(), Thaw(), Broken(b"part")],
          origin=[[Request(), Freeze(), b"HTTP/1.1 200 OK" + END + b"part", Reset()]], sees=SAW, reused=False)
      for to, ask in (("to HTTP/1.1", ASK), ("to HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a" + END))],
    truncated("A cut chunked answer is cut for an HTTP/1.0 client, too", "RFC 9112 section 8", PARTLY, Leave(),
              ask=b"GET / HTTP/1.0\r\nHost: a" + END),
    *[truncated(f"A chunked answer is cut at {what}", source, PARTLY, octets, Gone()) for what, source, octets in (
        ("a chunk size that is none", "RFC 9112 section 7.1", b"zz\r\n"),
        ("a chunk size with `0x`", "RFC 9112 section 7.1", b"0x1\r\nx\r\n"),
        ("a chunk size over 64 bits", "CVE-2017-7657", b"10000000000000001\r\nx\r\n"),
        ("seventeen digits", "RFC 9112 section 7.1", b"00000000000000001\r\nx\r\n"),
        ("a space before a chunk size", "RFC 9112 section 7.1", b" 1\r\nx\r\n"),
        ("a bare line feed", "CVE-2025-22871", b"1\nx\r\n"),
        ("a malformed trailer", "CVE-2024-35161", b"0\r\nnonsense\r\n\r\n"))],
    truncated("A chunked answer is cut at chunk data without CRLF", "RFC 9112 section 7.1", PARTLY, b"1\r\nxx0\r\n\r\n",
              Gone(), together=True),

    # Answers without a body.
    bodiless("The body of an answer to HEAD is never delivered", "RFC 9110 section 9.3.2",
             b"HTTP/1.1 200 OK\r\nContent-Length: 4" + END,
             Answer(200, b"", to="HEAD", has={"content-length": "4"}), "HEAD"),
    bodiless("The chunks of an answer to HEAD are never delivered", "RFC 9110 section 9.3.2", CHUNKED + b"4\r\n",
             Answer(200, b"", to="HEAD"), "HEAD"),
    bodiless("The body of a 204 is never delivered", "RFC 9110 section 15.3.5",
             b"HTTP/1.1 204 No\r\nContent-Length: 4" + END,
             Answer(204, b"", lacks=("content-length", "transfer-encoding"))),
    bodiless("The chunks of a 204 are never delivered", "RFC 9110 section 15.3.5",
             b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked" + END + b"4\r\n",
             Answer(204, b"", lacks=("content-length", "transfer-encoding"))),
    bodiless("The body of a 204 without framing is never delivered", "RFC 9110 section 15.3.5",
             b"HTTP/1.1 204 No" + END, Answer(204, b"", lacks=("content-length", "transfer-encoding"))),
    bodiless("The body of a 304 is never delivered", "RFC 9110 section 15.4.5",
             b"HTTP/1.1 304 Not\r\nContent-Length: 4" + END, Answer(304, b"")),
    bodiless("The chunks of a 304 are never delivered", "RFC 9110 section 15.4.5",
             b"HTTP/1.1 304 Not\r\nTransfer-Encoding: chunked" + END + b"4\r\n", Answer(304, b"")),
    Row("HEAD keeps the length of what GET would get, and the connection", "RFC 9110 section 9.3.2",
        client=[b"HEAD / HTTP/1.1\r\nHost: a" + END,
                Answer(200, b"", to="HEAD", has={"content-length": "12345"}, closes=False), NEXT,
                Answer(200, b"GET /next\n")], origin=[[Request(), b"HTTP/1.1 200 OK\r\nContent-Length: 12345" + END]],
        sees=(Seen("HEAD", "/"), Seen("GET", "/next", connection=0)), connections=1),
    good("A 304 keeps the length of what it stands for, and the connection", "RFC 9110 section 15.4.5",
         b"HTTP/1.1 304 Not\r\nContent-Length: 12345\r\nETag: \"x\"" + END,
         Answer(304, b"", has={"content-length": "12345", "etag": '"x"'}, closes=False)),
    good("A 204 keeps the connection", "RFC 9110 section 15.3.5", b"HTTP/1.1 204 No" + END,
         Answer(204, b"", closes=False)),

    # Octets that belong to no request.
    extra("An answer behind a complete answer is nobody's", "RFC 9112 section 9.2", OK + EVIL),
    extra("An answer behind a chunked answer is nobody's", "RFC 9112 section 9.2",
          CHUNKED + b"2\r\nok\r\n0" + END + EVIL),
    extra("One octet behind a complete answer ends the connection", "RFC 9112 section 6.3", OK + b"x"),
    extra("Empty lines behind a complete answer end the connection", "RFC 9112 section 6.3", OK + END),
    extra("An interim answer behind a complete answer ends the connection", "RFC 9112 section 9.2",
          OK + b"HTTP/1.1 100 Continue" + END),
    extra("An answer behind a 304 is nobody's", "RFC 9112 section 9.2", b"HTTP/1.1 304 Not" + END + EVIL,
          Answer(304, b"")),
    idle("An answer on an idle connection is nobody's", "RFC 9112 section 9.2", EVIL, Gone()),
    Row("An answer that came before its request is nobody's, though we look at the request first",
        "RFC 9112 section 9.2",
        client=[ASK, Answer(200, b"ok"), Freeze(), NEXT, Signal("idle"), Await("sent"), Thaw(),
                Answer(200, b"GET /next\n")],
        origin=[[Request(), OK, Await("idle"), EVIL, Signal("sent"), Gone()]],
        sees=(*SAW, Seen("GET", "/next", connection=1)), connections=2),
    Row("An answer that came before its request is nobody's, when we look at the answer first", "RFC 9112 section 9.2",
        client=[ASK, Answer(200, b"ok"), Freeze(), Signal("idle"), Await("sent"), NEXT, Thaw(),
                Answer(200, b"GET /next\n")],
        origin=[[Request(), OK, Await("idle"), EVIL, Signal("sent"), Gone()]],
        sees=(*SAW, Seen("GET", "/next", connection=1)), connections=2),
    idle("A 408 on an idle connection is nobody's", "RFC 9110 section 15.5.9",
         b"HTTP/1.1 408 Late\r\nConnection: close\r\nContent-Length: 0" + END, Gone()),
    idle("One octet on an idle connection ends it", "RFC 9112 section 9.2", b"x", Gone()),
    idle("An idle connection that the origin ends is not used again", "RFC 9112 section 9.5", Leave()),
    idle("An idle connection that the origin resets is not used again", "RFC 9112 section 9.5", Reset()),
)
