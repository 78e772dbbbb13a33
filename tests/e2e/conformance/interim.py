"""Items 7 and 8 of the issue: interim answers, Expect, Max-Forwards; and what an HTTP/1.0 peer may be told."""

from conformance.case import GET, NOTHING, OK, POST, SMUGGLED, Row, Seen, forwarded, refused, shown, table
from conformance.steps import (Answer, AnswerHead, Arrived, Await, Body, Dribble, Ends, Failed, Gone, Head, Interim,
                               Leave,
                               NewClient, Reads, Refused, Released, Request, Reset, Signal)

END = b"\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue" + END
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload" + END
REFUSAL = b"HTTP/1.1 403 No\r\nContent-Length: 2" + END + b"no"
EXPECTING = POST + b"Expect: 100-continue\r\nContent-Length: 5" + END
NEXT = b"GET /next HTTP/1.1\r\nHost: a" + END


def answered(name, source, octets, *steps, seen=Seen("GET", "/"), ask=GET + b"\r\n", **more):
    """The origin sends `octets`; the client does `steps`, then asks again and gets the answer to that."""
    return Row(name, source, client=[ask, *steps, NEXT, Answer(200, b"GET /next\n")], origin=[[Request(), *octets]],
               sees=(seen, Seen("GET", "/next")), **more)


def bad_interim(name, source, octets, reason="upstream_bad_response", ask=GET + b"\r\n", closes=False):
    return Row(name, source, client=[ask, (Refused if closes else Failed)(reason), Released()],
               origin=[[Request(), octets, Gone()]], sees=(Seen("GET", "/"),), reused=False)


def hops(value, method=b"OPTIONS", target=b"/"):
    return method + b" " + target + b" HTTP/1.1\r\nHost: a\r\nMax-Forwards: " + value + END


def http10(*lines, start=b"GET / HTTP/1.0\r\nHost: a\r\n", body=b""):
    return start + b"".join(one + b"\r\n" for one in lines) + b"\r\n" + body


table(
    "interim",

    # Interim answers.
    answered("103 passes with its fields, before the final answer", "RFC 8297 section 2", [HINTS, OK],
             Interim(103, has={"link": "</a.css>; rel=preload"}, phrase="Early Hints"), Answer(200, b"ok")),
    answered("102 passes", "RFC 9110 section 15.2", [b"HTTP/1.1 102 Processing" + END, OK], Interim(102),
             Answer(200, b"ok")),
    answered("100 passes although nobody expected it", "RFC 9110 section 15.2.1", [CONTINUE, OK], Interim(100),
             Answer(200, b"ok")),
    answered("A 1xx that nobody knows passes", "RFC 9110 section 15.2", [b"HTTP/1.1 199 Whatever\r\nX-A: b" + END, OK],
             Interim(199, has={"x-a": "b"}, phrase="Whatever"), Answer(200, b"ok")),
    answered("Several interim answers pass, in order", "RFC 9110 section 15.2", [CONTINUE, HINTS, HINTS, CONTINUE, OK],
             Answer(200, b"ok", interims=(100, 103, 103, 100))),
    answered("Interim answers in one segment with the final one are told apart", "RFC 9110 section 15.2",
             [CONTINUE + HINTS + HINTS + OK], Answer(200, b"ok", interims=(100, 103, 103))),
    answered("Interim answers that come octet by octet are the same", "RFC 9110 section 15.2",
             [Dribble(HINTS + CONTINUE + OK)], Answer(200, b"ok", interims=(103, 100))),
    answered("Fifty interim answers are no end of patience", "RFC 9110 section 15.2", [HINTS * 50, OK],
             Answer(200, b"ok", interims=(103,) * 50)),
    answered("An interim answer before a HEAD's final one passes", "RFC 9110 section 15.2",
             [HINTS, b"HTTP/1.1 200 OK\r\nContent-Length: 5" + END], Answer(200, interims=(103,), to="HEAD"),
             ask=b"HEAD / HTTP/1.1\r\nHost: a" + END, seen=Seen("HEAD", "/")),
    answered("An interim answer before a chunked one passes", "RFC 9110 section 15.2",
             [HINTS + b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked" + END + b"2\r\nok\r\n0" + END],
             Answer(200, b"ok", interims=(103,), framing="chunked")),
    answered("An interim answer with `close` does not end the client's connection", "RFC 9110 section 7.6.1",
             [b"HTTP/1.1 103 Early Hints\r\nConnection: close" + END, OK], Interim(103, lacks=("connection",)),
             Answer(200, b"ok", closes=False)),
    Row("An interim answer without a final one is 502", "RFC 9110 section 15.2",
        client=[GET + b"\r\n", Failed("upstream_closed", interims=(103,)), Released()],
        origin=[[Request(), HINTS, Leave()]],
        sees=(Seen("GET", "/"),), reused=False),
    bad_interim("An interim answer with a body is 502", "RFC 9110 section 15.2",
                b"HTTP/1.1 103 Early Hints\r\nContent-Length: 2" + END + b"ok"),
    bad_interim("An interim answer with chunks is 502", "RFC 9112 section 6.1",
                b"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked" + END + b"0" + END),
    bad_interim("A malformed interim answer is 502", "RFC 9112 section 5.1",
                b"HTTP/1.1 103 Early Hints\r\nX : y" + END),
    bad_interim("A 101 that nobody asked for is 502", "RFC 9110 section 15.2.2",
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x" + END,
                "upstream_upgrade_failed"),
    bad_interim("A bare 101 is 502", "RFC 9110 section 15.2.2", b"HTTP/1.1 101 Switching Protocols" + END,
                "upstream_upgrade_failed"),
    bad_interim("A 101 with an answer behind it is 502, and the answer is nobody's", "RFC 9110 section 15.2.2",
                b"HTTP/1.1 101 Switching Protocols" + END + OK, "upstream_upgrade_failed"),

    # Expect.
    Row("100 is the origin's to say, and the body waits for it", "RFC 9110 section 10.1.1",
        client=[EXPECTING, Interim(100), b"hello", Answer(200, b"POST /\nhello", closes=False), NEXT,
                Answer(200, b"GET /next\n")],
        origin=[[Head(), CONTINUE, Body(), b"HTTP/1.1 200 OK\r\nContent-Length: 12" + END + b"POST /\nhello"]],
        sees=(Seen("POST", "/", b"hello", has={"expect": "100-continue"}), Seen("GET", "/next"))),
    Row("A client that does not wait for 100 is served", "RFC 9110 section 10.1.1",
        client=[EXPECTING + b"hello", Answer(200, b"POST /\nhello"), NEXT, Answer(200, b"GET /next\n")],
        sees=(Seen("POST", "/", b"hello"), Seen("GET", "/next"))),
    Row("A final answer instead of 100 ends the exchange, and the body is not waited for", "CVE-2024-24791",
        client=[EXPECTING, Answer(403, b"no", closes=True), Released()],
        origin=[[Head(), REFUSAL, Gone()]], sees=(Seen("POST", "/", cut=True),), reused=False, together=True),
    Row("A refusal that comes in pieces cannot say that the connection ends; it ends all the same",
        "RFC 9110 section 10.1.1",
        client=[EXPECTING, AnswerHead(403), Signal("head"), Reads(b"no"), Ends(), Released()],
        origin=[[Head(), REFUSAL[:-2], Await("head"), b"no", Gone()]], sees=(Seen("POST", "/", cut=True),),
        reused=False),
    Row("A body that was promised and refused is not read as a request", "CVE-2024-24791",
        client=[POST + b"Expect: 100-continue\r\nContent-Length: 1000" + END,
                AnswerHead(403, has={"connection": "close"}),
                Reads(b"no"), SMUGGLED, Ends()],
        origin=[[Head(), REFUSAL, Gone()]], sees=(Seen("POST", "/", cut=True),), reused=False, together=True),
    Row("A body that was promised, refused and sent all the same is a body", "CVE-2024-24791",
        client=[POST + b"Expect: 100-continue\r\nContent-Length: %d" % len(SMUGGLED) + END + SMUGGLED,
                Answer(403, b"no")],
        origin=[[Head(), REFUSAL, Body()]], sees=(Seen("POST", "/", SMUGGLED),), together=True),
    Row("A chunked body that was promised and refused is not waited for", "RFC 9110 section 10.1.1",
        client=[POST + b"Expect: 100-continue\r\nTransfer-Encoding: chunked" + END, Answer(403, b"no", closes=True),
                Released()],
        origin=[[Head(), REFUSAL, Gone()]], sees=(Seen("POST", "/", cut=True),), reused=False, together=True),
    Row("Early hints before 100 do not invite the body", "RFC 9110 section 15.2",
        client=[EXPECTING, Interim(103), Interim(100), b"hello", Answer(200, b"ok")],
        origin=[[Head(), HINTS, CONTINUE, Body(), OK]], sees=(Seen("POST", "/", b"hello"),)),
    Row("An origin that fails before 100 is 502, and the connection ends", "RFC 9110 section 10.1.1",
        client=[EXPECTING, Refused("upstream_closed")], origin=[[Head(), Leave()]], sees=(Seen("POST", "/", cut=True),),
        reused=False),
    Row("A body that was invited and does not come is 408", "RFC 9110 section 10.1.1",
        client=[EXPECTING, Interim(100), Refused("body_idle_timeout"), Released()], origin=[[Head(), CONTINUE, Gone()]],
        sees=(Seen("POST", "/", cut=True),), reused=False, on="hasty"),
    Row("An invitation that does not come is 504, and the body is not waited for", "RFC 9110 section 10.1.1",
        client=[EXPECTING, Refused("upstream_response_timeout"), Released()], origin=[[Head(), Gone()]],
        sees=(Seen("POST", "/", cut=True),), reused=False, on="hasty"),
    Row("An expectation of a request that we answer ourselves is answered at once", "RFC 9110 section 10.1.1",
        client=[b"POST /own/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5" + END,
                Answer(200, b"pong\n", closes=True)], sees=NOTHING),
    Row("A client that leaves while it waits for 100 takes its request along", "RFC 9110 section 10.1.1",
        client=[EXPECTING, Arrived(1), Reset(), Released()], origin=[[Head(), Gone()]],
        sees=(Seen("POST", "/", cut=True),), reused=False),
    forwarded("The expectation has no case", "RFC 9110 section 10.1.1",
              POST + b"Expect: 100-Continue\r\nContent-Length: 5" + END + b"hello", Seen("POST", "/", b"hello")),
    refused("An expectation that nobody knows is 417", "RFC 9110 section 10.1.1", GET + b"Expect: miracles" + END,
            "expectation_failed"),
    refused("An expectation beside 100-continue is 417", "RFC 9110 section 10.1.1",
            POST + b"Expect: 100-continue, miracles\r\nContent-Length: 5" + END + b"hello", "expectation_failed"),
    refused("A folded expectation is refused", "CVE-2025-32094",
            b"OPTIONS / HTTP/1.1\r\nHost: a\r\nExpect:\r\n 100-continue" + END, "bad_request"),
    Row("HTTP/1.0 expects nothing: its body is read, 100 is not passed on", "RFC 9110 section 10.1.1",
        client=[http10(b"Expect: 100-continue", b"Content-Length: 5", start=b"POST / HTTP/1.0\r\nHost: a\r\n",
                       body=b"hello"),
                Answer(200, b"ok", interims=(), closes=True)],
        origin=[[Request(), CONTINUE, OK]], sees=(Seen("POST", "/", b"hello"),)),

    # Max-Forwards.
    Row("OPTIONS with no hop left is answered here", "RFC 9110 section 7.6.2",
        client=[hops(b"0"), Answer(204, b"", lacks=("content-length", "transfer-encoding"), closes=False), NEXT,
                Answer(200, b"GET /next\n")], sees=(Seen("GET", "/next"),)),
    Row("OPTIONS * with no hop left is answered here", "RFC 9110 section 7.6.2",
        client=[hops(b"0", target=b"*"), Answer(204, b"", closes=False)], sees=NOTHING),
    *[forwarded(f"Max-Forwards: {before} of OPTIONS arrives as {after}", "RFC 9110 section 7.6.2",
                hops(before.encode()), Seen("OPTIONS", "/", has={"max-forwards": after}))
      for before, after in (("1", "0"), ("10", "9"), ("007", "6"), ("99999999999999999999", "4294967294"))],
    *[Row(f"Max-Forwards: `{shown(value)}` of OPTIONS is refused", "RFC 9110 section 7.6.2",
          client=[hops(value), Failed("bad_request")], sees=NOTHING)
      for value in (b"", b"-1", b"+1", b"x", b"1, 2", b"0x1", b"1\r\nMax-Forwards: 0")],
    forwarded("Max-Forwards of other methods is left alone", "RFC 9110 section 7.6.2", hops(b"0", method=b"GET"),
              Seen("GET", "/", has={"max-forwards": "0"})),
    forwarded("Max-Forwards cannot be nominated away", "RFC 9110 section 7.6.2", hops(b"5\r\nConnection: Max-Forwards"),
              Seen("OPTIONS", "/", has={"max-forwards": "4"})),
    forwarded("TRACE passes where the route names it, one hop less", "RFC 9110 section 9.3.8",
              hops(b"5", b"TRACE", b"/trace/x"), Seen("TRACE", "/trace/x", has={"max-forwards": "4"})),
    Row("TRACE with no hop left is never answered with what it said", "RFC 9110 section 9.3.8",
        client=[hops(b"0\r\nCookie: secret", b"TRACE", b"/trace/x"), Failed("method_not_allowed")], sees=NOTHING),

    # HTTP/1.0 clients.
    Row("An HTTP/1.0 client gets our version, its answer and the end", "RFC 9110 section 6.2",
        client=[http10(), Answer(200, b"GET /\n", closes=True)], sees=(Seen("GET", "/"),), reused=True),
    Row("An HTTP/1.0 client gets no interim answer", "RFC 9110 section 15.2",
        client=[http10(), Answer(200, b"ok", interims=(), closes=True)],
        origin=[[Request(), CONTINUE, HINTS, HINTS, OK]],
        sees=(Seen("GET", "/"),)),
    Row("An HTTP/1.0 client gets no chunks, and the end of the connection for them", "RFC 9112 section 6.1",
        client=[http10(b"Connection: keep-alive"), Answer(200, b"okok", framing="close", lacks=("transfer-encoding",))],
        origin=[[Request(),
                 b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked" + END + b"2\r\nok\r\n2\r\nok\r\n0\r\nX-Sum: 7"
                 + END]],
        sees=(Seen("GET", "/"),)),
    Row("An HTTP/1.0 client that asks for it keeps its connection", "RFC 9112 section 9.3",
        client=[http10(b"Connection: keep-alive"), Answer(200, b"GET /\n", has={"connection": "keep-alive"}),
                http10(b"Connection: Keep-Alive"), Answer(200, b"GET /\n", has={"connection": "keep-alive"}),
                http10(), Answer(200, b"GET /\n", closes=True)], sees=(Seen("GET", "/"),) * 3),
    Row("Proxy-Connection keeps nothing", "RFC 9112 section 9.3",
        client=[http10(b"Proxy-Connection: keep-alive"), Answer(200, closes=True)], sees=(Seen("GET", "/"),)),
    Row("An HTTP/1.0 client without Host is served, and the origin gets one", "RFC 9112 section 3.2",
        client=[b"GET / HTTP/1.0" + END, Answer(200, closes=True)], sees=(Seen("GET", "/", has={"host": ""}),)),
    Row("What follows an HTTP/1.0 request without keep-alive is not read", "RFC 9112 section 9.3",
        client=[http10() + SMUGGLED, Answer(200, b"GET /\n", closes=True)], sees=(Seen("GET", "/"),), together=True),
    Row("An HTTP/1.0 body has a length", "RFC 9110 section 8.6",
        client=[http10(b"Content-Length: 5", start=b"POST / HTTP/1.0\r\nHost: a\r\n", body=b"hello"),
                Answer(200, closes=True)],
        sees=(Seen("POST", "/", b"hello"),)),
    Row("An HTTP/1.0 POST without a length is 411, and what follows is not read", "RFC 9110 section 15.5.12",
        client=[http10(start=b"POST / HTTP/1.0\r\nHost: a\r\n") + SMUGGLED, Refused("length_required")], sees=NOTHING,
        together=True),
    Row("The body behind a 411 is thrown away: a reset could take the answer away", "RFC 9112 section 9.6",
        client=[http10(start=b"POST / HTTP/1.0\r\nHost: a\r\n"), Refused("length_required"), b"b" * 1000000],
        sees=NOTHING),

    # HTTP/1.0 origins.
    answered("An answer of HTTP/1.0 is passed on in our version", "RFC 9110 section 6.2",
             [b"HTTP/1.0 200 OK\r\nContent-Length: 2" + END + b"ok"], Answer(200, b"ok", closes=False), reused=True),
    Row("A connection of HTTP/1.0 without keep-alive is not reused", "RFC 9112 section 9.3",
        client=[GET + b"\r\n", Answer(200, b"ok"), Released()],
        origin=[[Request(), b"HTTP/1.0 200 OK\r\nContent-Length: 2" + END + b"ok", Ends()]], sees=(Seen("GET", "/"),),
        reused=False),
    Row("A connection of HTTP/1.0 with keep-alive is reused", "RFC 9112 section 9.3",
        client=[GET + b"\r\n", Answer(200, b"ok"), NewClient(), NEXT, Answer(200, b"GET /next\n")],
        origin=[[Request(), b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2" + END + b"ok"]],
        sees=(Seen("GET", "/"), Seen("GET", "/next", connection=0)), connections=1, reused=True),
    answered("An answer that ends with the connection gets chunks for an HTTP/1.1 client", "RFC 9112 section 6.3",
             [b"HTTP/1.0 200 OK" + END + b"until the end", Leave()],
             Answer(200, b"until the end", framing="chunked", closes=False)),
    Row("An answer that ends with the connection does so for an HTTP/1.0 client", "RFC 9112 section 6.3",
        client=[http10(), Answer(200, b"until the end", framing="close")],
        origin=[[Request(), b"HTTP/1.1 200 OK" + END + b"until the end", Leave()]], sees=(Seen("GET", "/"),)),
    Row("Chunks of an HTTP/1.0 origin are 502", "RFC 9112 section 6.1",
        client=[GET + b"\r\n", Failed("upstream_bad_response"), Released()],
        origin=[[Request(), b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked" + END + b"0" + END, Gone()]],
        sees=(Seen("GET", "/"),), reused=False),
)
