"""Item 13 of the issue: a tunnel begins after a 101 that the client asked for, and for nothing else."""

import re

from conformance.case import GET, NOTHING, OK, POST, SMUGGLED, Row, Seen, refused, table
from conformance.steps import (Answer, AnswerHead, Arrived, Await, Dribble, Ends, Failed, Gone, HalfClose, Leave,
                               Logged, Reads, Refused, Released, Request, Reset, Signal, Trickle)

END = b"\r\n\r\n"
ASK = GET + b"Connection: Upgrade\r\nUpgrade: raw/1" + END
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw/1" + END
SWITCHED = AnswerHead(101, has={"connection": "upgrade", "upgrade": "raw/1"},
                      lacks=("content-length", "transfer-encoding"))
ASKED = (Seen("GET", "/", has={"connection": "upgrade", "upgrade": "raw/1"}),)
NEXT = b"GET /next HTTP/1.1\r\nHost: a" + END


def asking(*lines, start=GET):
    return start + b"".join(one + b"\r\n" for one in lines) + b"\r\n"


def received(client):
    return len(client.received)


def tunnel(name, source, client, *origin, ask=ASK, head=SWITCHED, sees=ASKED, switch=SWITCH, **more):
    return Row(name, source, client=[ask, head, *client], origin=[[Request(), switch, *origin]], sees=sees,
               reused=False, **more)


def not_offered(name, source, *lines, start=GET, ask=None, **more):
    """An upgrade that is not passed on. An origin that switches all the same is out of order."""
    seen = Seen("GET", "/", lacks=("upgrade", "connection"), **more)
    return Row(name, source, client=[ask or asking(*lines, start=start), Answer(200, b"GET /\n", lacks=("upgrade",))],
               sees=(seen,))


def bad_switch(name, source, octets, ask=ASK, sees=ASKED, reason="upstream_upgrade_failed"):
    """A 101 that begins no tunnel: 502, and octets behind it are nobody's."""
    return Row(name, source, client=[ask, Failed(reason), Released(), NEXT, Answer(200, b"GET /next\n")],
               origin=[[Request(), octets, Gone()]], sees=(*sees, Seen("GET", "/next", connection=1)), connections=2)


def stays_http(name, source, octets, answer, **more):
    """An answer that refuses the upgrade: what follows is HTTP, both ways."""
    return Row(name, source, client=[ASK, answer, NEXT, Answer(200, b"GET /next\n")], origin=[[Request(), octets]],
               sees=(*ASKED, Seen("GET", "/next", connection=0)), connections=1, reused=True, **more)


table(
    "tunnels",

    # After a 101.
    tunnel("Octets go both ways after a 101, whatever they are", "RFC 9110 section 7.8",
           [b"ping\x00\xff\r\n\r\n", Reads(b"pong\x00\xfe\r\n\r\n"), Leave(), Released()],
           Reads(b"ping\x00\xff\r\n\r\n"), b"pong\x00\xfe\r\n\r\n", Gone()),
    tunnel("A request within a tunnel is data", "RFC 9110 section 7.8",
           [SMUGGLED, Reads(b"ok"), Leave(), Released()], Reads(SMUGGLED), b"ok", Gone()),
    tunnel("An answer within a tunnel is data", "RFC 9110 section 7.8",
           [Reads(OK + OK), Leave(), Released()], OK + OK, Gone()),
    tunnel("What the client sends with its request arrives behind the 101", "RFC 9110 section 7.8",
           [Reads(b"heard"), Leave(), Released()], Reads(b"early"), b"heard", Gone(), ask=ASK + b"early"),
    Row("What the client sends before the 101 comes arrives behind it", "RFC 9110 section 7.8",
        client=[ASK, Arrived(1), b"early", Signal("sent"), SWITCHED, Reads(b"heard"), Leave(), Released()],
        origin=[[Request(), Await("sent"), SWITCH, Reads(b"early"), b"heard", Gone()]], sees=ASKED, reused=False),
    tunnel("What the origin sends with its 101 arrives", "RFC 9110 section 7.8",
           [Reads(b"server first"), b"client second", Reads(b"end"), Leave(), Released()], Reads(b"client second"),
           b"end", Gone(),
           switch=SWITCH + b"server first"),
    Row("A 101 that comes octet by octet begins a tunnel at its end", "RFC 9110 section 7.8",
        client=[ASK, SWITCHED, Reads(b"first"), b"second", Reads(b"end"), Leave(), Released()],
        origin=[[Request(), Dribble(SWITCH + b"first"), Reads(b"second"), b"end", Gone()]], sees=ASKED, reused=False),
    tunnel("The client's end is passed on, and the origin still answers", "RFC 9112 section 9.6",
           [b"question", HalfClose(), Reads(b"answer"), Ends()], Reads(b"question"), Ends(), b"answer", Leave()),
    tunnel("The origin's end is passed on, and the client still talks", "RFC 9112 section 9.6",
           [Reads(b"last words"), Ends(), b"still talking", Leave(), Released()],
           b"last words", HalfClose(), Reads(b"still talking"), Ends(), Leave()),
    tunnel("The client's reset ends the other side", "RFC 9110 section 7.8", [Reset(), Released()], Gone()),
    tunnel("The origin's reset ends the other side", "RFC 9110 section 7.8", [Reads(b"x"), Signal("read"), Gone()],
           b"x",
           Await("read"), Reset()),
    tunnel("A tunnel in which nothing moves ends", "RFC 9110 section 7.8", [Gone(), Released()], Gone(), on="hasty"),
    tunnel("Octets of one side keep a tunnel", "RFC 9110 section 7.8",
           [Reads(b"x" * 10), Leave(), Released()], Trickle(), on="hasty"),
    Row("A tunnel is logged with its octets, both ways", "RFC 9110 section 7.8",
        client=[ASK.replace(b" / ", b" /counted "), SWITCHED, b"12345", Reads(b"1234567"), Leave(), Released(),
                Logged("/counted", {"status": 101, "bytes_in": len(ASK) + 7 + 5, "bytes_out": received,
                                    "reason": None})],
        origin=[[Request(), SWITCH, Reads(b"12345"), b"1234567", Gone()]],
        sees=(Seen("GET", "/counted", has={"upgrade": "raw/1"}),), reused=False),
    tunnel("The origin chooses among the protocols that were offered", "RFC 9110 section 7.8",
           [b"x", Reads(b"y"), Leave()],
           Reads(b"x"), b"y", Gone(), ask=asking(b"Connection: upgrade", b"Upgrade: other/2, raw/1"),
           sees=(Seen("GET", "/", has={"upgrade": "other/2, raw/1"}),)),
    tunnel("Protocols may be offered in several lines", "RFC 9110 section 7.8", [b"x", Reads(b"y"), Leave()],
           Reads(b"x"), b"y", Gone(), ask=asking(b"Connection: upgrade", b"Upgrade: other/2", b"Upgrade: raw/1"),
           sees=(Seen("GET", "/", has={"upgrade": "other/2, raw/1"}),)),
    tunnel("`upgrade` may stand among other options of Connection", "RFC 9110 section 7.8",
           [b"x", Reads(b"y"), Leave()],
           Reads(b"x"), b"y", Gone(), ask=asking(b"Connection: keep-alive, ,UPGRADE, x-a", b"X-A: 1",
                                                 b"Upgrade: raw/1"),
           sees=(Seen("GET", "/", has={"connection": "upgrade", "upgrade": "raw/1"}, lacks=("x-a",)),)),
    tunnel("Interim answers may come before a 101", "RFC 9110 section 15.2", [b"x", Reads(b"y"), Leave()],
           Reads(b"x"), b"y", Gone(), switch=b"HTTP/1.1 103 Early Hints" + END + SWITCH),
    tunnel("A WebSocket handshake passes unharmed, and names of protocols have no case", "RFC 6455 section 4.2.2",
           [b"\x81\x00", Reads(b"\x81\x00"), Leave()], Reads(b"\x81\x00"), b"\x81\x00", Gone(),
           ask=asking(b"Connection: keep-alive, Upgrade", b"Upgrade: websocket",
                      b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                      b"Sec-WebSocket-Version: 13"),
           switch=b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n"
                  b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" + END,
           head=AnswerHead(101, has={"sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "connection": "upgrade",
                                     "upgrade": re.compile("websocket", re.IGNORECASE)}),
           sees=(Seen("GET", "/", has={"upgrade": "websocket", "connection": "upgrade", "sec-websocket-version": "13",
                                       "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}),)),

    # No 101.
    stays_http("200 that echoes Upgrade stays HTTP", "CVE-2024-23326",
               b"HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: raw/1\r\nContent-Length: 2" + END + b"ok",
               Answer(200, b"ok", lacks=("upgrade", "connection"))),
    stays_http("426 that echoes Upgrade stays HTTP", "RFC 9110 section 15.5.22",
               b"HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\nUpgrade: raw/2\r\nContent-Length: 2" + END
               + b"no", Answer(426, b"no", closes=False)),
    stays_http("403 stays HTTP", "RFC 6455 section 4.2.2", b"HTTP/1.1 403 No\r\nContent-Length: 2" + END + b"no",
               Answer(403, b"no")),
    Row("A request behind a refused upgrade is a request", "CVE-2024-23326",
        client=[ASK + NEXT, Answer(200, b"ok"), Answer(200, b"GET /next\n")],
        origin=[[Request(),
                 b"HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: raw/1\r\nContent-Length: 2" + END + b"ok"]],
        sees=(*ASKED, Seen("GET", "/next")), connections=1),
    Row("Octets behind a refused upgrade that are no request are refused", "RFC 6455 section 4.1",
        client=[ASK + b"\x81\x05hello" + END + SMUGGLED, Answer(403, b"no"), Refused("bad_request")],
        origin=[[Request(), b"HTTP/1.1 403 No\r\nContent-Length: 2" + END + b"no"]], sees=ASKED),
    Row("An origin that ends instead of switching is 502", "RFC 9110 section 7.8",
        client=[ASK, Failed("upstream_closed")], origin=[[Request(), Leave()]], sees=ASKED, reused=False),

    # A 101 that is none.
    bad_switch("101 for another protocol than the one asked for is 502", "RFC 9110 section 7.8",
               b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other/2" + END + OK),
    bad_switch("101 without a protocol is 502", "RFC 9110 section 15.2.2",
               b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade"
               + END + OK),
    bad_switch("101 for a protocol whose name only begins alike is 502", "RFC 9110 section 7.8",
               b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw/10" + END),
    bad_switch("101 with a length is 502", "RFC 9110 section 8.6",
               b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw/1\r\nContent-Length: 2" + END
               + b"ok", reason="upstream_bad_response"),
    bad_switch("101 with chunks is 502", "RFC 9112 section 6.1",
               b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw/1\r\n"
               b"Transfer-Encoding: chunked" + END
               + b"0" + END, reason="upstream_bad_response"),
    bad_switch("A 101 to a request without Upgrade is 502, and opens no tunnel", "RFC 9110 section 15.2.2", SWITCH + OK,
               ask=GET + b"\r\n", sees=(Seen("GET", "/", lacks=("upgrade",)),)),
    bad_switch("A 101 to an Upgrade that Connection does not name is 502", "RFC 9110 section 7.8", SWITCH,
               ask=asking(b"Upgrade: raw/1"), sees=(Seen("GET", "/", lacks=("upgrade", "connection")),)),
    bad_switch("A 101 to an `h2c` that we dropped is 502", "RFC 9110 section 7.8",
               b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c" + END,
               ask=asking(b"Connection: Upgrade", b"Upgrade: h2c"),
               sees=(Seen("GET", "/", lacks=("upgrade", "connection")),)),
    Row("A 101 to HTTP/1.0 is 502", "RFC 9110 section 7.8",
        client=[asking(b"Connection: upgrade, keep-alive", b"Upgrade: raw/1", start=b"GET / HTTP/1.0\r\nHost: a\r\n"),
                Answer(502, has={"proxy-status": re.compile("tidegate; error=http_upgrade_failed"),
                                 "connection": "keep-alive"})],
        origin=[[Request(), SWITCH, Gone()]], sees=(Seen("GET", "/", lacks=("upgrade", "connection")),), reused=False),

    # Not offered.
    not_offered("An Upgrade that Connection does not name stays here", "RFC 9110 section 7.8", b"Upgrade: raw/1"),
    not_offered("`Connection: upgrade` without Upgrade offers nothing", "RFC 9110 section 7.8", b"Connection: upgrade"),
    not_offered("An empty Upgrade offers nothing", "RFC 9110 section 7.8", b"Connection: upgrade", b"Upgrade:"),
    not_offered("HTTP/1.0 upgrades nothing", "RFC 9110 section 7.8", b"Connection: upgrade", b"Upgrade: raw/1",
                start=b"GET / HTTP/1.0\r\nHost: a\r\n"),
    not_offered("`h2c` is never offered, nor are its settings", "RFC 9113 section 3.1",
                b"Connection: Upgrade, HTTP2-Settings",
                b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
    not_offered("`H2C` in capitals is never offered", "RFC 9110 section 7.8", b"Connection: Upgrade", b"Upgrade: H2C"),
    not_offered("`h2c` beside another protocol is never offered", "RFC 9110 section 7.8", b"Connection: Upgrade",
                b"Upgrade: raw/1, h2c"),
    not_offered("`h2c` in a second line is never offered", "RFC 9110 section 7.8", b"Connection: Upgrade",
                b"Upgrade: raw/1",
                b"Upgrade: h2c"),
    Row("A request with a body upgrades nothing", "RFC 9110 section 7.8",
        client=[asking(b"Connection: Upgrade", b"Upgrade: raw/1", b"Content-Length: 5", start=POST) + b"hello",
                Answer(200, b"POST /\nhello")], sees=(Seen("POST", "/", b"hello", lacks=("upgrade", "connection")),)),
    Row("A malformed request that asks for an upgrade is a malformed request", "RFC 9112 section 5.1",
        client=[asking(b"Connection: Upgrade", b"Upgrade : raw/1") + SMUGGLED, Refused("bad_request")], sees=NOTHING),
)
