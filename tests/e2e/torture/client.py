"""The torture's client, a process of its own: owns every connection and accounts for every octet.

`client.py PORT [CERTIFICATE]`: runs all kinds of clients, over TLS if the server's certificate is given, until its
standard input ends, prints {"progress": {kind: ok}} while it runs
and at the end what tally.py reports."""

import asyncio
import json
import logging
import random
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torture.exchange import (DUPLICATED, IDLE_RACE, OK, REFUSED, RESET_AFTER, RESET_BEFORE, TIMED_OUT,  # noqa: E402
                              TRUNCATED, WRONG, body_for, upload_for)
from torture.tally import PATIENCE, Lost, Tally  # noqa: E402


class Connection:
    """One connection of ours. `reused`: at least one exchange ended well on it."""

    def __init__(self, tally, reader, writer, context=None):
        self.tally = tally
        self.context = context  # of TLS, or None
        self.reader = reader
        self.writer = writer
        self.reused = False
        self.usable = True
        self.port = writer.get_extra_info("sockname")[1]
        self.opened = time.time()

    @classmethod
    async def open(cls, tally, port, context=None, receive_buffer=None):
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await asyncio.wait_for(asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port)), PATIENCE)
        except (OSError, asyncio.TimeoutError) as refused:
            sock.close()
            raise Lost(REFUSED, repr(refused)) from None
        tally.add("connections")
        name = "torture" if context else None
        try:
            opening = asyncio.open_connection(sock=sock, limit=1 << 16, ssl=context, server_hostname=name)
            reader, writer = await asyncio.wait_for(opening, PATIENCE)
        except (OSError, asyncio.TimeoutError) as failed:
            sock.close()
            raise Lost(RESET_BEFORE, f"handshake: {failed!r}") from None
        if context:
            context.shaken(writer.get_extra_info("ssl_object"))
        return cls(tally, reader, writer, context)

    def idle_end(self):
        """Whether the proxy ended this idle connection; octets that nobody asked for are a fault."""
        if self.reader._buffer:  # pylint: disable=protected-access
            raise Lost(DUPLICATED, f"unasked: {bytes(self.reader._buffer[:200])!r}")
        return self.reader.at_eof() or self.reader.exception() is not None

    async def send(self, octets):
        try:
            self.writer.write(octets)
            await self.writer.drain()
        except ConnectionError as gone:
            # An answer may be there all the same; reading tells.
            self.sending_failed = gone

    async def answer(self, number, size):
        """Reads one final answer and holds it against what belongs to `number`."""
        try:
            status = await asyncio.wait_for(self._answer(number, size), PATIENCE)
        except asyncio.TimeoutError:
            raise Lost(TIMED_OUT, f"{bytes(self.reader._buffer[:200])!r}") from None  # pylint: disable=protected-access
        self.tally.answered(status)
        self.reused = True
        if self.context:
            self.context.keep(self.writer.get_extra_info("ssl_object"))

    async def head(self):
        """(status, fields); ends of the connection become Lost."""
        try:
            raw = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as ended:
            raise Lost(TRUNCATED if ended.partial else RESET_AFTER, f"end after {ended.partial[:200]!r}") from None
        except ConnectionError as reset:
            raise Lost(RESET_AFTER, repr(reset)) from None
        lines = raw[:-4].split(b"\r\n")
        fields = {}
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            if not colon or name.lower() in fields:
                raise Lost(WRONG, f"field line {line!r} in {raw!r}")
            fields[name.lower()] = value.strip()
        if not lines[0].startswith(b"HTTP/1.1 "):
            raise Lost(WRONG, f"status line {lines[0][:200]!r}")
        return int(lines[0].split(b" ")[1]), fields, raw

    async def _answer(self, number, size):
        status, fields, raw = await self.head()
        while status < 200:
            status, fields, raw = await self.head()
        try:
            body = await self._body(fields)
        except (asyncio.IncompleteReadError, ConnectionError) as ended:
            raise Lost(TRUNCATED, f"{ended!r} in the body of {raw[:200]!r}") from None
        if fields.get(b"connection", b"").lower() == b"close":
            self.usable = False
            self.tally.add("told_to_close")
        if status != 200 or fields.get(b"x-number") != b"%d" % number or body != body_for(number, size):
            self.tally.answered(status)
            raise Lost(WRONG, f"{raw[:300]!r} {body[:100]!r}")
        return status

    async def _body(self, fields):
        if b"content-length" in fields:
            return await self.reader.readexactly(int(fields[b"content-length"]))
        if fields.get(b"transfer-encoding") != b"chunked":
            return await self.reader.read()
        parts = []
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            parts.append(await self.reader.readexactly(size))
            if await self.reader.readexactly(2) != b"\r\n":
                raise Lost(WRONG, "a chunk does not end with CRLF")
        if await self.reader.readexactly(2) != b"\r\n":
            raise Lost(WRONG, "octets after the last chunk")
        return b"".join(parts)

    def close(self):
        self.usable = False
        self.writer.close()


def head_of(number, kind, size, *fields, method="GET"):
    lines = [f"{method} /{number}/{kind}/{size} HTTP/1.1", "Host: torture", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


# The kinds: each sends one batch on `connection` and returns the numbers it sent; Lost says what went wrong with the first
# unanswered of them.

async def get(connection, numbers, kind, size=64, *fields):
    await connection.send(head_of(numbers[0], kind, size, *fields))
    await connection.answer(numbers[0], size)


async def busy(connection, numbers):
    await get(connection, numbers, "busy", 20 + numbers[0] % 3000)
    await asyncio.sleep(0.002)


async def idle(connection, numbers):
    await get(connection, numbers, "idle")
    await asyncio.sleep(random.uniform(0.05, 0.8))


async def fresh(connection, numbers):
    await get(connection, numbers, "fresh", 64, *(["Connection: close"] if numbers[0] % 2 else []))
    connection.usable = False
    await asyncio.sleep(0.005)


async def pipelined(connection, numbers):
    await connection.send(b"".join(head_of(number, "pipelined", 50) for number in numbers))
    while numbers:
        await connection.answer(numbers[0], 50)
        if len(numbers) > 1:
            connection.tally.count("pipelined", OK)
            numbers.pop(0)
        else:
            break
    await asyncio.sleep(0.02)


async def upload(connection, numbers):
    number, size, pieces = numbers[0], 60000, 12
    body = upload_for(number, size)
    chunked = number % 2
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    await connection.send(head_of(number, "upload", 40, framing, f"X-Size: {size}", method="POST"))
    step = size // pieces
    for start in range(0, size, step):
        part = body[start:start + step]
        await connection.send(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
        await asyncio.sleep(0.03)
    if chunked:
        await connection.send(b"0\r\n\r\n")
    await connection.answer(number, 40)


async def download(connection, numbers):
    """Reads slowly: the small receive buffer of its connections makes the proxy wait."""
    number, size = numbers[0], 600000
    await connection.send(head_of(number, "download", size))
    await asyncio.sleep(0.3)
    await connection.answer(number, size)


async def expecting(connection, numbers):
    number, size = numbers[0], 5000
    await connection.send(head_of(number, "continue", 40, f"Content-Length: {size}", f"X-Size: {size}",
                                  "Expect: 100-continue", method="POST"))
    try:
        status, _, raw = await asyncio.wait_for(connection.head(), PATIENCE)
    except asyncio.TimeoutError:
        raise Lost(TIMED_OUT, "no 100") from None
    if status != 100:
        raise Lost(WRONG, f"instead of 100: {raw[:300]!r}")
    await connection.send(upload_for(number, size))
    await connection.answer(number, 40)
    await asyncio.sleep(0.02)


# kind: (what it does, connections, requests in a batch, receive buffer)
KINDS = {
    "busy": (busy, 6, 1, None),
    "idle": (idle, 40, 1, None),
    "fresh": (fresh, 4, 1, None),
    "pipelined": (pipelined, 3, 5, None),
    "upload": (upload, 5, 1, None),
    "download": (download, 4, 1, 8192),
    "continue": (expecting, 3, 1, None),
}


async def one_client(tally, port, kind, how):
    """One client of that kind: a connection at a time, opened again when it has ended. `how`: as in KINDS."""
    act, _, batch, receive_buffer = how
    context = tally.context("http/1.1")
    connection = None
    while not tally.stopping:
        numbers = [tally.number() for _ in range(batch)]
        began = time.monotonic()
        sent = False
        try:
            if connection and connection.usable and connection.idle_end():
                tally.add("idle_closed")
                connection.close()
            if not connection or not connection.usable:
                if connection:
                    connection.close()
                    connection = None  # what is refused now has nothing to do with it
                connection = await Connection.open(tally, port, context, receive_buffer)
                if connection.idle_end():
                    raise Lost(RESET_BEFORE)
            sent = True
            reused = connection.reused
            await act(connection, numbers)
            tally.count(kind, OK)
            if connection.usable and connection.reader._buffer:  # pylint: disable=protected-access
                raise Lost(DUPLICATED, f"after the answer: {bytes(connection.reader._buffer[:200])!r}")
        except Lost as lost:
            outcome = lost.outcome
            if outcome == RESET_AFTER and sent and reused and connection.usable and len(numbers) == batch:
                outcome = IDLE_RACE  # unless the origin saw the request: the test asks it
            for number in numbers:
                tally.fail(kind, number, outcome, lost.detail, connection.port if connection else 0,
                           bool(connection and connection.reused), connection.opened if connection else None)
            if connection:
                connection.close()
            if outcome == REFUSED:
                await asyncio.sleep(0.05)
        tally.slowest = max(tally.slowest, time.monotonic() - began)
    if connection:
        connection.close()


async def main(port, certificate=None):
    tally = Tally(certificate)
    clients = [asyncio.create_task(one_client(tally, port, kind, how)) for kind, how in KINDS.items()
               for _ in range(how[1])]
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    while not ended.done():
        await asyncio.wait([ended], timeout=0.2)
        print(json.dumps({"progress": tally.progress()}), flush=True)
    tally.stopping = True
    await asyncio.gather(*clients)
    print(json.dumps(tally.report()), flush=True)


if __name__ == "__main__":
    # Writing to a connection that was reset is an event of the torture, not a warning.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    random.seed(1)
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:3]))
