"""Whether the load of tests/bench/hand_over finds what an origin or a proxy does wrong. Needs its programs: ./dev bench --list."""

import asyncio
import json
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(os.environ.get("TIDEGATE_BENCH_DIR", ROOT / "build/release/bench"))

PIPE = asyncio.subprocess.PIPE
SPOILT = 20  # which request, of those of the warm-up too
COUNTS = ("lost", "wrong", "stuck", "closed_idle", "closed_by_answer", "refused", "tunnels_broken", "messages_lost",
          "messages_corrupted")


async def start(name, *words):
    return await asyncio.create_subprocess_exec(PROGRAMS / name, *[str(word) for word in words], stdin=PIPE, stdout=PIPE)


async def listen(serve):
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def result(client, done):
    """Of a client that is told to stop once `done` is set."""
    try:
        assert await asyncio.wait_for(client.stdout.readline(), 30) == b"ready\n"
        await asyncio.wait_for(done.wait(), 30)
        await asyncio.sleep(0.2)  # what was done wrong has to arrive, and more requests behind it
        out, _ = await asyncio.wait_for(client.communicate(b"stop\n"), 30)
        return json.loads(out)
    finally:
        if client.returncode is None:
            client.kill()


class Origin:
    """Answers as it is asked, but for one request."""

    def __init__(self, how):
        self.how, self.requests, self.done = how, 0, asyncio.Event()

    async def serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                if not await self.answer(writer, int(re.match(rb"GET /(\d+)", head).group(1)), self.requests == SPOILT):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async def answer(self, writer, size, spoil):
        """Whether the connection goes on."""
        if spoil:
            self.done.set()
        how = self.how if spoil else "well"
        size += 1 if how == "another's" else 0
        answer = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n" % (
            b"502 Bad Gateway" if how == "error" else b"200 OK", size,
            b"Connection: close\r\n" if how == "says close" else b"") + b"x" * size
        if how == "none":
            return False
        writer.write(answer[:-5] if how == "cut" else answer)
        if how in ("twice", "closes idle"):
            await asyncio.sleep(0.003)  # before the next request, which comes 100 ms later
        if how == "twice":
            writer.write(answer)
        return how not in ("cut", "closes idle")


@pytest.mark.parametrize("how,counted", [
    ("well", None), ("none", "lost"), ("cut", "lost"), ("error", "wrong"), ("another's", "wrong"), ("twice", "wrong"),
    ("says close", "closed_by_answer"), ("closes idle", "closed_idle")])
def test_what_is_done_wrong_once_is_counted_once(how, counted):
    async def run():
        origin = Origin(how)
        server, port = await listen(origin.serve)
        async with server:
            return await result(await start("bench_torture", port, 8, 40, 0, 1), origin.done)

    counts = asyncio.run(run())
    assert {key: counts[key] for key in COUNTS if counts[key]} == ({counted: 1} if counted else {})
    assert counts["requests"] == counts["answered"] + counts["lost"] + counts["wrong"] - (how == "twice")


class Relay:
    """Octets to and from an origin; of one piece that comes back something is changed."""

    def __init__(self, port, how, after):
        self.port, self.how, self.left, self.done = port, how, after, asyncio.Event()

    async def serve(self, reader, writer):
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self.port)
        await asyncio.gather(self.pump(reader, upstream_writer, False), self.pump(upstream_reader, writer, True))

    async def pump(self, reader, writer, back):
        try:
            while piece := await reader.read(65536):
                if back and self.left >= 0:
                    self.left -= len(piece)
                    if self.left < 0:
                        piece = self.spoil(piece)
                        self.done.set()
                writer.write(piece)
                await writer.drain()
                if not piece:
                    break
        except ConnectionError:
            pass
        writer.close()

    def spoil(self, piece):
        at = len(piece) // 2
        return {"well": piece, "cut": b"", "lost octet": piece[:at] + piece[at + 1:], "doubled octet": piece[:at] + piece[at - 1:],
                "changed octet": piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1:]}[self.how]


async def through_relay(origin_words, client_words, how, after):
    """`client_words`: the port goes in for None."""
    origin = await start(*origin_words)
    try:
        relay = Relay(int(await origin.stdout.readline()), how, after)
        server, port = await listen(relay.serve)
        async with server:
            return await result(await start(*[port if word is None else word for word in client_words]), relay.done)
    finally:
        origin.kill()
        await origin.wait()


@pytest.mark.parametrize("how", ["well", "cut", "lost octet", "doubled octet", "changed octet"])
def test_a_tunnel_that_is_not_true_is_found(how):
    counts = asyncio.run(through_relay(["bench_origin", 1], ["bench_torture", None, 0, 1, 4, 200], how, 20000))
    bad = {key for key in COUNTS if counts[key]} - {"messages_lost"}
    assert bad == {"well": set(), "cut": {"tunnels_broken"}}.get(how, {"tunnels_broken", "messages_corrupted"})
    assert counts["messages"] == counts["echoed"] + counts["messages_lost"]


@pytest.mark.parametrize("how,faults", [
    ("well", [""]), ("cut", ["closed", "Connection reset by peer", "Broken pipe"]), ("lost octet", ["corrupted"]),
    ("doubled octet", ["corrupted"]), ("changed octet", ["corrupted"])])
def test_a_bulk_tunnel_that_is_not_true_is_found(how, faults):
    found = asyncio.run(through_relay(["bench_bulk", "origin"], ["bench_bulk", "client", None, 1, 16], how, 500000))
    assert found["fault"] in faults
    assert found["survived"] is (how == "well")
