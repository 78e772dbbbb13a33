"""Flow control of HTTP/2: a slow origin or client throttles its own stream and no other, window is given for what was
consumed and for nothing else, and none is lost."""

import threading

import pytest

from support import h2_frames as h2
from support import processes
from support.daemon import clear
from support.h2_frames import FLOW_CONTROL_ERROR, NO_ERROR, code_name
from support.origin import black_hole
from support.wait import PATIENCE, SMALL, duration, until

KIB, MIB = 1 << 10, 1 << 20

# What the kernel may hold between the worker and an origin that does not read, or that a client does not let answer.
KERNEL = 16 * MIB


OWN = [{"name": "own", "path": "/own", "respond": {"status": 200, "body": "x"}}, {"name": "all", "upstream": "app"}]


def echo(peer, got):
    peer.answer(200, got.body or b"hello\n")


@pytest.fixture
def front(launch, origin):
    """`front(**changes)`: HTTP/2 in front of an origin that sends bodies back."""
    origin.handler = echo
    return lambda **changes: launch(clear(origin.address, **changes))


def fill(client, stream):
    """Sends body until no more window comes for it; returns how much."""
    known, sent = client.of(stream), 0
    while True:
        room = min(client.send_window, known.send_window, 16384)
        if room > 0:
            client.spend(stream, room)
            client.send(h2.data(stream, b"f" * room))
            sent += room
        else:
            client.roundtrip()
            if known.send_window <= 0 and client.silent(0.3):
                return sent
        assert sent < KERNEL, "an origin that does not read is sent all"


def test_an_origin_that_does_not_read_throttles_only_its_stream(front, origin):
    go, got = threading.Event(), []

    def slow(peer):
        head = peer.request_head()
        peer.wait(go)
        got.append(peer.chunked(head).body)
        peer.answer()
    origin.next(slow)
    with front().h2() as client:
        stream = client.new_stream()
        client.send(h2.post(stream, "/slow"))
        origin.wait_requests(1)
        sent = fill(client, stream)
        # The window of the connection is not the slow one's alone.
        assert client.get("/other").status == 200
        body = b"o" * (300 * KIB)
        assert client.get("/other", body=body, method="POST").body == body
        go.set()
        client.send_body(stream, b"f" * (MIB - 1), end=False)
        client.send_body(stream, b"f")
        assert client.answer(stream).status == 200
    assert len(got[0]) == sent + MIB


def test_window_is_given_for_nothing_that_was_not_consumed(front, launch, origin):
    """While the connection to an origin is being made no octet of the body is consumed."""
    holders, hole = black_hole()
    config = clear(origin.address, timeouts={"upstream_connect": "20s"})
    config["upstreams"]["hole"] = {"endpoints": [hole]}
    config["routes"].insert(0, {"name": "hole", "path": "/hole", "upstream": "hole"})
    origin.handler = echo
    tidegate = launch(config)
    with tidegate.h2() as client:
        stream = client.new_stream()
        client.send(h2.post(stream, "/hole"))
        known = client.of(stream)
        window = known.send_window
        while (room := min(known.send_window, client.send_window, 16384)) > 0:
            client.spend(stream, room)
            client.send(h2.data(stream, bytes(room)))
        client.roundtrip()
        given = sum(one.increment for one in client.frames if one.kind == h2.WINDOW_UPDATE and one.stream == stream)
        assert given == 0, f"{given} octets of window for a body that nobody took"
        assert client.get("/other", body=b"o" * 100 * KIB, method="POST").status == 200
        if known.send_window == 0:
            # RFC 9113 section 6.9.1: what is beyond the window is an error.
            client.send(h2.data(stream, b"x"))
            client.until(lambda: known.over or client.goaway, "an error of flow control")
            code = known.reset if known.reset is not None else client.goaway.code
            assert code == FLOW_CONTROL_ERROR, code_name(code)
        assert window <= 16 * MIB, "a stream's window bounds what we may have to keep"
    for one in holders:
        one.close()


def test_a_client_that_gives_no_window_throttles_only_its_stream(front, origin):
    sent = []

    def endless(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            peer.send(b"8000\r\n" + b"e" * 32768 + b"\r\n")
            sent.append(32768)
    origin.next(endless)
    tidegate = front()
    worker = tidegate.workers()[0]
    with tidegate.h2() as client:
        stream = client.ask("/endless")
        client.held.add(stream)
        known = client.of(stream)
        client.until(lambda: known.window == 0, "a stream whose window is used up")
        before = processes.resident_bytes(worker)
        for _ in range(5):
            body = b"o" * (300 * KIB)
            assert client.get("/other", body=body, method="POST").body == body
        assert len(known.body) == 65535 and not known.over
        assert sum(sent) < KERNEL, "an answer that nobody takes is read all the same"
        assert SMALL or processes.resident_bytes(worker) - before < 16 * MIB
        client.give(stream, 1000)
        client.until(lambda: len(known.body) == 66535, "what was let go")
        client.leave(stream)
        until(lambda: origin.peers[0].finished.is_set(), "the end of the origin's connection")
        assert client.get("/after").status == 200


def test_the_windows_of_many_streams_are_their_own(front):
    """Fifty uploads and their echoes at once, in turns of one frame."""
    with front().h2((h2.INITIAL_WINDOW_SIZE, MIB)) as client:
        bodies = {client.new_stream(): bytes([number]) * (40 * KIB + number) for number in range(50)}
        for stream in bodies:
            client.send(h2.post(stream, f"/{stream}"))
        at = dict.fromkeys(bodies, 0)
        while at:
            for stream in list(at):
                body, known = bodies[stream], client.of(stream)
                client.until(lambda known=known: min(client.send_window, known.send_window) > 0, "window")
                count = min(client.send_window, known.send_window, 4096, len(body) - at[stream])
                client.spend(stream, count)
                at[stream] += count
                client.send(h2.data(stream, body[at[stream] - count:at[stream]], end=at[stream] == len(body)))
                if at[stream] == len(body):
                    del at[stream]
        for stream, body in bodies.items():
            assert client.answer(stream).body == body


def test_padding_is_given_back(front):
    with front().h2() as client:
        stream = client.new_stream()
        known = client.of(stream)
        client.send(h2.post(stream))
        for number in range(3000):
            client.until(lambda: min(client.send_window, known.send_window) >= 257, "window for padding")
            client.spend(stream, 257)
            client.send(h2.data(stream, bytes([number % 251]), pad=255))
        client.send(h2.data(stream, end=True))
        assert client.answer(stream).body == bytes(number % 251 for number in range(3000))


PART = 16000  # fits into a frame
PARTS = 3


def lose_many(client, lose):
    """Sends PARTS on a stream of its own, again and again, until more is sent than the window of the connection ever
    was; `lose(stream)` deals with the stream. What is lost of the window is missed then."""
    client.get("/warm", body=b"w" * 300 * KIB, method="POST")
    client.roundtrip()
    sent, enough = 0, 1.5 * client.send_window
    while sent < enough:
        client.until(lambda: client.send_window >= PARTS * PART, "the window of the connection")
        stream = client.new_stream()
        client.spend(stream, PARTS * PART)
        lose(stream)
        sent += PARTS * PART
    assert client.get("/", body=b"o" * 300 * KIB, method="POST").status == 200


def upload(stream, path):
    return h2.post(stream, path) + h2.data(stream, bytes(PART)) * PARTS


def test_an_upload_that_is_not_wanted_takes_no_window_along(front):
    """The answer comes at once, the body is thrown away."""
    with front(routes=OWN).h2() as client:
        def lose(stream):
            client.send(upload(stream, "/own"))
            assert client.answer(stream).status == 200
        lose_many(client, lose)


def test_an_upload_that_is_refused_by_the_origin_takes_no_window_along(front, origin):
    def refuse(peer, got):
        peer.answer(403 if got.target == "/no" else 200, b"no")
    origin.handler = refuse
    with front().h2() as client:
        def lose(stream):
            client.send(upload(stream, "/no"))
            client.send(h2.data(stream, end=True))
            assert client.answer(stream).status == 403
        lose_many(client, lose)


def test_an_upload_that_is_reset_takes_no_window_along(front):
    with front().h2() as client:
        def lose(stream):
            client.send(upload(stream, "/stuck"))
            client.leave(stream)
        lose_many(client, lose)


def test_a_client_whose_answer_has_come_is_told_to_stop(front):
    """RFC 9113 section 8.1: RST_STREAM with NO_ERROR behind a whole answer."""
    with front(routes=OWN).h2() as client:
        stream = client.new_stream()
        client.send(h2.post(stream, "/own") + h2.data(stream, b"part"))
        known = client.answer(stream)
        assert known.status == 200
        client.until(lambda: known.reset is not None, "a reset of the rest")
        assert known.reset == NO_ERROR, code_name(known.reset)


def test_streams_whose_answer_came_early_are_not_counted_for_ever(front):
    """Twice as many as may be open at once, of which the client ends none."""
    with front(routes=OWN, timeouts={"body_idle": "1s"}).h2() as client:
        for _ in range(2 * client.peer[h2.MAX_CONCURRENT_STREAMS]):
            stream = client.new_stream()
            client.send(h2.post(stream, "/own"))
            assert client.answer(stream).status == 200
        assert client.get("/other").status == 200


def test_what_was_on_its_way_to_streams_that_were_answered_harms_nobody(front):
    """RFC 9113 section 5.1: who resets a stream must take what was sent before the reset was read."""
    with front(routes=OWN).h2() as client:
        streams = [client.new_stream() for _ in range(100)]
        client.send(b"".join(h2.post(stream, "/own") for stream in streams))
        for stream in streams:
            assert client.answer(stream).status == 200
        for end in (False, False, True):
            client.send(b"".join(h2.data(stream, b"d" * 300, end=end) for stream in streams))
        assert client.get("/other").status == 200


def test_what_is_reset_while_it_waits_in_the_queue_never_reaches_the_origin(front, origin):
    go = threading.Event()

    def one_by_one(peer, got):
        if got.target == "/first":
            peer.wait(go)
        peer.answer()
    origin.handler = one_by_one
    queue = {"endpoints": [origin.address], "max_connections_per_endpoint": 1, "queue": {"size": 100, "timeout": "20s"}}
    with front(upstreams={"app": queue}).h2() as client:
        first = client.ask("/first")
        origin.wait_requests(1)
        waiting = [client.ask(f"/{number}") for number in range(50)]
        for stream in waiting[::2]:
            client.leave(stream)
        client.roundtrip()
        go.set()
        for stream in [first, *waiting[1::2]]:
            assert client.answer(stream).status == 200
    assert sorted(int(one.target[1:]) for one in origin.requests[1:]) == list(range(1, 50, 2))


def test_large_answers_share_the_connection(front, origin):
    def endless(peer, got):
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            peer.send(b"8000\r\n" + b"e" * 32768 + b"\r\n")
    origin.handler = endless
    with front().h2((h2.INITIAL_WINDOW_SIZE, 4 * MIB)) as client:
        client.give(0, 32 * MIB)
        answers = [client.of(client.ask(f"/{number}")) for number in range(4)]
        client.until(lambda: all(one.body for one in answers), "all to have begun")
        begun = [len(one.body) for one in answers]

        def came():
            return [len(one.body) - before for one, before in zip(answers, begun)]
        client.until(lambda: max(came()) > 8 * MIB, "8 MiB of one of the answers")
        assert min(came()) > MIB, came()


def test_a_small_answer_overtakes_a_large_one(front, origin):
    large = 48 * MIB

    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % large)
        for _ in range(large // MIB):
            peer.send(b"l" * MIB)
    origin.next(script)
    # The small one is the worker's own: an origin would share its interpreter with the client that reads the large one.
    with front(routes=OWN).h2((h2.INITIAL_WINDOW_SIZE, 4 * MIB)) as client:
        client.give(0, 16 * MIB)
        stream = client.ask("/large")
        client.head(stream)
        assert client.get("/own").status == 200
        assert len(client.of(stream).body) < large // 2
        client.leave(stream)
        assert client.get("/after").status == 200


def test_a_client_that_waits_for_window_is_not_late(front, origin):
    """body_idle is about a client that sends nothing though it may."""
    go = threading.Event()

    def slow(peer):
        head = peer.request_head()
        peer.wait(go)
        peer.chunked(head)
        peer.answer()
    origin.next(slow)
    with front(timeouts={"body_idle": duration(0.4)}).h2() as client:
        stream = client.new_stream()
        client.send(h2.post(stream, "/slow"))
        fill(client, stream)
        assert client.silent(1.0 * PATIENCE), client.next()
        go.set()
        client.send_body(stream, b"last")
        assert client.answer(stream).status == 200


def test_a_client_that_gives_no_window_for_too_long_loses_its_stream(front, origin):
    origin.next(lambda peer: (peer.request(), peer.answer(200, b"x" * MIB)))
    tidegate = front(timeouts={"write_idle": "400ms"})
    with tidegate.h2() as client:
        stream = client.ask("/held")
        client.held.add(stream)
        known = client.of(stream)
        client.until(lambda: known.over, "the end of a stream that nobody reads")
        assert not known.ended and len(known.body) == 65535, known.raw[:200]
        assert client.get("/other").status == 200
    line = tidegate.logged(path="/held")
    assert (line["reason"], line["who"]) == ("write_idle_timeout", "client"), line
