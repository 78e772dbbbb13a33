"""WebSocket over HTTP/2 (RFC 8441): an extended CONNECT becomes an Upgrade at the origin, and DATA its octets."""

import base64
import hashlib
import os
import signal
import threading

import pytest

from support import h2_frames as h2
from support.daemon import clear
from support.errors import expect_answer
from support.h2_frames import CANCEL, NO_ERROR, PROTOCOL_ERROR
from support.wait import PATIENCE, duration, until
from support.wire import Ended

MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MIB = 1 << 20
ASK = (("sec-websocket-version", "13"),)


@pytest.fixture
def front(launch, origin):
    return lambda **changes: launch(clear(origin.address, **changes))


def accept_of(head):
    """What an origin makes of the key (RFC 6455 section 4.2.2)."""
    key = head.get("sec-websocket-key")
    assert key and len(base64.b64decode(key, validate=True)) == 16, f"Sec-WebSocket-Key {key!r}"
    return base64.b64encode(hashlib.sha1((key + MAGIC).encode()).digest()).decode()


def switch(peer, *lines, accept=None):
    head = peer.request_head()
    answer = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket",
              f"Sec-WebSocket-Accept: {accept or accept_of(head)}", *lines]
    peer.send("\r\n".join(answer) + "\r\n\r\n")
    return head


def switching(then, *lines):
    """A script: answers 101, then `then(peer)`."""
    def script(peer):
        switch(peer, *lines)
        then(peer)
    return script


def echo(peer):
    while True:
        peer.send(peer.some())


def connect(client, path="/chat", *more, protocol="websocket", end=False, authority="test"):
    """Asks for a tunnel; returns its stream."""
    stream = client.new_stream()
    client.send(h2.headers(stream, (":method", "CONNECT"), (":protocol", protocol), (":scheme", "http"), (":path", path),
                           (":authority", authority), *ASK, *more, end=end))
    return stream


def open_tunnel(client, *more, path="/chat"):
    stream = connect(client, path, *more)
    head = client.head(stream)
    assert head.status == 200, head.raw
    return stream


def say(client, stream, octets, end=False):
    client.send_body(stream, octets, end)


def heard(client, stream, count):
    known = client.of(stream)
    client.until(lambda: len(known.body) >= count or known.over, f"{count} octets of a tunnel")
    return known.body


def test_a_websocket_becomes_an_upgrade(front, origin):
    origin.next(switching(echo, "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Extensions: permessage-deflate"))
    tidegate = front()
    with tidegate.h2() as client:
        assert client.peer.get(h2.ENABLE_CONNECT_PROTOCOL) == 1, "RFC 8441 section 3"
        stream = open_tunnel(client, ("sec-websocket-protocol", "chat, other"), ("origin", "http://test"),
                             ("sec-websocket-extensions", "permessage-deflate"), path="/chat?room=1")
        answer = client.of(stream)
        assert answer.get("sec-websocket-protocol") == "chat"
        assert answer.get("sec-websocket-extensions") == "permessage-deflate"
        assert not {"sec-websocket-accept", "connection", "upgrade", "transfer-encoding", "content-length"} & set(answer.names())
        say(client, stream, b"ping \x00\xff\r\n")
        assert heard(client, stream, 9) == b"ping \x00\xff\r\n"
        assert client.get("/beside").status == 200
        say(client, stream, b"", end=True)
    head = origin.requests[0]
    assert (head.method, head.target, head.get("host")) == ("GET", "/chat?room=1", "test")
    assert (head.get("upgrade").lower(), head.get("connection").lower()) == ("websocket", "upgrade")
    assert head.get("sec-websocket-version") == "13" and head.get("sec-websocket-protocol") == "chat, other"
    assert head.get("origin") == "http://test"
    assert not {"transfer-encoding", "content-length", ":protocol", "protocol"} & set(head.names())
    line = tidegate.logged(path="/chat?room=1")
    assert line["status"] in (101, 200) and line["bytes_in"] >= 9 and line["bytes_out"] >= 9, line


def test_a_key_of_the_client_is_not_the_one_that_the_origin_gets(front, origin):
    """RFC 8441 section 5: the key is not used in HTTP/2. Two tunnels have two keys."""
    origin.next(switching(echo), switching(echo))
    with front().h2() as client:
        for _ in range(2):
            open_tunnel(client)
    keys = {head.get("sec-websocket-key") for head in origin.requests}
    assert len(keys) == 2


def test_octets_before_and_with_the_answer_arrive(front, origin):
    def then(peer):
        peer.send(peer.exactly(5))
        peer.expect_gone()

    def script(peer):
        head = peer.request_head()
        peer.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                  f"Sec-WebSocket-Accept: {accept_of(head)}\r\n\r\nserver speaks first ")
        then(peer)
    origin.next(script)
    with front().h2() as client:
        stream = connect(client)
        client.spend(stream, 5)
        client.send(h2.data(stream, b"early"))
        assert client.head(stream).status == 200
        assert heard(client, stream, 25) == b"server speaks first early"


def test_the_clients_end_is_passed_on_and_the_answer_still_comes(front, origin):
    origin.next(switching(lambda peer: peer.send(b"answer to " + peer.to_end())))
    with front().h2() as client:
        stream = open_tunnel(client)
        say(client, stream, b"question", end=True)
        answer = client.outcome(stream)
        assert (answer.body, answer.ended, answer.reset) == (b"answer to question", True, None)


def test_the_origins_end_is_passed_on_and_the_client_may_go_on(front, origin):
    rest = []

    def then(peer):
        peer.send(b"last words")
        peer.half_close()
        rest.append(peer.to_end())
    origin.next(switching(then))
    with front().h2() as client:
        stream = open_tunnel(client)
        known = client.of(stream)
        client.until(lambda: known.ended, "the origin's end")
        assert known.body == b"last words"
        say(client, stream, b"still talking", end=True)
        until(lambda: rest, "what the client said after the origin's end")
    assert rest == [b"still talking"]


def test_a_reset_of_the_stream_resets_the_origin(front, origin):
    gone = []

    def then(peer):
        try:
            peer.to_end()
            gone.append("end")
        except Ended as ended:
            gone.append(ended.how)
    origin.next(switching(then))
    with front().h2() as client:
        stream = open_tunnel(client)
        client.leave(stream, CANCEL)
        until(lambda: gone, "the end of the tunnel at the origin")
        assert client.get("/beside").status == 200


def test_a_reset_of_the_origin_resets_the_stream(front, origin):
    origin.next(switching(lambda peer: (peer.exactly(1), peer.reset())))
    with front().h2() as client:
        stream = open_tunnel(client)
        say(client, stream, b"x")
        known = client.outcome(stream)
        assert not known.ended and known.reset not in (None, NO_ERROR), known.raw
        assert client.get("/beside").status == 200


def test_the_end_of_the_connection_ends_its_tunnels(front, origin):
    origin.next(switching(lambda peer: peer.expect_gone()))
    with front().h2() as client:
        open_tunnel(client)
    assert origin.peers[0].finished.wait(10 * PATIENCE)


def test_bulk_in_both_directions_arrives_intact(front, origin):
    origin.next(switching(echo))
    payload = os.urandom(MIB) * 6
    with front().h2() as client:
        stream = open_tunnel(client)
        say(client, stream, payload)
        assert heard(client, stream, len(payload)) == payload


def test_a_tunnel_that_does_not_read_throttles_only_itself(front, origin):
    go = threading.Event()
    origin.next(switching(lambda peer: (peer.wait(go), echo(peer))))
    with front().h2() as client:
        stream = open_tunnel(client)
        known, sent = client.of(stream), 0
        while sent < 16 * MIB:
            room = min(client.send_window, known.send_window, 16384)
            if room <= 0:
                client.roundtrip()
                if known.send_window <= 0 and client.silent(0.2):
                    break
                continue
            client.spend(stream, room)
            client.send(h2.data(stream, bytes(room)))
            sent += room
        assert sent < 16 * MIB, "an origin that does not read is sent all"
        assert client.get("/beside", body=b"o" * 200000, method="POST").status == 200
        go.set()
        assert heard(client, stream, sent) == bytes(sent)


# What is no tunnel.

@pytest.mark.parametrize("status", [400, 403, 426, 503])
def test_a_refusal_of_the_origin_is_the_answer(front, origin, status):
    origin.handler = lambda peer, got: peer.answer(status, b"no tunnel")
    with front().h2() as client:
        answer = client.answer(connect(client))
        assert (answer.status, answer.body) == (status, b"no tunnel")
        assert client.get("/beside").status == status


def test_a_200_of_the_origin_opens_no_tunnel(front, origin):
    """A 2xx would tell the client of HTTP/2 that its tunnel is open, which an origin of HTTP/1.1 says by 101 alone."""
    origin.handler = lambda peer, got: peer.answer(200, b"a page")
    with front().h2() as client:
        answer = client.answer(connect(client))
        assert answer.status == 502, answer.raw
        expect_answer(answer, "upstream_upgrade_failed")


@pytest.mark.parametrize("lines", [
    ["Upgrade: websocket", "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA="],
    ["Upgrade: other", "Sec-WebSocket-Accept: @"], ["Upgrade: websocket"]], ids=["accept", "protocol", "no accept"])
def test_an_origin_that_switches_wrongly_is_502(front, origin, lines):
    """The client cannot test what it does not see: whether the origin has understood the key."""
    def script(peer):
        head = peer.request_head()
        answer = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", *lines]
        peer.send("\r\n".join(answer).replace("@", accept_of(head)) + "\r\n\r\n")
        peer.expect_gone()
    origin.next(script)
    with front().h2() as client:
        expect_answer(client.answer(connect(client)), "upstream_upgrade_failed")


@pytest.mark.parametrize("status,told", [(200, 501), (403, 403)])
def test_a_route_of_our_own_opens_no_tunnel(front, status, told):
    own = {"name": "own", "path": "/own", "respond": {"status": status, "body": "own"}}
    tidegate = front(routes=[own, {"name": "all", "upstream": "app"}])
    with tidegate.h2() as client:
        assert client.answer(connect(client, "/own")).status == told
    line = tidegate.logged(path="/own")
    assert (line["status"], line.get("who")) == (told, "client" if told == 501 else None), line


def test_a_request_that_was_reset_has_no_status_in_the_log(front):
    tidegate = front()
    with tidegate.h2() as client:
        stream = client.new_stream()
        client.send(h2.headers(stream, (":method", "GET"), (":scheme", "http"), (":path", "/bad"), (":authority", "test"),
                               ("connection", "close")))
        known = client.outcome(stream)
        assert known.reset == PROTOCOL_ERROR, known.raw
    line = tidegate.logged(path="/bad")
    assert "status" not in line and line["who"] == "client", line


def test_another_protocol_is_not_implemented(front, origin):
    with front().h2() as client:
        stream = connect(client, protocol="connect-udp")
        known = client.outcome(stream)
        assert known.status in (400, 405, 501) or known.reset == PROTOCOL_ERROR, known.raw
        assert client.get("/beside").status == 200
    assert [head.target for head in origin.requests] == ["/beside"]


@pytest.mark.parametrize("missing", [":scheme", ":path", ":authority"])
def test_an_extended_connect_has_all_pseudo_headers(front, origin, missing):
    """RFC 8441 section 4."""
    with front().h2() as client:
        stream = client.new_stream()
        fields = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/"),
                  (":authority", "test"), *ASK]
        client.send(h2.headers(stream, *[one for one in fields if one[0] != missing], end=False))
        known = client.outcome(stream)
        assert known.status == 400 or known.reset == PROTOCOL_ERROR, known.raw
        assert client.get("/beside").status == 200
    assert [head.target for head in origin.requests] == ["/beside"]


# How tunnels end.

def test_a_tunnel_that_is_idle_for_too_long_is_reset(front, origin):
    origin.next(switching(echo))
    tidegate = front(timeouts={"tunnel_idle": "300ms"})
    with tidegate.h2() as client:
        stream = open_tunnel(client)
        known = client.outcome(stream)
        assert not known.ended, "a tunnel that is cut does not look finished"
        assert client.get("/beside").status == 200
    assert tidegate.logged(path="/chat")["reason"] == "tunnel_idle_timeout"


def test_a_stop_ends_tunnels_by_the_shutdown_timeout(front, origin):
    origin.next(switching(echo))
    tidegate = front(shutdown={"timeout": "500ms"})
    with tidegate.h2() as client:
        open_tunnel(client)
        tidegate.signal(signal.SIGTERM)
        client.end()
    assert tidegate.wait_exit() == 0


def test_a_tunnel_lives_on_in_the_old_generation_until_its_deadline(front, origin):
    origin.next(switching(echo))
    tidegate = front(upgrade={"drain": "200ms", "drain_tunnels": duration(2)})
    with tidegate.h2() as client:
        stream = open_tunnel(client)
        threading.Thread(target=lambda: tidegate.cli("upgrade", "--force"), daemon=True).start()
        until(lambda: tidegate.generation == 2, "generation 2")
        say(client, stream, b"after")
        assert heard(client, stream, 5) == b"after"
        client.end()
        assert not client.of(stream).ended
    tidegate.wait_generations(1)
    line = tidegate.logged(path="/chat")
    assert line["reason"] == "drain_deadline" and line["who"] == "tidegate", line
