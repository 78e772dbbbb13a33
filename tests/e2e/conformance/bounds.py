"""Item 5 of the issue: everything that a peer can make longer has a bound, and every wait has an end.

The configuration "bounded" allows heads of 2 KiB with 10 fields, targets of 256 octets and bodies of 1 KiB; "hasty" has
time-outs of 300 ms."""

from conformance.case import CHUNKED, GET, NOTHING, OK, POST, SMUGGLED, Row, Seen, forwarded, refused, table
from conformance.steps import (Answer, Arrived, Await, Cut, Ends, Failed, Gone, Pour, Refused, Released, Request,
                               Signal, Trickle)

END = b"\r\n\r\n"
CUT = (Seen("POST", "/", cut=True, perhaps=True),)


def head_of(size, start=GET):
    """A request head of exactly `size` octets."""
    filler = size - len(start) - len(b"X-A: ") - len(END)
    return start + b"X-A: " + b"a" * filler + END


def target_of(size):
    return b"GET /" + b"t" * (size - 1) + b" HTTP/1.1\r\nHost: a" + END


def bounded(*arguments, **more):
    return refused(*arguments, on="bounded", **more)


def bounded_chunks(name, source, octets, reason):
    return Row(name, source, client=[CHUNKED + octets + SMUGGLED, Refused(reason)], sees=CUT, reused=False,
               on="bounded")


def bounded_answer(name, source, *octets):
    """An answer that is refused for its size; the connection that it came on is not kept."""
    return Row(name, source, client=[GET + b"\r\n", Failed("upstream_head_too_large"), Released()],
               origin=[[Request(), *octets, Gone()]], sees=(Seen("GET", "/"),), reused=False, on="bounded")


def late(name, source, client, reason, sees=NOTHING, **more):
    return Row(name, source, client=[*client, Refused(reason)], sees=sees, on="hasty", **more)


def late_answer(name, source, *steps, interims=(), kind=None):
    """An origin that takes too long: 504, and the late answer meets nobody."""
    return Row(name, source, client=[GET + b"\r\n", kind or Failed("upstream_response_timeout", interims=interims),
                                     Released()],
               origin=[[Request(), *steps]], sees=(Seen("GET", "/"),), reused=False, on="hasty")


table(
    "bounds",

    # The head of a request.
    forwarded("A head of exactly the limit passes", "RFC 9110 section 5.4", head_of(2048),
              Seen("GET", "/", has={"x-a": "a" * (2048 - len(GET) - 9)}), on="bounded"),
    bounded("A head of one octet more does not", "RFC 9110 section 5.4", head_of(2049), "head_too_large"),
    bounded("A field that never ends is refused", "CVE-2019-18801", GET + b"X-A: " + b"a" * 4096, "head_too_large"),
    bounded("A name that never ends is refused", "RFC 9110 section 5.4", GET + b"a" * 4096, "head_too_large"),
    bounded("White space that never ends is refused", "RFC 9110 section 5.4", GET + b"X-A:" + b" " * 4096,
            "head_too_large"),
    bounded("Many short fields are bounded by their octets as well", "RFC 9110 section 5.4",
            GET + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 300) for n in range(8)) + b"\r\n", "head_too_large"),
    forwarded("Ten fields pass", "RFC 9110 section 5.4", GET + b"X: 1\r\n" * 9 + b"\r\n",
              Seen("GET", "/", has={"x": ["1"] * 9}), on="bounded"),
    bounded("Eleven fields do not", "RFC 9110 section 5.4", GET + b"X: 1\r\n" * 10 + b"\r\n", "too_many_fields"),
    bounded("Fields that are dropped count as well", "RFC 9110 section 5.4", GET + b"Keep-Alive: 1\r\n" * 10 + b"\r\n",
            "too_many_fields"),
    forwarded("A target of exactly the limit passes", "RFC 9112 section 3", target_of(256),
              Seen("GET", "/" + "t" * 255), on="bounded"),
    bounded("A target of one octet more does not", "RFC 9112 section 3", target_of(257), "url_too_long"),
    bounded("A target that never ends is refused", "RFC 9112 section 3", b"GET /" + b"t" * 4096, "url_too_long"),
    bounded("An absolute target counts whole", "RFC 9112 section 3",
            b"GET http://a/" + b"t" * 250 + b" HTTP/1.1\r\nHost: a" + END,
            "url_too_long"),
    bounded("A query counts as well", "RFC 9112 section 3", b"GET /?" + b"q" * 256 + b" HTTP/1.1\r\nHost: a" + END,
            "url_too_long"),
    bounded("A method that never ends is refused", "RFC 9112 section 3", b"G" * 4096, "method_not_implemented"),

    # Bodies and their framing.
    forwarded("A body of exactly the limit passes", "RFC 9110 section 15.5.14",
              POST + b"Content-Length: 1024" + END + b"b" * 1024, Seen("POST", "/", b"b" * 1024), on="bounded"),
    Row("A body that announces one octet more is not waited for", "RFC 9110 section 15.5.14",
        client=[POST + b"Content-Length: 1025" + END, Refused("body_too_large")], sees=NOTHING, on="bounded"),
    Row("Chunks that add up to more than the limit end the request", "RFC 9110 section 15.5.14",
        client=[CHUNKED + b"200\r\n" + b"b" * 512 + b"\r\n", Arrived(1), b"201\r\n" + b"b" * 513 + b"\r\n",
                Refused("body_too_large"), Released()], sees=(Seen("POST", "/", cut=True),), reused=False,
        on="bounded"),
    bounded_chunks("Trailers over the limit of a head are refused", "CVE-2023-46589",
                   b"0\r\nX-A: " + b"a" * 2048 + END, "head_too_large"),
    bounded_chunks("A trailer that never ends is refused", "CVE-2023-46589", b"0\r\nX-A: " + b"a" * 4096,
                   "head_too_large"),
    bounded_chunks("Eleven trailers are refused", "CVE-2023-46589", b"0\r\n" + b"X: 1\r\n" * 11 + b"\r\n",
                   "too_many_fields"),
    bounded_chunks("A chunk extension that never ends is refused", "CVE-2024-22019", b"1;" + b"e" * 20000,
                   "bad_request"),
    bounded_chunks("Chunk extensions that add up are refused", "CVE-2023-39326",
                   (b"1;" + b"e" * 200 + b"\r\nx\r\n") * 100, "bad_request"),
    bounded_chunks("A chunk size that never ends is refused", "CVE-2024-22019", b"0" * 20000, "bad_request"),
    forwarded("Many chunks of one octet are no attack", "CVE-2023-39326", CHUNKED + b"1\r\nx\r\n" * 1000 + b"0" + END,
              Seen("POST", "/", b"x" * 1000), on="bounded"),
    forwarded("A short extension on each of many chunks is no attack", "RFC 9112 section 7.1.1",
              CHUNKED + b"1;a=b\r\nx\r\n" * 1000 + b"0" + END, Seen("POST", "/", b"x" * 1000), on="bounded"),

    # The head of an answer.
    bounded_answer("An answer with a head over the limit is 502", "RFC 9110 section 5.4",
                   b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 2048 + b"\r\nContent-Length: 0" + END),
    bounded_answer("An answer with a field that never ends is 502", "RFC 9110 section 5.4",
                   b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 4096),
    bounded_answer("An answer with a reason phrase that never ends is 502", "RFC 9112 section 4",
                   b"HTTP/1.1 200 " + b"O" * 4096),
    bounded_answer("An answer with eleven fields is 502", "RFC 9110 section 5.4",
                   b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 10 + b"Content-Length: 0" + END),
    bounded_answer("An interim answer with a head over the limit is 502", "RFC 9110 section 15.2",
                   b"HTTP/1.1 103 Early Hints\r\nLink: " + b"a" * 4096),
    Row("Trailers of an answer over the limit cut it visibly", "RFC 9112 section 7.1.2",
        client=[GET + b"\r\n", Cut(b"part"), Released()],
        origin=[[Request(), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked" + END + b"4\r\npart\r\n", Await("part"),
                 b"0\r\nX-A: " + b"a" * 4096, Gone()]], sees=(Seen("GET", "/"),), reused=False, on="bounded"),
    Row("A chunk extension of an answer that never ends cuts it visibly", "CVE-2023-39326",
        client=[GET + b"\r\n", Cut(b"part"), Released()],
        origin=[[Request(), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked" + END + b"4\r\npart\r\n", Await("part"),
                 b"4;", Pour(1 << 20)]], sees=(Seen("GET", "/"),), reused=False, on="bounded"),

    # Time, for a client.
    late("A head that does not end is 408", "RFC 9110 section 15.5.9", [GET], "request_head_timeout"),
    late("A head that comes octet by octet is 408 at the same time", "RFC 9110 section 15.5.9", [GET, Trickle()],
         "request_head_timeout"),
    late("A request line that comes octet by octet is 408 at the same time", "RFC 9110 section 15.5.9",
         [b"GET /", Trickle(b"t")], "request_head_timeout"),
    late("Whole fields, one after the other, do not move the time either", "RFC 9110 section 15.5.9",
         [GET, Trickle(b"X-A: b\r\n")], "request_head_timeout"),
    late("The time of a head starts anew with each request, not with each octet", "RFC 9112 section 9.5",
         [GET + b"\r\n", Answer(200, b"GET /\n"), GET, Trickle()], "request_head_timeout", sees=(Seen("GET", "/"),)),
    Row("A connection without a request is closed without a word", "RFC 9112 section 9.5", client=[Ends()], on="hasty"),
    Row("A kept connection without a further request is closed without a word", "RFC 9112 section 9.5",
        client=[GET + b"\r\n", Answer(200, b"GET /\n", closes=False), Ends()], sees=(Seen("GET", "/"),), on="hasty"),
    late("A body that stops is 408, and the request is not completed", "RFC 9110 section 15.5.9",
         [POST + b"Content-Length: 10" + END + b"hello", Arrived(1)], "body_idle_timeout",
         sees=(Seen("POST", "/", cut=True),), reused=False),
    late("A chunk size that comes octet by octet is 408", "RFC 9110 section 15.5.9",
         [CHUNKED + b"3\r\nabc\r\n", Arrived(1), b"1;", Trickle()], "body_idle_timeout",
         sees=(Seen("POST", "/", cut=True),), reused=False),
    late("Trailers that come octet by octet are 408", "RFC 9110 section 15.5.9",
         [CHUNKED + b"3\r\nabc\r\n", Arrived(1), b"0\r\nX-A: ", Trickle()], "body_idle_timeout",
         sees=(Seen("POST", "/", cut=True),), reused=False),

    # Time, for an origin.
    late_answer("An answer that does not come is 504", "RFC 9110 section 15.6.5", Gone()),
    late_answer("A head of an answer that comes octet by octet is 504 at the same time", "RFC 9110 section 15.6.5",
                b"HTTP/1.1 200 OK\r\nX-A: ", Trickle()),
    late_answer("Interim answers do not put the final one off", "RFC 9110 section 15.6.5",
                Trickle(b"HTTP/1.1 103 Early Hints" + END), interims=None),
    late_answer("An answer that stops in its body is cut visibly", "RFC 9112 section 8",
                b"HTTP/1.1 200 OK\r\nContent-Length: 10" + END + b"part", Gone(), kind=Cut(b"part")),
    late_answer("A chunk size of an answer that comes octet by octet is cut visibly", "RFC 9112 section 8",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked" + END + b"4\r\npart\r\n1;", Trickle(),
                kind=Cut(b"part")),
    Row("A pooled connection that is not used ends", "RFC 9112 section 9.5",
        client=[GET + b"\r\n", Answer(200, b"ok"), Signal("asked"), Released()],
        origin=[[Request(), OK, Await("asked"), Ends()]],
        sees=(Seen("GET", "/"),), reused=False, on="hasty"),
)
