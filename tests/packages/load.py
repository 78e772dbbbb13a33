#!/usr/bin/python3
"""The load, a process of its own: closed loops of every kind that a client notices an upgrade by.

`load.py PORT`: new connections, kept ones that are busy or idle, slow downloads, slow uploads, WebSocket echoes, until its
standard input ends; what is slow then hurries, and nothing is broken off. It prints {"progress": ..., "under way": ...} while it
runs, and at the end what the torture's client prints, with {"spans": [[kind, began, ended], ...]} of what was slow."""

import asyncio
import base64
import contextvars
import json
import logging
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

from torture.client import busy, fresh, head_of, idle, one_client  # noqa: E402
from torture.exchange import OK, TIMED_OUT, TRUNCATED, WRONG, body_for, upload_for  # noqa: E402
from torture.tally import PATIENCE, Lost, Tally  # noqa: E402

SLOW = 4.0  # seconds of a download or upload
PIECES = 100
DOWNLOAD = 8 << 20  # more than all buffers on the way hold
UPLOAD = 8 << 20
EACH = 3  # downloads and uploads, so that at every moment some are under way
PAUSE = 0.04  # between two messages of a WebSocket


class Slow:
    """What the slow kinds share: how fast they are, which are under way, how long each was."""

    def __init__(self):
        self.hurry = asyncio.Event()
        self.under_way = Counter()
        self.spans = []

    async def pause(self):
        if ahead.get():
            ahead.get().pop()
        elif not self.hurry.is_set():
            await asyncio.sleep(SLOW / PIECES)

    def begin(self, kind):
        self.under_way[kind] += 1
        return time.time()

    def end(self, kind, began):
        self.under_way[kind] -= 1
        self.spans.append((kind, began, time.time()))


slow = Slow()
# Of one client: a list as long as the pauses that it leaves out.
ahead = contextvars.ContextVar("ahead", default=())


class Paced:
    """A StreamReader whose long reads take their time."""

    def __init__(self, reader):
        self.reader = reader

    def __getattr__(self, name):
        return getattr(self.reader, name)

    async def readexactly(self, count):
        parts, piece = [], max(DOWNLOAD // PIECES, 1)
        while count > piece:
            parts.append(await self.reader.readexactly(piece))
            count -= piece
            await slow.pause()
        return b"".join(parts) + await self.reader.readexactly(count)


async def download(connection, numbers):
    if not isinstance(connection.reader, Paced):
        connection.reader = Paced(connection.reader)
    began = slow.begin("download")
    try:
        await connection.send(head_of(numbers[0], "download", DOWNLOAD))
        await connection.answer(numbers[0], DOWNLOAD)
    finally:
        slow.end("download", began)


async def upload(connection, numbers):
    body = upload_for(numbers[0], UPLOAD)
    began = slow.begin("upload")
    try:
        await connection.send(head_of(numbers[0], "upload", 40, f"Content-Length: {UPLOAD}", f"X-Size: {UPLOAD}", method="POST"))
        step = UPLOAD // PIECES
        for start in range(0, UPLOAD, step):
            await connection.send(body[start:start + step])
            await slow.pause()
            if connection.reader.at_eof() or connection.reader.exception():
                break
        await connection.answer(numbers[0], 40)
    finally:
        slow.end("upload", began)


async def websocket(connection, numbers):
    """One WebSocket until the end of the load. Its frames are octets to a proxy, so ours are simple; each echo is compared."""
    number = numbers[0]
    key = base64.b64encode(os.urandom(16)).decode()
    await connection.send(head_of(number, "websocket", 0, "Connection: Upgrade", "Upgrade: websocket",
                                  "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"))
    status, _, raw = await asyncio.wait_for(connection.head(), PATIENCE)
    connection.usable = False
    if status != 101:
        raise Lost(WRONG, f"no tunnel: {raw[:300]!r}")
    connection.tally.answered(status)
    began = slow.begin("websocket")
    said = 0
    try:
        while not connection.tally.stopping:
            octets = body_for(number + said, 30 + said % 700)
            await connection.send(octets)
            echo = await asyncio.wait_for(connection.reader.readexactly(len(octets)), PATIENCE)
            if echo != octets:
                raise Lost(WRONG, f"message {said}: {echo[:100]!r}")
            said += 1
            connection.tally.count("messages", OK)
            await asyncio.sleep(PAUSE)
    except (asyncio.IncompleteReadError, ConnectionError) as ended:
        raise Lost(TRUNCATED, f"after {said} messages: {ended!r}") from None
    except asyncio.TimeoutError:
        raise Lost(TIMED_OUT, f"no echo of message {said}") from None
    finally:
        slow.end("websocket", began)


def kept(act):
    """An answer that sends the client away for its next request is one that is noticed."""
    async def one(connection, numbers):
        await act(connection, numbers)
        if not connection.usable:
            connection.tally.add("kept_told_to_close")
    return one


# As the torture's KINDS: (what it does, connections, requests in a batch, receive buffer)
KINDS = {
    "fresh": (fresh, 4, 1, None),
    "busy": (kept(busy), 8, 1, None),
    "idle": (kept(idle), 16, 1, None),
    "download": (download, EACH, 1, 65536),
    "upload": (upload, EACH, 1, None),
    "websocket": (websocket, 8, 1, None),
}
async def begin(tally, port, kind, place):
    # The first transfers are ahead of each other, so that at every moment some have just begun.
    ahead.set([None] * (place * PIECES // EACH))
    await one_client(tally, port, kind, KINDS[kind])


async def main(port):
    tally = Tally()
    clients = [asyncio.create_task(begin(tally, port, kind, place))
               for kind, (_, many, _, _) in KINDS.items() for place in range(many)]
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    while not ended.done():
        await asyncio.wait([ended], timeout=0.1)
        print(json.dumps({"progress": tally.progress(), "under way": slow.under_way}), flush=True)
    tally.stopping = True
    slow.hurry.set()
    await asyncio.gather(*clients)
    print(json.dumps({**tally.report(), "spans": slow.spans}), flush=True)


if __name__ == "__main__":
    # Writing to a connection that was reset is what is counted here, not a warning.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    random.seed(1)
    asyncio.run(main(int(sys.argv[1])))
