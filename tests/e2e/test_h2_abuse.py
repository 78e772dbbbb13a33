"""What a client of HTTP/2 may do for nothing is bounded (RFC 9113 section 10.5): its connection ends with a reason in the log,
the work at the origin and our memory stay small, and somebody else is served all the while."""

import socket
import threading
import time

import pytest

from support import h2_frames as h2
from support import hpack, processes
from support.attack import BOUNDED, BYSTANDER, MOST_MEMORY, Attack, attacker
from support.daemon import clear
from support.h2 import raw_h2
from support.h2_frames import ENHANCE_YOUR_CALM, continuation, data, get, headers, ping, post, priority, rst
from support.origin import black_hole
from support.wait import PATIENCE, duration, until
from support.wire import Ended

KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def attack(launch, origin):
    """`attack(**changes)`: an attack on a Tidegate in front of `origin`."""
    def begin(most_memory=MOST_MEMORY, **changes):
        changes.setdefault("routes", [BYSTANDER, {"name": "all", "upstream": "app"}])
        return Attack(launch(clear(origin.address, logging={"level": "warn"}, **changes)), origin, most_memory)
    return begin


def pour(client, octets, times):
    """Sends `octets` until it was done `times` times or the connection ends."""
    try:
        for number in range(times):
            client.send(octets(number) if callable(octets) else octets)
    except OSError:
        pass


# Floods.

BATCH = 50


def batch(make):
    """`make(stream)` for BATCH streams: what a flood sends at once."""
    return lambda number: b"".join(make(2 * (number * BATCH + place) + 1) for place in range(BATCH))


def test_rapid_reset(attack):
    """CVE-2023-44487."""
    with attack() as under:
        client = attacker(under.tidegate)
        pour(client, batch(lambda stream: get(stream, "/rapid") + rst(stream)), 400)
        under.calmed(client, "h2_rapid_reset")


def test_goaways_again_and_again_end_an_idle_connection(attack):
    """The first one says that the client wants nothing more."""
    with attack() as under:
        client = attacker(under.tidegate)
        pour(client, h2.goaway() * 50, 2000)
        client.end()


def test_rapid_reset_while_the_origin_is_slow(attack, origin):
    """What was reset must not go on at the origin."""
    def stuck(peer):
        peer.request()
        peer.expect_gone()

    with attack() as under:
        origin.forever(stuck)
        client = attacker(under.tidegate)
        pour(client, batch(lambda stream: get(stream, "/rapid") + rst(stream)), 400)
        under.calmed(client, "h2_rapid_reset")
        until(lambda: all(peer.finished.is_set() for peer in origin.peers), "no request left at the origin")


PROVOCATIONS = {
    "window of nothing": lambda stream: get(stream, "/made") + h2.window_update(stream, 0),
    "window too large": lambda stream: get(stream, "/made") + h2.window_update(stream, 2**31 - 1) * 2,
    "data behind the end": lambda stream: get(stream, "/made") + data(stream, b"x"),
    "fields behind the end": lambda stream: get(stream, "/made") + headers(stream, ("x-a", "b")),
    "priority of four octets": lambda stream: get(stream, "/made") + h2.frame(h2.PRIORITY, 0, stream, bytes(4)),
    "too much body": lambda stream: post(stream, "/made", ("content-length", "1")) + data(stream, b"xx"),
    "malformed": lambda stream: get(stream, "/made", ("Bad", "x")),
    "malformed trailers": lambda stream: post(stream, "/made") + headers(stream, ("Bad", "x")),
}


def provoke(client, make):
    """Never more streams at once than a client may have: twenty, then the next when all of them have ended."""
    try:
        for _ in range(100):
            streams = [client.new_stream() for _ in range(20)]
            client.send(b"".join(make(stream) for stream in streams))
            client.until(lambda streams=streams: client.goaway or all(client.of(one).over for one in streams), "resets")
    except (Ended, OSError):
        pass
    return client.end()


@pytest.mark.parametrize("how", PROVOCATIONS)
def test_made_you_reset(attack, how):
    """CVE-2025-8671: the resets are ours, the work is the origin's all the same. Where RFC 9113 lets a server end the
    connection instead, it may do so at once."""
    with attack() as under:
        client = attacker(under.tidegate)
        goaway = provoke(client, PROVOCATIONS[how])
        assert goaway is not None
        if goaway.code == ENHANCE_YOUR_CALM:
            under.told(client, "h2_provoked_resets")
        else:
            assert goaway.code in (h2.PROTOCOL_ERROR, h2.STREAM_CLOSED, h2.FLOW_CONTROL_ERROR, h2.FRAME_SIZE_ERROR), str(goaway)
            under.told(client, "h2_protocol")


@pytest.mark.parametrize("ends", [False, True], ids=["open", "ended"])
def test_bodies_that_become_too_large_are_provocations(attack, origin, ends):
    """CVE-2025-8671 without an error that the resets would tell: 413, after the origin was asked."""
    def stuck(peer):
        peer.request_head()
        peer.expect_gone()

    with attack(limits={"max_body": "1KiB"}) as under:
        origin.forever(stuck)
        client = attacker(under.tidegate)
        statuses = set()
        try:
            for _ in range(40):
                streams = [client.new_stream() for _ in range(20)]
                client.send(b"".join(post(stream, "/large") for stream in streams))
                client.roundtrip()
                client.send(b"".join(data(stream, b"z" * 1025, end=ends) for stream in streams))
                client.until(lambda streams=streams: client.goaway or all(client.of(one).over for one in streams), "413")
                statuses |= {client.of(one).status for one in streams}
        except (Ended, OSError):
            pass
        under.calmed(client, "h2_provoked_resets")
        assert 413 in statuses and statuses <= {413, None}
        assert len([one for one in origin.requests if one.target == "/large"]) < 400


def test_bodies_that_are_too_large_are_answered(attack):
    """Nothing is asked of the origin: that is no attack."""
    with attack(limits={"max_body": "1KiB"}) as under:
        client = attacker(under.tidegate)
        for _ in range(300):
            stream = client.new_stream()
            client.send(post(stream, "/large", ("content-length", "2000")))
            assert client.head(stream).status == 413
        client.roundtrip()
        assert client.goaway is None


def test_more_streams_than_allowed_again_and_again(attack, origin):
    gate = threading.Event()

    def stuck(peer):
        while True:
            got = peer.request()
            if got.target == "/many":
                peer.wait(gate)
            peer.answer()
    with attack() as under:
        origin.forever(stuck)
        client = attacker(under.tidegate)
        allowed = client.peer[h2.MAX_CONCURRENT_STREAMS]
        pour(client, batch(lambda stream: get(stream, "/many")), 400)
        under.calmed(client, "h2_stream_flood")
        many = len([one for one in origin.requests if one.target == "/many"])
        assert many <= allowed, f"{many} requests at the origin, {allowed} are allowed"
        gate.set()


def test_one_stream_too_many_is_refused_and_the_others_are_served(attack, origin):
    """RFC 9113 section 5.1.2."""
    gate = threading.Event()

    def held(peer, got):
        peer.wait(gate)
        peer.answer()
    with attack() as under:
        origin.handler = held
        client = attacker(under.tidegate)
        client.roundtrip()
        streams = [client.ask("/many") for _ in range(client.peer[h2.MAX_CONCURRENT_STREAMS])]
        for _ in range(100):
            assert client.outcome(client.ask("/many")).reset == h2.REFUSED_STREAM
        gate.set()
        assert {client.answer(stream).status for stream in streams} == {200}
        assert client.get("/after").status == 200 and client.goaway is None
        assert len([one for one in origin.requests if one.target == "/many"]) == len(streams)


BODY = post(1, "/body")
FLOODS = {
    "settings": (b"", h2.settings() * 50, "h2_settings_flood"),
    "settings with values": (b"", h2.settings((h2.INITIAL_WINDOW_SIZE, 65535), (h2.INITIAL_WINDOW_SIZE, 0)) * 50,
                             "h2_settings_flood"),
    "acknowledgements": (b"", h2.settings(ack=True) * 50, "h2_protocol"),
    "ping": (b"", ping() * 50, "h2_ping_flood"),
    "acknowledged pings": (b"", ping(ack=True) * 50, "h2_ping_flood"),
    "priority": (b"", priority(1, depends=0) * 50, "h2_priority_flood"),
    "empty data": (BODY, data(1) * 50, "h2_empty_data_flood"),
    "data of padding": (BODY, data(1, pad=0) * 50, "h2_empty_data_flood"),
    "window": (b"", h2.window_update(0, 1) * 50, "h2_window_flood"),
    "window of a stream": (BODY, h2.window_update(1, 1) * 50, "h2_window_flood"),
    "window of a closed stream": (get(1, "/closed") + rst(1), h2.window_update(1, 1) * 50, "h2_window_flood"),
    "unknown frames": (b"", h2.frame(0xee, 0, 0, b"x") * 50, "h2_unknown_frame_flood"),
    "resets of a closed stream": (get(1, "/closed") + rst(1), rst(1) * 50, "h2_rapid_reset"),
    "priority update": (b"", h2.frame(0x10, 0, 0, b"\x00\x00\x00\x01u=1") * 50, "h2_priority_flood"),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_of_frames_that_say_nothing(attack, kind):
    """CVE-2019-9511 to 9518 and their like: 100,000 frames are not looked at."""
    first, octets, reason = FLOODS[kind]
    with attack() as under:
        client = attacker(under.tidegate)
        client.send(first)
        pour(client, octets, 2000)
        goaway = client.end()
        assert goaway is not None and goaway.code in (ENHANCE_YOUR_CALM, h2.PROTOCOL_ERROR), str(goaway)
        under.told(client, reason, *(["h2_protocol"] if goaway.code == h2.PROTOCOL_ERROR else []))


def test_a_reader_of_small_pieces_is_no_flood(attack, origin):
    """As Go's client does it: two WINDOW_UPDATE frames for each 4 KiB that it has read, which may be long after it came."""
    size, piece = 24 * MIB, 4 * KIB
    with attack() as under:
        origin.handler = lambda peer, got: peer.answer(200, b"g" * size)
        client = attacker(under.tidegate, (h2.INITIAL_WINDOW_SIZE, 4 * MIB), credit=False)
        client.give(0, 2**30)
        stream = client.ask("/pieces")
        known = client.of(stream)

        def read_to(end, at):
            for _ in range(at, end - piece + 1, piece):
                client.give(0, piece)
                client.give(stream, piece)
            return end - (end - at) % piece

        at = 0
        while not known.over:
            client.next()
            # All that it may have unread is read at once.
            if len(known.body) - at > 3 * MIB:
                at = read_to(len(known.body), at)
        read_to(size, at)
        client.roundtrip()
        assert known.ended and len(known.body) == size and client.goaway is None, client.told()


def test_a_window_that_opens_by_single_octets_is_a_dribble(attack, origin):
    """CVE-2019-9511: each has us make a frame."""
    with attack() as under:
        origin.handler = lambda peer, got: peer.answer(200, b"d" * MIB)
        client = attacker(under.tidegate, (h2.INITIAL_WINDOW_SIZE, 0), credit=False)
        stream = client.ask("/dribble")
        client.head(stream)
        pour(client, h2.window_update(stream, 1) * 10, 1000)
        known = client.of(stream)
        known.window = 10000
        under.calmed(client, "h2_window_flood")
        assert len(known.body) < 5000


@pytest.mark.parametrize("octets,reasons", [
    (continuation(1, whole=False) * 50, ["h2_continuation_flood"]),
    (continuation(1, *[("x-a", "a" * 100)] * 100, whole=False) * 4, ["h2_continuation_flood", "h2_header_flood"]),
    (continuation(1, hpack.table_size(0) * 1000, whole=False), ["h2_continuation_flood", "h2_protocol"]),
], ids=["empty", "fields", "table sizes"])
def test_continuation_flood(attack, octets, reasons):
    """CVE-2024-27316, CVE-2024-24549 and their like: a block that has no end."""
    with attack() as under:
        client = attacker(under.tidegate)
        client.send(headers(1, *h2.asking(path="/block"), whole=False))
        pour(client, octets, 2000)
        goaway = client.end()
        assert goaway is not None and goaway.code in (ENHANCE_YOUR_CALM, h2.PROTOCOL_ERROR, h2.COMPRESSION_ERROR), str(goaway)
        under.told(client, *reasons)
        assert not [one for one in under.origin.requests if one.target == "/block"]


# HPACK.

def test_hpack_bomb(attack):
    """CVE-2016-6581: a field of 4,000 octets is named by one octet each, 16,000 times."""
    with attack() as under:
        client = attacker(under.tidegate)
        bomb = headers(1, *h2.asking(path="/bomb"), hpack.added("x-bomb", "b" * 4000), hpack.indexed(62) * 10000)
        client.send(bomb)
        known = client.of(1)
        client.until(lambda: known.over or client.goaway, "an answer to a bomb")
        assert client.goaway or known.status == 431 or known.reset is not None, known.raw
        assert not [one for one in under.origin.requests if one.target == "/bomb"]


def test_many_hpack_bombs_on_one_connection(attack):
    with attack() as under:
        client = attacker(under.tidegate)
        client.send(headers(1, *h2.asking(path="/first"), hpack.added("x-bomb", "b" * 4000)))
        assert client.answer(1).status == 200
        pour(client, lambda number: headers(2 * number + 3, *h2.asking(path="/bomb"), hpack.indexed(62) * 5000), 200)
        # Each makes 20 MiB out of 5 KiB: nobody may have us do that for long.
        under.calmed(client, "h2_header_flood")
        assert not [one for one in under.origin.requests if one.target == "/bomb"]


def test_crumbs_of_cookies_are_counted(attack):
    """A crumb is one octet on the wire, and more than that in the field that it becomes."""
    with attack() as under:
        client = attacker(under.tidegate)
        client.send(headers(1, *h2.asking(path="/crumbs"), hpack.added("cookie", "c" * 100), hpack.indexed(62) * 10000))
        known = client.of(1)
        client.until(lambda: known.over or client.goaway, "an answer to crumbs")
        assert client.goaway or known.status == 431 or known.reset is not None, known.raw


def test_a_huge_table_size_is_not_used(attack, origin):
    """The client allows our encoder 4 GiB; what we keep for it is ours to bound."""
    def script(peer, got):
        lines = [f"X-{got.target[1:]}-{number}: {'v' * 900}" for number in range(25)]
        peer.answer(200, b"ok", *lines)
    with attack() as under:
        origin.handler = script
        client = attacker(under.tidegate, (h2.HEADER_TABLE_SIZE, 2**32 - 1))
        for number in range(60):
            assert client.get(f"/{number}").get(f"x-{number}-7") == "v" * 900


# Streams that are not taken.

def test_zero_windows_hold_nothing_for_long(attack, origin):
    """A hundred answers that nobody takes: their origins are let go after `write_idle`."""
    with attack(timeouts={"write_idle": "1s"}) as under:
        origin.handler = lambda peer, got: peer.answer(200, b"z" * (300 * KIB))
        client = attacker(under.tidegate, (h2.INITIAL_WINDOW_SIZE, 0))
        streams = [client.ask(f"/zero/{number}") for number in range(100)]
        for stream in streams:
            known = client.outcome(stream)
            assert not known.ended and known.body == b"", known.raw
        idle = under.tidegate.logged(path="/zero/0")
        assert idle["reason"] == "write_idle_timeout", idle


def test_a_client_that_stops_reading_is_closed(attack, origin):
    """CVE-2019-9517: the windows are open, the connection is not read."""
    with attack(timeouts={"write_idle": "1s"}) as under:
        origin.handler = lambda peer, got: peer.answer(200, b"r" * (4 * MIB))
        client = attacker(under.tidegate, (h2.INITIAL_WINDOW_SIZE, 2**31 - 1), receive_buffer=16 * KIB)
        client.send(h2.window_update(0, 2**31 - 1 - 65535))
        for _ in range(100):
            client.ask("/unread")
        client.credit = False
        under.told(client, "write_idle_timeout")
        until(lambda: under.tidegate.counters()["connections_active"] <= 1, "the end of who does not read")


def test_pings_of_a_client_that_does_not_read_are_bounded(attack):
    """What waits to be written is bounded: who does not read is not read either."""
    with attack(timeouts={"write_idle": "1s"}) as under:
        client = attacker(under.tidegate, receive_buffer=4 * KIB)
        client.sock.settimeout(5 * PATIENCE)
        try:
            while True:
                client.send(ping() * 1000)
        except (OSError, socket.timeout):
            pass


def fill(client, stream):
    """Sends DATA until the window of the stream is used up; False when none is given for a tenth of a second."""
    known = client.of(stream)
    while known.send_window > 0:
        room = min(client.send_window, known.send_window, 16384)
        if room > 0:
            client.spend(stream, room)
            client.send(data(stream, bytes(room)))
        elif client.silent(0.1):
            return False
        else:
            client.next()
    return True


def test_uploads_that_no_origin_takes_are_bounded_for_all_clients_together(attack, origin):
    """Twenty clients with as many streams as they may have, all of whose windows they fill; and what that took is given
    back when they have gone."""
    holders, hole = black_hole()
    with attack(most_memory=112 * MIB, timeouts={"upstream_connect": "30s"}, upstreams={"hole": {"endpoints": [hole]}},
                routes=[{"name": "hole", "path": "/hole", "upstream": "hole"}, BYSTANDER, {"name": "all", "upstream": "app"}],
                ) as under:
        clients = [attacker(under.tidegate) for _ in range(20)]
        for client in clients:
            streams = [client.new_stream() for _ in range(client.peer[h2.MAX_CONCURRENT_STREAMS])]
            client.send(b"".join(post(stream, "/hole") for stream in streams))
            for stream in streams:
                if not fill(client, stream):
                    break
        # Somebody else's upload is small, and there is room for it.
        with under.tidegate.h2() as other:
            assert other.get("/upload", body=b"u" * 30000, method="POST").status == 200
        # Nor does it harm a client that a few streams of its own wait at the same origin.
        with under.tidegate.h2() as other:
            for _ in range(5):
                stream = other.new_stream()
                other.send(post(stream, "/hole"))
                fill(other, stream)
            assert other.get("/upload", body=b"u" * 300 * KIB, method="POST").status == 200
        for client in clients:
            client.close()
        until(lambda: not BOUNDED or processes.resident_bytes(under.worker) - under.before < MOST_MEMORY,
              lambda: f"the memory of a burst given back: {processes.resident_bytes(under.worker) - under.before}", 30)
    for one in holders:
        one.close()


# Silence.

def hasty(seconds):
    """Timeouts for who says nothing. The bystander, who asks all the time, must never pause for as long."""
    return {"request_head": duration(seconds), "keepalive": duration(seconds)}


def silent(tidegate):
    client = raw_h2(tidegate.address())
    client.port_was = client.port
    return client


SILENCES = {
    "nothing": b"",
    "half a preface": h2.PREFACE[:10],
    "a preface": h2.PREFACE,
    "a preface and half of SETTINGS": h2.PREFACE + h2.settings((3, 100))[:11],
}


@pytest.mark.parametrize("what", SILENCES)
def test_silence_before_the_settings(attack, what):
    with attack(timeouts=hasty(0.5)) as under:
        client = silent(under.tidegate)
        client.send(SILENCES[what])
        client.expect_gone()
        if what.startswith("a preface"):
            under.tidegate.logged(reason="h2_preface_timeout")


HALVES = {
    "half of a frame's head": get(1)[:5],
    "half of HEADERS": get(1)[:20],
    "HEADERS without their end": headers(1, *h2.asking(), whole=False),
    "CONTINUATION without their end": headers(1, *h2.asking(), whole=False) + continuation(1, whole=False),
}


@pytest.mark.parametrize("what", HALVES)
def test_silence_within_a_request(attack, what):
    with attack(timeouts=hasty(0.5)) as under:
        client = attacker(under.tidegate)
        client.send(HALVES[what])
        client.end()


def test_a_head_that_trickles_has_its_time(attack):
    """Slowloris of HTTP/2: each frame is in time, the request never is."""
    with attack(timeouts=hasty(0.6)) as under:
        client = attacker(under.tidegate)
        octets = headers(1, *h2.asking(("x-a", "a" * 5000)))
        began = time.monotonic()
        try:
            for octet in octets:
                client.send(bytes([octet]))
                if not client.silent(0.05):
                    break
        except OSError:
            pass
        client.end()
        assert time.monotonic() - began < 5 * PATIENCE


def test_a_body_that_trickles_is_408_on_its_stream(attack, origin):
    with attack(timeouts={"body_idle": "5s", "body_min_rate": "1KiB/s"}) as under:
        client = attacker(under.tidegate)
        stream = client.new_stream()
        client.send(post(stream, "/trickle"))
        known = client.of(stream)
        end = time.monotonic() + 30 * PATIENCE
        while not known.over and time.monotonic() < end:
            client.send(data(stream, b"x"))
            if not client.silent(0.05):
                client.next()
        assert known.status == 408 or known.reset is not None, known.raw
        assert client.get("/beside").status == 200
        assert under.tidegate.logged(path="/trickle")["reason"] == "body_too_slow"


def test_three_hundred_silent_connections(attack):
    with attack(timeouts=hasty(1)) as under:
        clients = [silent(under.tidegate) for _ in range(300)]
        for number, client in enumerate(clients):
            client.send(list(SILENCES.values())[number % len(SILENCES)])
        for client in clients:
            client.expect_gone()
            client.close()


# What is no abuse.

def test_an_answer_taken_in_small_windows_is_no_flood(attack, origin):
    size, piece = 2500 * 512, 512
    with attack() as under:
        origin.handler = lambda peer, got: peer.answer(200, b"s" * size)
        client = attacker(under.tidegate, (h2.INITIAL_WINDOW_SIZE, piece))
        client.held.add(1)
        stream = client.ask("/small")
        known = client.of(stream)
        while not known.over:
            client.until(lambda: known.window == 0 or known.over, "what the window allows")
            if not known.over:
                client.give(stream, piece)
        assert len(client.answer(stream).body) == size


def test_many_hundred_requests_in_a_row_are_no_flood(attack):
    with attack() as under:
        client = attacker(under.tidegate)
        for number in range(15):
            for stream in [client.ask(f"/{number}") for _ in range(100)]:
                assert client.answer(stream).status == 200


def test_a_page_that_is_left_a_hundred_times_over_is_no_attack(attack):
    """A browser resets what it has asked for when the user goes on."""
    with attack() as under:
        client = attacker(under.tidegate)
        for _ in range(100):
            client.leave(client.ask("/left"))
        assert client.get("/next").status == 200


def test_a_ping_with_each_piece_of_a_download_is_no_flood(attack, origin):
    """So the clients of gRPC measure the bandwidth."""
    with attack() as under:
        origin.handler = lambda peer, got: peer.answer(200, b"d" * 8 * MIB)
        client = attacker(under.tidegate)
        known, pings = client.of(client.ask("/download")), 0
        while not known.over:
            if client.next().kind == h2.DATA:
                client.send(ping(b"%08d" % pings))
                pings += 1
        assert len(client.answer(known.stream).body) == 8 * MIB and pings > 400
