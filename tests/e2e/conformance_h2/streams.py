"""The life of streams, RFC 9113 section 5, and what happens to a connection whose rules are broken."""

from conformance.steps import Arrived, Await, Gone, Leave, Released, Request, Signal
from conformance_h2.case import ASKED_AGAIN, OK, SEEN, Row, Seen, dies, harmless, table
from conformance_h2.steps import Alive, Answer, Dies, Leaves, Malformed, MayClose, RefusesTheLast, Sends, StreamOrConnection
from support import h2_frames as h2
from support.h2_frames import (PROTOCOL_ERROR, STREAM_CLOSED, asking, continuation, data, frame, get, headers, ping,
                               priority, rst)

X = ("x-a", "b")
LAXER = "RFC 9113 section 5.1 lets a server discard what comes on a closed stream; RFC 7540 wanted STREAM_CLOSED"
NO_DEPENDENCIES = "RFC 9113 section 5.3.2 has no dependencies; RFC 7540 wanted PROTOCOL_ERROR"


def idle(name, octets, **more):
    return dies(f"{name} on an idle stream", "RFC 9113 section 5.1", octets, PROTOCOL_ERROR, **more)


def half_closed(name, octets, *codes, **more):
    """The request has ended, the answer has not begun: a stream error ends the request to the origin."""
    return Row(f"{name} on a stream whose request has ended", "RFC 9113 section 5.1",
               client=[get(1), Arrived(1), octets, StreamOrConnection(codes), Released()],
               origin=[[Request(), Gone()]], sees=(SEEN,), h2spec="http2/5.1", **more)


def after_a_reset(name, octets, *codes):
    """The client has reset its stream, and sends on it all the same."""
    return Row(f"{name} on a stream that the client has reset", "RFC 9113 section 5.1",
               client=[get(1), Arrived(1), Leaves(1), octets, MayClose(codes)],
               origin=[[Request(), Gone()]], sees=(SEEN, Seen("GET", "/alive", perhaps=True)), h2spec="http2/5.1",
               differs=LAXER)


def after_the_end(name, octets, *codes):
    """Both sides have ended the stream."""
    return Row(f"{name} on a stream that both sides have ended", "RFC 9113 section 5.1",
               client=[get(1), Answer(), octets, MayClose(codes)],
               sees=(SEEN, Seen("GET", "/alive", perhaps=True)), h2spec="http2/5.1", differs=LAXER)


def too_many(client):
    """One request more than may be open at once. Their answers wait for window."""
    allowed = client.peer.get(h2.MAX_CONCURRENT_STREAMS)
    assert allowed is not None and 100 <= allowed <= 400, f"SETTINGS_MAX_CONCURRENT_STREAMS {allowed}"
    return b"".join(get(2 * number + 1, "/own/") for number in range(allowed + 1))


table(
    "streams",

    # 5.1: idle.
    idle("DATA", data(1, b"test", end=True), h2spec="http2/5.1"),
    idle("RST_STREAM", rst(1), h2spec="http2/5.1"),
    idle("WINDOW_UPDATE", h2.window_update(1, 100), h2spec="http2/5.1"),
    idle("CONTINUATION", continuation(1, *asking()), h2spec="http2/5.1"),
    idle("DATA of an even number", data(2, b"test", end=True)),
    idle("RST_STREAM of an even number", rst(2)),

    # 5.1: half-closed.
    half_closed("DATA", data(1, b"test", end=True), STREAM_CLOSED),
    half_closed("HEADERS", headers(1, X), STREAM_CLOSED),
    half_closed("CONTINUATION", continuation(1, X), STREAM_CLOSED, PROTOCOL_ERROR),

    # 5.1: closed.
    after_a_reset("DATA", data(1, b"test", end=True), STREAM_CLOSED, PROTOCOL_ERROR),
    after_a_reset("HEADERS", headers(1, X), STREAM_CLOSED, PROTOCOL_ERROR),
    Row("CONTINUATION on a stream that the client has reset", "RFC 9113 section 6.10",
        client=[get(1), Arrived(1), Leaves(1), continuation(1, X), Dies((STREAM_CLOSED, PROTOCOL_ERROR))],
        origin=[[Request(), Gone()]], sees=(SEEN,), h2spec="http2/5.1"),
    after_the_end("DATA", data(1, b"test", end=True), STREAM_CLOSED, PROTOCOL_ERROR),
    after_the_end("HEADERS", headers(1, *asking(path="/never")), STREAM_CLOSED, PROTOCOL_ERROR),
    Row("CONTINUATION on a stream that both sides have ended", "RFC 9113 section 6.10",
        client=[get(1), Answer(), continuation(1, X), Dies((STREAM_CLOSED, PROTOCOL_ERROR))], sees=(SEEN,),
        h2spec="http2/5.1"),

    # 5.1.1: identifiers.
    dies("A stream of an even number", "RFC 9113 section 5.1.1", get(2), PROTOCOL_ERROR, h2spec="http2/5.1.1"),
    Row("A stream below one that was opened", "RFC 9113 section 5.1.1",
        client=[get(5, "/5"), Answer(5, 200), get(3, "/3"), Dies((PROTOCOL_ERROR, STREAM_CLOSED))],
        sees=(Seen("GET", "/5"),), h2spec="http2/5.1.1"),
    Row("A stream that was skipped is closed: DATA on it", "RFC 9113 section 5.1.1",
        client=[get(5, "/5"), Answer(5, 200), data(3, b"x"), MayClose((PROTOCOL_ERROR, STREAM_CLOSED))],
        sees=(Seen("GET", "/5"), Seen("GET", "/alive", perhaps=True))),

    # 5.1.2: how many.
    Row("One request more than the server allows at once is refused", "RFC 9113 section 5.1.2",
        client=[Sends(too_many), RefusesTheLast()], settings=((h2.INITIAL_WINDOW_SIZE, 0),), h2spec="http2/5.1.2",
        together=True),
    Row("A stream that has ended counts no more", "RFC 9113 section 5.1.2",
        client=[Sends(lambda client: b"".join(get(2 * number + 1, "/own/")
                                              for number in range(client.peer[h2.MAX_CONCURRENT_STREAMS]))),
                Answer(1, 200, b"pong\n"), get(2001, "/own/"), Answer(2001, 200, b"pong\n")]),

    # 5.3.1: what RFC 7540 had as dependencies.
    Row("A request that depends on itself", "RFC 9113 section 5.3.2",
        client=[headers(1, *asking(), depends=1), MayClose((PROTOCOL_ERROR,), resets=(1,))],
        sees=(Seen("GET", "/", perhaps=True), Seen("GET", "/alive", perhaps=True)), h2spec="http2/5.3.1",
        differs=NO_DEPENDENCIES),
    Row("PRIORITY that depends on itself", "RFC 9113 section 5.3.2",
        client=[priority(1, depends=1), MayClose((PROTOCOL_ERROR,))], sees=(Seen("GET", "/alive", perhaps=True),),
        h2spec="http2/5.3.1", differs=NO_DEPENDENCIES),
    harmless("PRIORITY of many streams opens none", "RFC 9113 section 5.3.2",
             b"".join(priority(number, depends=max(0, number - 2)) for number in range(1, 99, 2))),

    # 5.4.1: connection errors.
    Row("After a connection error the connection is closed", "RFC 9113 section 5.4.1",
        client=[frame(h2.PING, 0, 3, bytes(8)), Dies((PROTOCOL_ERROR,), last=0)], h2spec="http2/5.4.1"),
    Row("GOAWAY names the last stream that was dealt with", "RFC 9113 section 5.4.1",
        client=[get(1), Answer(), get(7, "/7"), Answer(7, 200), frame(h2.PING, 0, 3, bytes(8)),
                Dies((PROTOCOL_ERROR,), last=7)], sees=(SEEN, Seen("GET", "/7")), h2spec="http2/5.4.1"),
    Row("A connection error ends the requests to the origin", "RFC 9113 section 5.4.1",
        client=[get(1), Arrived(1), frame(h2.PING, 0, 3, bytes(8)), Dies((PROTOCOL_ERROR,)), Released()],
        origin=[[Request(), Gone()]], sees=(SEEN,)),
    Row("What follows a connection error is not read", "RFC 9113 section 5.4.1",
        client=[frame(h2.PING, 0, 3, bytes(8)) + get(1) + ping(), Dies((PROTOCOL_ERROR,), last=0)], together=True),
    Row("A stream error disturbs no other stream", "RFC 9113 section 5.4.2",
        client=[get(1, "/1"), Arrived(1), get(3, "/3", ("Bad", "x")), Malformed(3),
                Signal("go"), Answer(1, 200, b"ok"), Alive((3,))],
        origin=[[Request(), Await("go"), OK]], sees=(Seen("GET", "/1"), ASKED_AGAIN)),
    Row("The end of the connection ends the requests to the origin", "RFC 9113 section 5.4",
        client=[get(1), Arrived(1), h2.goaway(), Leave(), Released()],
        origin=[[Request(), Gone()]], sees=(SEEN,)),
)
