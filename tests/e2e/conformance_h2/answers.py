"""What becomes of an HTTP/1.1 origin's answer on its way to a client of HTTP/2: framing, trailers, bodies that must not be, and
truncation, which is a reset of the stream and never a clean end."""

from conformance.steps import Arrived, Await, Gone, Leave, Released, Request, Reset, Signal
from conformance_h2.case import ASKED_AGAIN, OK, SEEN, Row, Seen, shown, table
from conformance_h2.steps import Alive, Answer, Cut, Failed, Head
from support.h2_frames import get

END = b"\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked" + END
PARTLY = CHUNKED + b"4\r\npart\r\n"
LONG = bytes(range(256)) * 2048


def good(name, source, octets, answer, method="GET", **more):
    """An answer that arrives, behind which the origin's connection is used again."""
    return Row(name, source, client=[get(1, method=method), answer, Alive()], origin=[[Request(), octets]],
               sees=(Seen(method, "/"), Seen("GET", "/alive", connection=0)), connections=1, reused=True, **more)


def bad(name, source, octets, reason="upstream_bad_response"):
    """An answer that is 502, on its stream alone."""
    return Row(name, source, client=[get(1), Failed(reason), Released(), Alive()],
               origin=[[Request(), octets, Gone()]], sees=(SEEN, ASKED_AGAIN), connections=2)


def truncated(name, start, *ending, part=b"part", source="RFC 9113 section 8.1"):
    """An answer that breaks off. Its stream is reset, another goes on, the connection is kept."""
    return Row(name, source,
               client=[get(1), Arrived(1), get(3, "/3"), Answer(3, 200, b"GET /3\n"), Cut(part), Released(), Alive((1,))],
               origin=[[Request(), start, Await("part"), *ending]], sees=(SEEN, Seen("GET", "/3"), ASKED_AGAIN))


def fields(*lines):
    return b"HTTP/1.1 200 OK\r\n" + b"".join(one + b"\r\n" for one in lines) + b"Content-Length: 2" + END + b"ok"


def bodiless(name, source, head, answer, method="GET"):
    """An answer without a body, which an origin sends with one: `evil` is never delivered, its connection not reused.
    Together: what comes after the head has been passed on may meet the next request."""
    return Row(name, source, client=[get(1, method=method), answer, Alive()], origin=[[Request(), head + b"evil", Gone()]],
               sees=(Seen(method, "/"), ASKED_AGAIN), together=True)


table(
    "answers",

    # Framing.
    good("An answer is as long as its Content-Length says", "RFC 9113 section 8.1", OK,
         Answer(1, 200, b"ok", has={"content-length": "2"})),
    good("A chunked answer has no chunks in HTTP/2", "RFC 9113 section 8.2.2", CHUNKED + b"2\r\nok\r\n0" + END,
         Answer(1, 200, b"ok", lacks=("content-length", "transfer-encoding"))),
    good("An answer of length zero is one", "RFC 9113 section 8.1", b"HTTP/1.1 200 OK\r\nContent-Length: 0" + END,
         Answer(1, 200, b"", has={"content-length": "0"})),
    good("An answer of no chunk but the last is empty", "RFC 9113 section 8.1", CHUNKED + b"0" + END, Answer(1, 200, b"")),
    Row("An answer that ends with the origin's connection ends its stream", "RFC 9113 section 8.1",
        client=[get(1), Answer(1, 200, b"until the end"), Alive()],
        origin=[[Request(), b"HTTP/1.1 200 OK" + END + b"until the end", Leave()]], sees=(SEEN, ASKED_AGAIN)),
    good("A long answer arrives whole, by the windows that we give", "RFC 9113 section 5.2",
         b"HTTP/1.1 200 OK\r\nContent-Length: %d" % len(LONG) + END + LONG, Answer(1, 200, LONG), together=True),
    good("A long chunked answer arrives whole", "RFC 9113 section 5.2",
         CHUNKED + b"%x\r\n" % len(LONG) + LONG + b"\r\n0" + END, Answer(1, 200, LONG), together=True),
    good("Trailers of the origin are trailers", "RFC 9113 section 8.1",
         CHUNKED + b"2\r\nok\r\n0\r\nX-Sum: 7\r\nX-B: c" + END, Answer(1, 200, b"ok", trailers=[("x-sum", "7"),
                                                                                         ("x-b", "c")])),
    good("Trailers behind no body at all are trailers", "RFC 9113 section 8.1", CHUNKED + b"0\r\nX-Sum: 7" + END,
         Answer(1, 200, b"", trailers=[("x-sum", "7")])),
    good("Trailers that framing needs are dropped", "RFC 9110 section 6.5.1",
         CHUNKED + b"2\r\nok\r\n0\r\nContent-Length: 9\r\nX-Sum: 7\r\nTransfer-Encoding: x\r\nConnection: close" + END,
         Answer(1, 200, b"ok", trailers=[("x-sum", "7")])),

    # Fields.
    good("Names are in lower case, values as they are", "RFC 9113 section 8.2", fields(b"X-CamelCase: VaLue", b"ETag: \"X\""),
         Answer(1, 200, b"ok", has={"x-camelcase": "VaLue", "etag": '"X"'})),
    good("Fields of the connection stay here", "RFC 9113 section 8.2.2",
         fields(b"Connection: X-Secret, keep-alive", b"X-Secret: 1", b"Keep-Alive: timeout=5", b"Proxy-Connection: x",
                b"Upgrade: h2c"),
         Answer(1, 200, b"ok", lacks=("x-secret", "connection", "keep-alive", "proxy-connection", "upgrade"))),
    Row("An origin that closes its connection closes nobody else's", "RFC 9113 section 8.2.2",
        client=[get(1), Answer(1, 200, b"ok", lacks=("connection",)), get(3, "/3"), Answer(3), Alive()],
        origin=[[Request(), fields(b"Connection: close"), Leave()]], sees=(SEEN, Seen("GET", "/3"), ASKED_AGAIN)),
    good("Set-Cookie stays apart, in order", "RFC 9110 section 5.3",
         fields(b"Set-Cookie: a=b", b"Set-Cookie: c=d", b"Set-Cookie: a=e"),
         Answer(1, 200, b"ok", has={"set-cookie": ["a=b", "c=d", "a=e"]})),
    good("Octets above ASCII in a value pass", "RFC 9110 section 5.5", fields(b"X-A: \xe4\xff"),
         Answer(1, 200, b"ok", has={"x-a": "\xe4\xff"})),
    good("A field may be empty", "RFC 9110 section 5.5", fields(b"X-A:"), Answer(1, 200, b"ok", has={"x-a": ""})),
    good("A long head is a HEADERS and its CONTINUATIONs", "RFC 9113 section 6.10",
         fields(*[b"X-%d: " % number + b"v" * 900 for number in range(30)]),
         Answer(1, 200, b"ok", has={f"x-{number}": "v" * 900 for number in range(30)}), together=True),
    *[good(f"Status {status} passes, without its phrase", "RFC 9113 section 8.3.2",
           b"HTTP/1.1 %d Strange\r\nContent-Length: 2" % status + END + b"ok", Answer(1, status, b"ok"))
      for status in (201, 299, 404, 418, 500, 599)],

    # Answers without a body.
    good("HEAD keeps the length of what GET would get", "RFC 9110 section 9.3.2",
         b"HTTP/1.1 200 OK\r\nContent-Length: 12345" + END, Answer(1, 200, b"", to="HEAD", has={"content-length": "12345"}),
         "HEAD"),
    good("A 304 keeps the length of what it stands for", "RFC 9110 section 15.4.5",
         b"HTTP/1.1 304 Not\r\nContent-Length: 12345\r\nETag: \"x\"" + END, Answer(1, 304, b"", has={"etag": '"x"'})),
    good("A 204 has no length", "RFC 9110 section 15.3.5", b"HTTP/1.1 204 No" + END,
         Answer(1, 204, b"", lacks=("content-length",))),
    bodiless("The body of an answer to HEAD is never delivered", "RFC 9110 section 9.3.2",
             b"HTTP/1.1 200 OK\r\nContent-Length: 4" + END, Answer(1, 200, b"", to="HEAD"), "HEAD"),
    bodiless("The body of a 204 is never delivered", "RFC 9110 section 15.3.5",
             b"HTTP/1.1 204 No\r\nContent-Length: 4" + END, Answer(1, 204, b"", lacks=("content-length",))),
    bodiless("The body of a 304 is never delivered", "RFC 9110 section 15.4.5",
             b"HTTP/1.1 304 Not\r\nContent-Length: 4" + END, Answer(1, 304, b"")),

    # What is 502.
    *[bad(f"An answer that begins with `{shown(line)}` is 502", "RFC 9112 section 4", line + b"\r\nContent-Length: 2" + END
          + b"ok") for line in (b"HTTP/2 200 OK", b"HTTP/1.1 99 OK", b"ok", b"HTTP/1.1 200\x00OK")],
    bad("A bare line feed in a value is 502", "CVE-2024-24795", fields(b"X-A: b\nContent-Length: 9")),
    bad("NUL in a value is 502", "RFC 9110 section 5.5", fields(b"X-A: b\x00c")),
    bad("A name that is no token is 502", "RFC 9110 section 5.1", fields(b"X(A: b")),
    bad("A 101 that nobody asked for is 502, HTTP/2 has none", "RFC 9113 section 8.6",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x" + END, "upstream_upgrade_failed"),
    bad("An interim answer with a body is 502", "RFC 9110 section 15.2",
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 2" + END + b"ok"),
    Row("No answer at all is 502", "RFC 9113 section 8.1", client=[get(1), Failed("upstream_closed"), Alive()],
        origin=[[Request(), Leave()]], sees=(SEEN, ASKED_AGAIN)),
    Row("A reset instead of an answer is 502", "RFC 9113 section 8.1", client=[get(1), Failed("upstream_reset"), Alive()],
        origin=[[Request(), Reset()]], sees=(SEEN, ASKED_AGAIN)),
    Row("Half a head is 502", "RFC 9113 section 8.1", client=[get(1), Failed("upstream_truncated"), Alive()],
        origin=[[Request(), b"HTTP/1.1 200 OK\r\nContent-Le", Leave()]], sees=(SEEN, ASKED_AGAIN)),

    # Truncation.
    truncated("A body shorter than its length resets its stream, whether the origin closes",
              b"HTTP/1.1 200 OK\r\nContent-Length: 9" + END + b"part", Leave()),
    truncated("... or resets", b"HTTP/1.1 200 OK\r\nContent-Length: 9" + END + b"part", Reset()),
    truncated("A chunked answer without a last chunk resets its stream", PARTLY, Leave()),
    truncated("A chunked answer that is reset resets its stream", PARTLY, Reset()),
    truncated("A chunked answer that ends before the last empty line resets its stream", PARTLY, b"0\r\n", Leave()),
    truncated("A chunked answer that ends within a trailer resets its stream", PARTLY, b"0\r\nX-Sum: ", Leave()),
    truncated("An answer until the end of the connection that is reset resets its stream",
              b"HTTP/1.1 200 OK" + END + b"part", Reset()),
    truncated("A chunk size that is none resets the stream", PARTLY, b"zz\r\n", Gone()),
    truncated("A malformed trailer resets the stream", PARTLY, b"0\r\nnonsense" + END, Gone(), source="CVE-2024-35161"),

    # Octets that belong to no request.
    Row("An answer behind a complete answer is nobody's", "RFC 9112 section 9.2",
        client=[get(1), Answer(1, 200, b"ok"), get(3, "/3"), Answer(3, 200, b"GET /3\n")],
        origin=[[Request(), OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4" + END + b"evil", Gone()]],
        sees=(SEEN, Seen("GET", "/3", connection=1)), connections=2, together=True),
    Row("Streams use one connection to the origin after the other", "RFC 9113 section 5",
        client=[get(1), Answer(), get(3, "/3"), Answer(3), get(5, "/5"), Answer(5)],
        sees=(SEEN, Seen("GET", "/3", connection=0), Seen("GET", "/5", connection=0)), connections=1, reused=True),
    Row("An answer whose head comes long before its body is begun at once", "RFC 9113 section 8.1",
        client=[get(1), Head(), Signal("head"), Answer(1, 200, b"ok"), Alive()],
        origin=[[Request(), OK[:-2], Await("head"), b"ok"]], sees=(SEEN, ASKED_AGAIN)),
)
