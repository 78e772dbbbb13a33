"""Tunnels after a 101: octets both ways, half-close, nothing lost at the seams, a real WebSocket library."""

import asyncio
import hashlib
import os
import signal
import socket
import tempfile
import threading

import websockets

from support.client import request
from support.daemon import basic
from support.errors import expect_error
from support.wait import PATIENCE, duration, until

ASK = ("Connection: Upgrade", "Upgrade: raw/1")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw/1\r\n\r\n"


def switching(then):
    """A script: answers 101, then `then(peer)`."""
    def script(peer):
        peer.request()
        peer.send(SWITCH)
        then(peer)
    return script


def echo(peer):
    while True:
        peer.send(peer.some())


def open_tunnel(client, *early):
    client.send(request("GET", "/tunnel", *ASK) + b"".join(early))
    response = client.response()
    assert response.status == 101, response.raw
    assert response.get("upgrade") == "raw/1"
    assert response.get("connection").lower() == "upgrade"


def test_the_origin_sees_the_upgrade_and_the_client_the_101(tidegate, origin):
    origin.next(switching(echo))
    with tidegate.connect() as client:
        open_tunnel(client)
        client.send(b"ping \x00\xff\r\n")
        assert client.exactly(9) == b"ping \x00\xff\r\n"
    head = origin.requests[0]
    assert (head.get("upgrade"), head.get("connection").lower()) == ("raw/1", "upgrade")


def test_octets_in_the_same_segment_as_the_101_arrive(tidegate, origin):
    def script(peer):
        peer.request()
        peer.send(SWITCH + b"server speaks first")
        echo(peer)
    origin.next(script)
    with tidegate.connect() as client:
        open_tunnel(client)
        assert client.exactly(19) == b"server speaks first"
        client.send(b"x")
        assert client.exactly(1) == b"x"


def test_octets_in_the_same_segment_as_the_request_arrive(tidegate, origin):
    origin.next(switching(echo))
    with tidegate.connect() as client:
        open_tunnel(client, b"client speaks early")
        assert client.exactly(19) == b"client speaks early"


def test_the_clients_end_is_passed_on_and_the_answer_still_comes(tidegate, origin):
    def then(peer):
        question = peer.to_end()
        peer.send(b"answer to " + question)
    origin.next(switching(then))
    with tidegate.connect() as client:
        open_tunnel(client)
        client.send(b"question")
        client.half_close()
        assert client.to_end() == b"answer to question"
    assert origin.peers[0].finished.wait(10 * PATIENCE)


def test_the_origins_end_is_passed_on_and_the_client_may_go_on(tidegate, origin):
    rest = []

    def then(peer):
        peer.send(b"last words")
        peer.half_close()
        rest.append(peer.to_end())
    origin.next(switching(then))
    with tidegate.connect() as client:
        open_tunnel(client)
        assert client.to_end() == b"last words"
        client.send(b"still talking")
        client.close()
    assert origin.peers[0].finished.wait(10 * PATIENCE)
    assert rest == [b"still talking"]


def test_a_reset_of_one_side_reaches_the_other(tidegate, origin):
    origin.next(switching(lambda peer: peer.expect_gone()))
    client = tidegate.connect()
    open_tunnel(client)
    client.reset()
    assert origin.peers[0].finished.wait(10 * PATIENCE)


def test_bulk_in_both_directions_arrives_intact(tidegate, origin):
    origin.next(switching(echo))
    payload = os.urandom(1 << 20) * 8
    with tidegate.connect() as client:
        open_tunnel(client)
        thread = threading.Thread(target=lambda: client.send(payload))
        thread.start()
        got = client.exactly(len(payload))
        thread.join()
    assert hashlib.sha256(got).digest() == hashlib.sha256(payload).digest()


def test_a_refused_upgrade_is_an_ordinary_answer_and_the_connection_is_kept(tidegate, origin):
    with tidegate.connect() as client:
        assert client.get("/", *ASK).status == 200
        assert client.get("/").status == 200


def test_a_101_that_nobody_asked_for_is_502(tidegate, origin):
    origin.forever(switching(lambda peer: peer.expect_gone()))
    with tidegate.connect() as client:
        expect_error(tidegate, client.get("/"), "upstream_upgrade_failed", closes=False)


def test_a_tunnel_is_logged_at_its_end_with_its_octets(tidegate, origin):
    origin.next(switching(echo))
    with tidegate.connect() as client:
        open_tunnel(client)
        client.send(b"12345")
        client.exactly(5)
    line = tidegate.logged(path="/tunnel")
    assert line["status"] == 101
    assert line["bytes_out"] >= 5 and line["bytes_in"] >= 5


def test_a_tunnel_survives_a_reload(tidegate, origin):
    origin.next(switching(echo))
    with tidegate.connect() as client:
        open_tunnel(client)
        tidegate.ok("reload", "--force")
        client.send(b"after")
        assert client.exactly(5) == b"after"


def test_a_tunnel_lives_on_in_the_old_generation_until_its_deadline(launch, origin):
    origin.next(switching(echo))
    tidegate = launch(basic(origin.address, upgrade={"hand_over": False, "drain": "200ms", "drain_tunnels": duration(2)}))
    with tidegate.connect() as client:
        open_tunnel(client)
        threading.Thread(target=lambda: tidegate.cli("upgrade", "--force"), daemon=True).start()
        until(lambda: tidegate.generation == 2, "generation 2")
        client.send(b"after")
        assert client.exactly(5) == b"after"
        client.expect_gone()
    tidegate.wait_generations(1)
    line = tidegate.logged(path="/tunnel")
    assert line["reason"] == "drain_deadline" and line["who"] == "tidegate", line


def test_a_stop_ends_tunnels_by_the_shutdown_timeout(launch, origin):
    origin.next(switching(echo))
    tidegate = launch(basic(origin.address, shutdown={"timeout": "500ms"}))
    with tidegate.connect() as client:
        open_tunnel(client)
        tidegate.signal(signal.SIGTERM)
        client.expect_gone()
    assert tidegate.wait_exit() == 0


# A real library.

def run_websocket(tidegate_of, talk):
    """A websockets server as the origin, `talk(connection)` as the client through Tidegate."""
    async def main():
        async def server_side(connection):
            async for message in connection:
                await connection.send(message)
        server = await websockets.serve(server_side, "127.0.0.1", 0, compression="deflate", max_size=None)
        port = server.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        tidegate = await loop.run_in_executor(None, lambda: tidegate_of(f"127.0.0.1:{port}"))
        front = await loop.run_in_executor(None, tidegate.port)
        async with websockets.connect(f"ws://127.0.0.1:{front}/chat", max_size=None) as connection:
            await asyncio.wait_for(talk(connection), 30)
        server.close()
        await server.wait_closed()
        return tidegate
    return asyncio.run(main())


def test_a_websocket_of_a_real_library_echoes_and_closes(launch):
    async def talk(connection):
        for message in ("hello", b"\x00\x01binary", "x" * 300000, ""):
            await connection.send(message)
            assert await connection.recv() == message
        await (await connection.ping())
        await connection.close(1000, "done")
        assert connection.close_code == 1000
    tidegate = run_websocket(lambda address: launch(basic(address)), talk)
    line = tidegate.logged(path="/chat")
    assert line["status"] == 101 and "reason" not in line


def test_many_websockets_at_once(launch):
    async def talk(first):
        uri = f"ws://127.0.0.1:{first.remote_address[1]}/chat"

        async def one(number):
            async with websockets.connect(uri) as connection:
                for turn in range(10):
                    await connection.send(f"{number}.{turn}")
                    assert await connection.recv() == f"{number}.{turn}"
        await asyncio.gather(*[one(number) for number in range(40)])
    run_websocket(lambda address: launch(basic(address, workers=2)), talk)


def test_an_upgrade_with_an_empty_body_waits_for_its_head_to_be_sent(launch, make_origin, tmp_path):
    """A 101 that comes while the head of the request is still being written must not meet that write."""
    folder = tempfile.mkdtemp(prefix="tg-")
    os.chmod(folder, 0o755)
    go = threading.Event()

    def script(peer):
        peer.exactly(10)
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n")
        go.wait(10 * PATIENCE)
        peer.head()
        peer.send(b"hello")
    origin = make_origin(path=f"{folder}/o.sock")
    origin.next(script)
    tidegate = launch(basic(origin.address, limits={"max_header_bytes": "1MiB", "max_headers": 200}))
    filler = [f"X-{number}: {'f' * 9000}" for number in range(100)]
    with tidegate.connect() as client:
        client.send(request("POST", "/", "Connection: upgrade", "Upgrade: raw", "Content-Length: 0", *filler), b"early")
        assert client.silent(0.3)
        go.set()
        assert client.response_head("POST").status == 101
        assert client.exactly(5) == b"hello"
    assert not tidegate.faults()
    os.unlink(f"{folder}/o.sock")
    os.rmdir(folder)


def test_what_the_origin_said_is_delivered_though_it_reads_no_more(launch, make_origin):
    """Octets for a peer that reads no more are lost; what it sent, or still sends, is not lost with them."""
    folder = tempfile.mkdtemp(prefix="tg-")
    os.chmod(folder, 0o755)
    go = threading.Event()

    def script(peer):
        peer.head()
        # Before the client can say anything: unread octets would make the end of this side a reset.
        peer.sock.shutdown(socket.SHUT_RD)
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n")
        go.wait(10 * PATIENCE)
        peer.send(b"hello")
    origin = make_origin(path=f"{folder}/o.sock")
    origin.next(script)
    tidegate = launch(basic(origin.address))
    with tidegate.connect() as client:
        client.send(request("GET", "/", "Connection: upgrade", "Upgrade: raw"))
        assert client.response_head().status == 101
        client.send(b"lost")
        assert client.silent(0.2)
        go.set()
        assert client.exactly(5) == b"hello"
        assert client.to_end() == b""
    until(lambda: tidegate.access_lines(), lambda: "no log line")
    assert tidegate.access_lines()[0]["who"] == "upstream"
    assert not tidegate.faults()
    os.unlink(f"{folder}/o.sock")
    os.rmdir(folder)
