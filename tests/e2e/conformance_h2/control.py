"""The frames that steer a connection: SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION (RFC 9113 sections 6.5 to 7)."""

from conformance.steps import Arrived, Await, Gone, Released, Request, Signal
from conformance_h2.case import ASKED_AGAIN, OK, SEEN, Row, Seen, dies, served, table
from conformance_h2.steps import (Alive, Answer, Dies, Head, Keep, Leaves, MayClose, NoPong, Pong, Received, Sends,
                                  Settings, StreamOrConnection)
from support import h2_frames as h2
from support.h2_frames import (FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR, asking, continuation, data, frame,
                               get, goaway, headers, ping, post, window_update)

X = ("x-a", "b")
BODY = b"0123456789"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + BODY
OPEN = (Seen("POST", "/", cut=True, perhaps=True),)
HALF = headers(1, *asking(), whole=False)


def setting(name, identifier, value, code, h2spec="http2/6.5.2"):
    return dies(f"SETTINGS with {name}", "RFC 9113 section 6.5.2", h2.settings((identifier, value)), code, h2spec=h2spec)


WIDE = Settings((h2.INITIAL_WINDOW_SIZE, 65535))


def windows(name, source, initial, *steps, h2spec=""):
    """An answer of ten octets to a client whose streams begin with a window of `initial`, and who gives none by itself."""
    return Row(name, source, client=[Keep(), get(1), Head(), *steps, Answer(1, 200, BODY), WIDE, Alive()],
               origin=[[Request(), ANSWER]], sees=(SEEN, ASKED_AGAIN), settings=((h2.INITIAL_WINDOW_SIZE, initial),),
               h2spec=h2spec)


def give(stream, count):
    """Window that the client keeps account of."""
    return Sends(lambda client: client.give(stream, count) or b"")


table(
    "control",

    # 6.5: SETTINGS.
    dies("SETTINGS with ACK and a payload", "RFC 9113 section 6.5",
         frame(h2.SETTINGS, h2.ACK, 0, h2.settings((3, 100))[9:]), FRAME_SIZE_ERROR, h2spec="http2/6.5"),
    dies("SETTINGS on a stream", "RFC 9113 section 6.5", frame(h2.SETTINGS, 0, 1, h2.settings((3, 100))[9:]),
         PROTOCOL_ERROR, h2spec="http2/6.5"),
    dies("SETTINGS whose length is no multiple of six", "RFC 9113 section 6.5",
         frame(h2.SETTINGS, 0, 0, b"\x00\x03\x00"), FRAME_SIZE_ERROR, h2spec="http2/6.5",
         differs="h2spec takes PROTOCOL_ERROR as well"),
    dies("SETTINGS in the preface that are malformed", "RFC 9113 section 3.4",
         h2.PREFACE + frame(h2.SETTINGS, 0, 0, b"\x00\x03\x00"), FRAME_SIZE_ERROR, begun=False),
    setting("ENABLE_PUSH of 2", h2.ENABLE_PUSH, 2, PROTOCOL_ERROR),
    setting("INITIAL_WINDOW_SIZE of 2^31", h2.INITIAL_WINDOW_SIZE, 2**31, FLOW_CONTROL_ERROR),
    setting("MAX_FRAME_SIZE below 2^14", h2.MAX_FRAME_SIZE, 2**14 - 1, PROTOCOL_ERROR),
    setting("MAX_FRAME_SIZE of 2^24", h2.MAX_FRAME_SIZE, 2**24, PROTOCOL_ERROR),
    dies("SETTINGS with ENABLE_CONNECT_PROTOCOL of 2", "RFC 8441 section 3",
         h2.settings((h2.ENABLE_CONNECT_PROTOCOL, 2)), PROTOCOL_ERROR),
    Row("An unknown setting is ignored", "RFC 9113 section 6.5.2",
        client=[Settings((0xff, 1), (0xa0a0, 2**32 - 1), (0, 0)), Alive()], sees=(ASKED_AGAIN,), h2spec="http2/6.5.2"),
    Row("Of a setting that comes twice the last holds", "RFC 9113 section 6.5.3",
        client=[Keep(), Settings((h2.INITIAL_WINDOW_SIZE, 3), (h2.INITIAL_WINDOW_SIZE, 5)), get(1), Received(5),
                give(1, 5), Answer(1, 200, BODY), WIDE, Alive()],
        origin=[[Request(), ANSWER]], sees=(SEEN, ASKED_AGAIN), h2spec="http2/6.5.3"),
    Row("SETTINGS are acknowledged, each", "RFC 9113 section 6.5.3",
        client=[Sends(lambda client: b"".join(client.settings() for _ in range(5))), Settings(), Alive()],
        sees=(ASKED_AGAIN,), h2spec="http2/6.5.3"),
    Row("A larger MAX_FRAME_SIZE may be used and need not be", "RFC 9113 section 6.5.2",
        client=[Settings((h2.MAX_FRAME_SIZE, 2**24 - 1)), get(1), Answer(1, 200, b"x" * 60000), Alive()],
        origin=[[Request(), b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60000]],
        sees=(SEEN, ASKED_AGAIN), together=True),
    Row("A header table of no size is used for nothing", "RFC 7541 section 4.2",
        client=[Settings((h2.HEADER_TABLE_SIZE, 0)), get(1), Answer(), Alive()], sees=(SEEN, ASKED_AGAIN)),
    Row("A header table may shrink and grow between requests", "RFC 7541 section 4.2",
        client=[get(1), Answer(), Settings((h2.HEADER_TABLE_SIZE, 100)), get(3, "/3"), Answer(3),
                Settings((h2.HEADER_TABLE_SIZE, 0), (h2.HEADER_TABLE_SIZE, 4096)), get(5, "/5"), Answer(5),
                Settings((h2.HEADER_TABLE_SIZE, 2**32 - 1)), get(7, "/7"), Answer(7), Alive()],
        sees=(SEEN, Seen("GET", "/3"), Seen("GET", "/5"), Seen("GET", "/7"), ASKED_AGAIN)),
    Row("An acknowledgement too many is ignored or a connection error", "RFC 9113 section 6.5.3",
        client=[h2.settings(ack=True), MayClose((PROTOCOL_ERROR,))], sees=(Seen("GET", "/alive", perhaps=True),)),

    # 6.6: PUSH_PROMISE; 8.4: nobody pushes to a server.
    dies("PUSH_PROMISE", "RFC 9113 section 8.4", get(1) + h2.push_promise(1, 3, *asking()), PROTOCOL_ERROR,
         sees=(Seen("GET", "/", perhaps=True),), h2spec="http2/8.2"),
    dies("PUSH_PROMISE on stream 0", "RFC 9113 section 6.6", h2.push_promise(0, 3, *asking()), PROTOCOL_ERROR),

    # 6.7: PING.
    Row("Of several PINGs each is acknowledged", "RFC 9113 section 6.7",
        client=[ping(b"12345678") + ping(b"abcdefgh"), Pong(b"12345678"), Pong(b"abcdefgh"), Alive()],
        sees=(ASKED_AGAIN,), h2spec="http2/6.7"),
    Row("A PING with ACK is not answered", "RFC 9113 section 6.7",
        client=[ping(b"unasked!", ack=True), Alive(), NoPong(b"unasked!")], sees=(ASKED_AGAIN,), h2spec="http2/6.7"),
    dies("PING on a stream", "RFC 9113 section 6.7", frame(h2.PING, 0, 1, bytes(8)), PROTOCOL_ERROR, h2spec="http2/6.7"),
    dies("PING of six octets", "RFC 9113 section 6.7", ping(bytes(6)), FRAME_SIZE_ERROR, h2spec="http2/6.7"),
    dies("PING of nine octets", "RFC 9113 section 6.7", ping(bytes(9)), FRAME_SIZE_ERROR),

    # 6.8: GOAWAY.
    dies("GOAWAY on a stream", "RFC 9113 section 6.8", goaway(stream=1), PROTOCOL_ERROR, h2spec="http2/6.8"),
    dies("GOAWAY of seven octets", "RFC 9113 section 6.8", frame(h2.GOAWAY, 0, 0, bytes(7)), FRAME_SIZE_ERROR),

    # 6.9: WINDOW_UPDATE.
    dies("WINDOW_UPDATE of nothing for the connection", "RFC 9113 section 6.9", window_update(0, 0), PROTOCOL_ERROR,
         h2spec="http2/6.9"),
    Row("WINDOW_UPDATE of nothing for a stream", "RFC 9113 section 6.9",
        client=[get(1), Arrived(1), window_update(1, 0), StreamOrConnection((PROTOCOL_ERROR,)), Released()],
        origin=[[Request(), Gone()]], sees=(SEEN,), h2spec="http2/6.9"),
    dies("WINDOW_UPDATE of three octets", "RFC 9113 section 6.9", frame(h2.WINDOW_UPDATE, 0, 0, bytes(3)),
         FRAME_SIZE_ERROR, h2spec="http2/6.9"),
    windows("DATA waits for the window of its stream, be it one octet", "RFC 9113 section 6.9.1", 1, Received(1),
            give(1, 20), h2spec="http2/6.9.1"),
    dies("A connection's window above 2^31-1", "RFC 9113 section 6.9.1",
         window_update(0, 2**31 - 1) + window_update(0, 2**31 - 1), FLOW_CONTROL_ERROR, h2spec="http2/6.9.1"),
    Row("A stream's window above 2^31-1", "RFC 9113 section 6.9.1",
        client=[get(1), Arrived(1), window_update(1, 2**31 - 1) + window_update(1, 2**31 - 1),
                StreamOrConnection((FLOW_CONTROL_ERROR,)), Released()],
        origin=[[Request(), Gone()]], sees=(SEEN,), h2spec="http2/6.9.1"),
    windows("A new INITIAL_WINDOW_SIZE holds for streams that are open", "RFC 9113 section 6.9.2", 0, Received(0),
            Settings((h2.INITIAL_WINDOW_SIZE, 1)), Received(1), Settings((h2.INITIAL_WINDOW_SIZE, 100)),
            h2spec="http2/6.9.2"),
    windows("A window may become negative, and nothing is sent until it is positive", "RFC 9113 section 6.9.2", 3,
            Received(3), Settings((h2.INITIAL_WINDOW_SIZE, 2)), give(1, 1), Received(3), give(1, 1), Received(4),
            give(1, 20), h2spec="http2/6.9.2"),
    # RFC 9113 wants a connection error. nghttp2 resets each stream whose window it is, which is as safe.
    Row("A new INITIAL_WINDOW_SIZE that lifts a window above 2^31-1", "RFC 9113 section 6.9.2",
        client=[get(1), Arrived(1), window_update(1, 2**31 - 1 - 65535), WIDE,
                Sends(lambda client: client.settings((h2.INITIAL_WINDOW_SIZE, 65536))),
                StreamOrConnection((FLOW_CONTROL_ERROR,)), Released()],
        origin=[[Request(), Gone()]], sees=(SEEN,), h2spec="http2/6.9.2"),
    windows("The largest INITIAL_WINDOW_SIZE may be used", "RFC 9113 section 6.9.2", 0, Received(0),
            Settings((h2.INITIAL_WINDOW_SIZE, 2**31 - 1))),
    served("A window may be as large as 2^31-1", "RFC 9113 section 6.9.1", window_update(0, 2**31 - 1 - 65535) + get(1)),

    # 6.10: CONTINUATION.
    served("CONTINUATION after CONTINUATION after HEADERS", "RFC 9113 section 6.10",
           HALF + continuation(1, X, whole=False) + continuation(1, ("x-b", "c")),
           Seen("GET", "/", has={"x-a": "b", "x-b": "c"}), h2spec="http2/6.10"),
    dies("DATA instead of CONTINUATION", "RFC 9113 section 6.10",
         headers(1, *asking(), whole=False, end=False) + continuation(1, X, whole=False) + data(1, b"x"), PROTOCOL_ERROR,
         h2spec="http2/6.10"),
    dies("CONTINUATION on stream 0", "RFC 9113 section 6.10", HALF + continuation(0, X), PROTOCOL_ERROR,
         h2spec="http2/6.10"),
    dies("CONTINUATION of another stream", "RFC 9113 section 6.10", HALF + continuation(3, X), PROTOCOL_ERROR),
    dies("CONTINUATION after HEADERS with END_HEADERS", "RFC 9113 section 6.10",
         post(1) + continuation(1, X), PROTOCOL_ERROR, sees=OPEN, h2spec="http2/6.10"),
    dies("CONTINUATION after CONTINUATION with END_HEADERS", "RFC 9113 section 6.10",
         headers(1, *asking(method="POST"), whole=False, end=False) + continuation(1, X) + continuation(1, X),
         PROTOCOL_ERROR, sees=OPEN, h2spec="http2/6.10"),
    dies("CONTINUATION after DATA", "RFC 9113 section 6.10", post(1) + data(1, b"x") + continuation(1, X), PROTOCOL_ERROR,
         sees=OPEN, h2spec="http2/6.10"),
    served("END_STREAM is no flag of CONTINUATION: the stream goes on", "RFC 9113 section 6.10",
           headers(1, *asking(method="POST"), whole=False, end=False) + continuation(1, flags=h2.END_STREAM)
           + data(1, b"hello", end=True), Seen("POST", "/", b"hello"), Answer(1, 200, b"POST /\nhello")),
    served("END_STREAM of HEADERS holds when CONTINUATION follows", "RFC 9113 section 6.2",
           HALF + continuation(1), Seen("GET", "/", framing="none")),

    # 7: codes.
    Row("GOAWAY with an unknown code", "RFC 9113 section 7",
        client=[get(1), Await("asked"), goaway(0, 0xff, b"why"), Signal("go"), Answer(1, 200, b"ok")],
        origin=[[Request(), Signal("asked"), Await("go"), OK]], sees=(SEEN,), h2spec="http2/7"),
    Row("RST_STREAM with an unknown code", "RFC 9113 section 7",
        client=[get(1), Arrived(1), Leaves(1, 0xff), Released(), Alive()],
        origin=[[Request(), Gone()]], sees=(SEEN, ASKED_AGAIN), h2spec="http2/7"),
    *[Row(f"RST_STREAM with {h2.CODES[code]} ends the request to the origin", "RFC 9113 section 7",
          client=[get(1), Arrived(1), Leaves(1, code), Released(), Alive()],
          origin=[[Request(), Gone()]], sees=(SEEN, ASKED_AGAIN)) for code in (h2.NO_ERROR, h2.INTERNAL_ERROR)],
)
