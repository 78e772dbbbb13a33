"""The preface and the frames that open, carry and close streams: RFC 9113 sections 3.4 to 4.3 and 6.1 to 6.4."""

from conformance.steps import Arrived, Gone, Leave, Released, Request
from conformance_h2.case import ASKED_AGAIN, SEEN, Row, Seen, dies, harmless, served, table
from conformance_h2.steps import Alive, Answer, Dies, NotHttp2, Sends, StreamOrConnection
from support import h2_frames as h2
from support.h2_frames import (COMPRESSION_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR, STREAM_CLOSED, asking,
                               continuation, data, frame, get, headers, ping, post, priority, rst)

HALF = headers(1, *asking(), whole=False)  # a block whose end is missing
OPEN = (Seen("POST", "/", cut=True, perhaps=True),)  # whether the request began is a matter of timing
PING_8 = b"\x00" * 8


def bad_preface(name, octets, **more):
    return Row(name, "RFC 9113 section 3.4", client=[octets, NotHttp2()], begun=False, **more)


def within_a_block(name, octets, h2spec="", source="RFC 9113 section 4.3"):
    return dies(name, source, HALF + octets, PROTOCOL_ERROR, h2spec=h2spec)


def unknown(**more):
    return frame(0xee, 0xff, more.pop("stream", 0), b"whatever", **more)


table(
    "frames",

    # 3.4: the preface. A first line that is no preface at all is a request of HTTP/1.1, and judged as one.
    bad_preface("A preface that is wrong at its end", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", h2spec="http2/3.5"),
    bad_preface("A preface that is wrong within", b"PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n" + h2.settings()),
    Row("A frame other than SETTINGS behind the preface", "RFC 9113 section 3.4",
        client=[h2.PREFACE + ping(), Dies((PROTOCOL_ERROR,))], begun=False, h2spec="http2/3.5",
        differs="h2spec has the ordinary preface here, which `generic` has as well"),
    Row("A request behind the preface, without SETTINGS", "RFC 9113 section 3.4",
        client=[h2.PREFACE + get(1), Dies((PROTOCOL_ERROR,))], begun=False),
    Row("An acknowledgement of SETTINGS behind the preface", "RFC 9113 section 3.4",
        client=[h2.PREFACE + h2.settings(ack=True), Dies((PROTOCOL_ERROR,))], begun=False),
    dies("A second preface", "RFC 9113 section 4.1", h2.PREFACE, FRAME_SIZE_ERROR, PROTOCOL_ERROR),
    Row("A preface of nothing but its first line and the end of the connection", "RFC 9113 section 3.4",
        client=[b"PRI * HTTP/2.0\r\n", Leave()], begun=False),

    # 4.1: the format.
    harmless("A frame of an unknown type is ignored", "RFC 9113 section 4.1", unknown(), h2spec="http2/4.1"),
    harmless("... on a stream that is idle, too", "RFC 9113 section 4.1", unknown(stream=5)),
    harmless("... and as large as a frame may be", "RFC 9113 section 4.1", frame(0x20, 0, 0, bytes(16384))),
    harmless("Flags that a frame does not have are ignored", "RFC 9113 section 4.1",
             frame(h2.PING, 0xfe, 0, PING_8), h2spec="http2/4.1"),
    harmless("The reserved bit of a frame is ignored", "RFC 9113 section 4.1",
             frame(h2.PING, 0, 0, PING_8, reserved=True), h2spec="http2/4.1"),
    served("The reserved bit of a request is ignored", "RFC 9113 section 4.1",
           frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 1, get(1)[9:], reserved=True)),
    served("Flags that HEADERS does not have are ignored", "RFC 9113 section 4.1",
           headers(1, *asking(), flags=0x40 | 0x80 | 0x02 | 0x10)),
    served("Flags that DATA does not have are ignored", "RFC 9113 section 4.1",
           post(1) + data(1, b"hello", end=True, flags=0xf6), Seen("POST", "/", b"hello")),
    Row("A frame that never comes to its end, and the end of the connection", "RFC 9113 section 4.1",
        client=[get(1), Answer(), frame(h2.PING, 0, 0, b"half", length=8), Leave()], sees=(SEEN,)),

    # 4.2: sizes.
    Row("DATA of 2^14 octets is taken", "RFC 9113 section 4.2",
        client=[post(1) + data(1, b"d" * 16384, end=True), Answer(1, 200, b"POST /\n" + b"d" * 16384), Alive()],
        sees=(Seen("POST", "/", b"d" * 16384), ASKED_AGAIN), h2spec="http2/4.2", together=True),
    Row("DATA beyond the server's SETTINGS_MAX_FRAME_SIZE", "RFC 9113 section 4.2",
        client=[post(1), Sends(lambda client: data(1, bytes(client.peer[h2.MAX_FRAME_SIZE] + 1))),
                StreamOrConnection((FRAME_SIZE_ERROR,))], sees=OPEN, h2spec="http2/4.2", together=True),
    Row("HEADERS beyond the server's SETTINGS_MAX_FRAME_SIZE", "RFC 9113 section 4.2",
        client=[Sends(lambda client: headers(1, *asking(("x-a", "a" * client.peer[h2.MAX_FRAME_SIZE])))),
                Dies((FRAME_SIZE_ERROR,))], h2spec="http2/4.2"),
    dies("A frame whose length is the largest of 24 bits", "RFC 9113 section 4.2",
         frame(h2.SETTINGS, 0, 0, b"", length=2**24 - 1), FRAME_SIZE_ERROR),
    dies("A frame of an unknown type beyond the limit", "RFC 9113 section 4.2", frame(0x20, 0, 0, bytes(16385)),
         FRAME_SIZE_ERROR, together=True),

    # 4.3: blocks.
    dies("A block that is no HPACK", "RFC 9113 section 4.3", headers(1, b"\xff\xff\xff\xff\xff\xff\xff\xff"),
         COMPRESSION_ERROR, h2spec="http2/4.3"),
    dies("A block that ends within a field", "RFC 9113 section 4.3", headers(1, *asking(), b"\x00\x03x-a\x09bb"),
         COMPRESSION_ERROR),
    within_a_block("PRIORITY within a block", priority(1), "http2/4.3"),
    within_a_block("HEADERS of another stream within a block", get(3), "http2/4.3"),
    within_a_block("PING within a block", ping()),
    within_a_block("SETTINGS within a block", h2.settings()),
    within_a_block("RST_STREAM within a block", rst(1)),
    within_a_block("WINDOW_UPDATE within a block", h2.window_update(0, 1)),
    within_a_block("GOAWAY within a block", h2.goaway()),
    within_a_block("DATA within a block", data(1, b"x")),

    # 5.5: extensions.
    harmless("An unknown frame before a request is ignored", "RFC 9113 section 5.5", unknown(), h2spec="http2/5.5"),
    within_a_block("An unknown frame within a block", unknown(stream=1), "http2/5.5", "RFC 9113 section 5.5"),
    harmless("ALTSVC and ORIGIN are ignored by a server", "RFC 7838 section 4",
             frame(0xa, 0, 0, b"\x00\x01a" + b"h2=\":1\"") + frame(0xc, 0, 0, b"\x00\x01a")),
    harmless("PRIORITY_UPDATE on the connection is ignored or heeded", "RFC 9218 section 7.1",
             frame(0x10, 0, 0, b"\x00\x00\x00\x01u=1")),

    # 6.1: DATA.
    dies("DATA on stream 0", "RFC 9113 section 6.1", data(0, b"x", end=True), PROTOCOL_ERROR, h2spec="http2/6.1"),
    Row("DATA on a stream whose request has ended", "RFC 9113 section 6.1",
        client=[get(1), Arrived(1), data(1, b"x", end=True), StreamOrConnection((STREAM_CLOSED,)), Released()],
        origin=[[Request(), Gone()]], sees=(SEEN,), h2spec="http2/6.1"),
    dies("DATA padded beyond its length", "RFC 9113 section 6.1",
         post(1) + frame(h2.DATA, h2.PADDED | h2.END_STREAM, 1, b"\x06hello"), PROTOCOL_ERROR, sees=OPEN,
         h2spec="http2/6.1"),
    dies("DATA with the flag PADDED and no octet", "RFC 9113 section 6.1",
         post(1) + frame(h2.DATA, h2.PADDED, 1, b""), FRAME_SIZE_ERROR, PROTOCOL_ERROR, sees=OPEN),

    # 6.2: HEADERS.
    within_a_block("HEADERS of the same stream within a block", headers(1, ("x-a", "b")), "http2/6.2",
                   "RFC 9113 section 6.2"),
    within_a_block("PRIORITY of another stream within a block", priority(3), "http2/6.2", "RFC 9113 section 6.2"),
    dies("HEADERS on stream 0", "RFC 9113 section 6.2", headers(0, *asking()), PROTOCOL_ERROR, h2spec="http2/6.2"),
    dies("HEADERS padded beyond its length", "RFC 9113 section 6.2",
         frame(h2.HEADERS, h2.PADDED | h2.END_HEADERS | h2.END_STREAM, 1, b"\xff" + get(1)[9:]), PROTOCOL_ERROR,
         h2spec="http2/6.2"),
    dies("HEADERS padded over its priority", "RFC 9113 section 6.2",
         frame(h2.HEADERS, h2.PADDED | h2.PRIORITISED | h2.END_HEADERS, 1, b"\x04" + bytes(6)), PROTOCOL_ERROR,
         FRAME_SIZE_ERROR),
    dies("HEADERS too short for its priority", "RFC 9113 section 6.2",
         frame(h2.HEADERS, h2.PRIORITISED | h2.END_HEADERS, 1, bytes(4)), FRAME_SIZE_ERROR, PROTOCOL_ERROR),

    # 6.3: PRIORITY.
    dies("PRIORITY on stream 0", "RFC 9113 section 6.3", priority(0), PROTOCOL_ERROR, h2spec="http2/6.3"),
    Row("PRIORITY of four octets", "RFC 9113 section 6.3",
        client=[post(1) + frame(h2.PRIORITY, 0, 1, bytes(4)), StreamOrConnection((FRAME_SIZE_ERROR,))], sees=OPEN,
        h2spec="http2/6.3"),

    # 6.4: RST_STREAM.
    dies("RST_STREAM on stream 0", "RFC 9113 section 6.4", rst(0), PROTOCOL_ERROR, h2spec="http2/6.4"),
    dies("RST_STREAM on an idle stream", "RFC 9113 section 6.4", rst(1), PROTOCOL_ERROR, h2spec="http2/6.4"),
    dies("RST_STREAM of three octets", "RFC 9113 section 6.4", post(1) + frame(h2.RST_STREAM, 0, 1, bytes(3)),
         FRAME_SIZE_ERROR, sees=OPEN, h2spec="http2/6.4"),
    dies("RST_STREAM of five octets", "RFC 9113 section 6.4", post(1) + frame(h2.RST_STREAM, 0, 1, bytes(5)),
         FRAME_SIZE_ERROR, sees=OPEN),
)
