"""Items 11 and 12 of the issue: what is tried again and what never; clients that leave, origins that answer early."""

from conformance.case import CHUNKED, GET, OK, POST, SMUGGLED, Row, Seen, table
from conformance.steps import (Answer, AnswerHead, Arrived, Await, Body, Ends, Failed, Freeze, Gone, HalfClose, Head,
                               Interim, Leave, NewClient, Pour, Reads, Refused, Released, Request, Reset, Signal, Thaw)

END = b"\r\n\r\n"
ASK = GET + b"\r\n"
WARM = (GET + b"\r\n", Answer(200, b"ok"))  # a connection to the origin is in the pool
WARMED = (Request(), OK)
EARLY = b"HTTP/1.1 413 Enough\r\nContent-Length: 2" + END + b"no"
LONG = POST + b"Content-Length: 100000" + END


def request(method, body=b"", target="/again"):
    framing = b"Content-Length: %d\r\n" % len(body) if body else b""
    return method.encode() + b" " + target.encode() + b" HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n" + body


def retried(name, method, *ending, body=b"", source="RFC 9110 section 9.2.2"):
    """The pooled connection goes stale with the request on it; a fresh one serves it, and the client sees nothing."""
    answer = b"" if method == "HEAD" else f"{method} /again\n".encode() + body
    return Row(name, source, client=[*WARM, request(method, body), Answer(200, answer, to=method, closes=False)],
               origin=[[*WARMED, Head() if body else Request(), *ending]],
               sees=(Seen("GET", "/"), Seen(method, "/again", cut=bool(body), connection=0),
                     Seen(method, "/again", body, connection=1)), connections=2, together=bool(body))


def once(name, octets, seen, reason, *ending, source="RFC 9110 section 9.2.2", interims=(), fresh=False):
    """The connection fails with the request on it: 502, and the origin never sees it a second time."""
    start, warm, seen_before = ((), (), ()) if fresh else (WARM, WARMED, (Seen("GET", "/"),))
    return Row(name, source, client=[*start, octets, Failed(reason, interims=interims)],
               origin=[[*warm, Request(), *ending]],
               sees=(*seen_before, seen), connections=1, reused=False)


def again(method, body=b"", **more):
    return Seen(method, "/again", body, **more)


table(
    "retries",

    # Tried again: idempotent, on a stale pooled connection.
    *[retried(f"{method} is tried again when its pooled connection was stale", method, Leave())
      for method in ("GET", "HEAD", "OPTIONS", "DELETE", "PUT")],
    retried("GET is tried again when its pooled connection was reset", "GET", Reset()),
    retried("PUT with a small body at hand is tried again, with its body", "PUT", Leave(), body=b"hello"),
    retried("DELETE with a small body at hand is tried again, with its body", "DELETE", Reset(), body=b"hello"),
    Row("A pooled connection that ended before the request came is no obstacle, not even for POST",
        "RFC 9112 section 9.3.1",
        client=[*WARM, Signal("idle"), Released(), request("POST", b"hello"), Answer(200, b"POST /again\nhello")],
        origin=[[*WARMED, Await("idle"), Leave()]], sees=(Seen("GET", "/"), again("POST", b"hello", connection=1)),
        connections=2),
    Row("It is tried again once, on a fresh connection, and not for ever", "RFC 9112 section 9.3.1",
        client=[*WARM, request("GET"), Failed("upstream_closed")],
        origin=[[*WARMED, Request(), Leave()], [Request(), Leave()]],
        sees=(Seen("GET", "/"), again("GET", connection=0), again("GET", connection=1)), connections=2, reused=False),

    # Never sent twice.
    *[once(f"{method} is never sent twice", request(method, b"hello"), again(method, b"hello"), "upstream_closed",
           Leave())
      for method in ("POST", "PATCH", "LOCK")],
    once("POST without a body is never sent twice", request("POST"), again("POST"), "upstream_closed", Leave()),
    once("POST is never sent twice, though its pooled connection was reset", request("POST", b"hello"),
         again("POST", b"hello"),
         "upstream_reset", Reset()),
    once("POST on a fresh connection is never sent twice", request("POST", b"hello"), again("POST", b"hello"),
         "upstream_closed", Leave(), fresh=True),
    once("GET on a fresh connection is sent once: it was not stale", request("GET"), again("GET"), "upstream_closed",
         Leave(), source="RFC 9112 section 9.3.1", fresh=True),
    once("GET on a fresh connection that is reset is sent once", request("GET"), again("GET"), "upstream_reset",
         Reset(), source="RFC 9112 section 9.3.1", fresh=True),
    once("Nothing is tried again after one octet of the answer", request("GET"), again("GET"), "upstream_truncated",
         b"H", Leave(), source="RFC 9112 section 9.3.1"),
    once("Nothing is tried again after half a head", request("GET"), again("GET"), "upstream_truncated",
         b"HTTP/1.1 200 OK\r\n", Leave(), source="RFC 9112 section 9.3.1"),
    once("Nothing is tried again after an interim answer", request("GET"), again("GET"), "upstream_closed",
         b"HTTP/1.1 103 Early Hints" + END, Leave(), source="RFC 9112 section 9.3.1", interims=(103,)),
    once("Nothing is tried again after an answer that is malformed", request("GET"), again("GET"),
         "upstream_bad_response",
         b"nonsense\r\n\r\n", Gone(), source="RFC 9112 section 9.3.1"),
    Row("An upload of which more is still to come is not begun anew", "RFC 9112 section 9.3.1",
        client=[*WARM, b"PUT /again HTTP/1.1\r\nHost: a\r\nContent-Length: 100000" + END + b"hello", Arrived(2),
                Signal("go"),
                Refused("upstream_closed")], origin=[[*WARMED, Head(), Reads(b"hello"), Await("go"), Leave()]],
        sees=(Seen("GET", "/"), again("PUT", cut=True)), connections=1, reused=False),

    # Clients that leave.
    Row("A client that resets cancels its request at once", "RFC 9110 section 7.6",
        client=[ASK, Arrived(1), Reset(), Released()], origin=[[Request(), Gone()]], sees=(Seen("GET", "/"),),
        reused=False),
    Row("A client that resets right behind its pipelined request cancels what is under way", "RFC 9110 section 7.6",
        client=[ASK, Arrived(1), Freeze(), SMUGGLED, Reset(), Thaw(), Released()], origin=[[Request(), Gone()]],
        sees=(Seen("GET", "/"),), reused=False),
    Row("A client that resets within its answer cancels the rest", "RFC 9110 section 7.6",
        client=[ASK, AnswerHead(200), Reads(b"part"), Reset(), Released()],
        origin=[[Request(), b"HTTP/1.1 200 OK\r\nContent-Length: 9" + END + b"part", Gone()]], sees=(Seen("GET", "/"),),
        reused=False),
    Row("A client that leaves within a long answer stops the origin", "RFC 9110 section 7.6",
        client=[ASK, AnswerHead(200), Leave(), Released()],
        origin=[[Request(), b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000" + END, Pour(1 << 30)]],
        sees=(Seen("GET", "/"),), reused=False),
    Row("A client that leaves within its upload cancels it", "RFC 9110 section 7.6",
        client=[LONG + b"part", Arrived(1), Leave(), Released()], origin=[[Head(), Reads(b"part"), Gone()]],
        sees=(Seen("POST", "/", cut=True),), reused=False),
    Row("A client that only ends its direction still gets its answers", "RFC 9112 section 9.6",
        client=[ASK + ASK, HalfClose(), Answer(200, b"GET /\n"), Answer(200, b"GET /\n")],
        sees=(Seen("GET", "/"), Seen("GET", "/"))),
    Row("A pipelined request behind the one that the client leaves is not begun", "RFC 9110 section 7.6",
        client=[ASK + SMUGGLED, Arrived(1), Reset(), Released()], origin=[[Request(), Gone()]],
        sees=(Seen("GET", "/"),), reused=False, together=True),

    # Origins that answer early.
    Row("An answer that is whole before the upload arrives, and the connection ends", "RFC 9112 section 9.5",
        client=[LONG + b"part", Answer(413, b"no", closes=True), Released()],
        origin=[[Head(), Reads(b"part"), EARLY, Gone()]],
        sees=(Seen("POST", "/", cut=True),), reused=False, together=True),
    Row("An early answer that comes in pieces ends the connection, too", "RFC 9112 section 9.6",
        client=[LONG + b"part", AnswerHead(413), Signal("head"), Reads(b"no"), SMUGGLED, Ends(), Released()],
        origin=[[Head(), Reads(b"part"), EARLY[:-2], Await("head"), b"no", Gone()]],
        sees=(Seen("POST", "/", cut=True),), reused=False),
    Row("The rest of an upload that was answered early is not read as a request", "CVE-2022-22720",
        client=[LONG + b"part", AnswerHead(413, has={"connection": "close"}), Reads(b"no"), SMUGGLED, Ends(),
                Released()],
        origin=[[Head(), Reads(b"part"), EARLY, Gone()]], sees=(Seen("POST", "/", cut=True),), reused=False,
        together=True),
    Row("Nor is the rest of a chunked one", "CVE-2022-22720",
        client=[CHUNKED + b"4\r\npart\r\n", AnswerHead(413, has={"connection": "close"}), Reads(b"no"),
                b"0" + END + SMUGGLED,
                Ends(), Released()], origin=[[Head(), Reads(b"4\r\npart\r\n"), EARLY, Gone()]],
        sees=(Seen("POST", "/", cut=True),), reused=False, together=True),
    Row("An early answer is not lost on a client that goes on sending", "RFC 9112 section 9.6",
        client=[POST + b"Content-Length: 3000000" + END, Pour(1 << 20), Answer(413, b"no", closes=True)],
        origin=[[Head(), EARLY, HalfClose(), Gone(quiet=False)]], sees=(Seen("POST", "/", cut=True),), reused=False,
        together=True),
    Row("An answer may begin while the upload runs, and both go on", "RFC 9112 section 9.5",
        client=[POST + b"Content-Length: 8" + END + b"part", AnswerHead(200), Reads(b"one "), b"two!", Reads(b"two"),
                ASK, Answer(200, b"GET /\n")],
        origin=[[Head(), b"HTTP/1.1 200 OK\r\nContent-Length: 7" + END + b"one ", Body(), b"two"]],
        sees=(Seen("POST", "/", b"parttwo!"), Seen("GET", "/", connection=0)), connections=1),
    Row("A chunked answer may begin while a chunked upload runs", "RFC 9112 section 9.5",
        client=[CHUNKED + b"1\r\na\r\n", AnswerHead(200), Reads(b"1\r\nA\r\n"), b"1\r\nb\r\n0" + END,
                Reads(b"1\r\nB\r\n0" + END),
                ASK, Answer(200, b"GET /\n")],
        origin=[[Head(), Reads(b"1\r\na\r\n"), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked" + END + b"1\r\nA\r\n",
                 Reads(b"1\r\nb\r\n0" + END), b"1\r\nB\r\n0" + END]],
        sees=(Seen("POST", "/", cut=True), Seen("GET", "/", connection=0)), connections=1),
    Row("An interim answer while the upload runs does not end it", "RFC 9110 section 15.2",
        client=[POST + b"Content-Length: 8" + END + b"part", Interim(103), b"two!", Answer(200, b"ok")],
        origin=[[Head(), b"HTTP/1.1 103 Early Hints" + END, Body(), OK]], sees=(Seen("POST", "/", b"parttwo!"),)),
    Row("An early answer with a malformed head is 502, and the connection ends", "RFC 9112 section 9.5",
        client=[LONG + b"part", Refused("upstream_bad_response"), Released()],
        origin=[[Head(), Reads(b"part"), b"nonsense" + END, Gone()]],
        sees=(Seen("POST", "/", cut=True),), reused=False),
    Row("A stranger's request is not answered by what an early answer left behind", "CVE-2022-23959",
        client=[LONG + b"part", Answer(413, b"no", closes=True), NewClient(), ASK, Answer(200, b"GET /\n")],
        origin=[[Head(), Reads(b"part"), EARLY, Gone()]],
        sees=(Seen("POST", "/", cut=True), Seen("GET", "/", connection=1)), together=True),
)
