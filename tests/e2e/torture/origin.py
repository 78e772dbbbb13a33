"""The torture's origin, a process of its own: answers every request by its number and remembers which it saw.

Prints {"port": N}, serves until its standard input ends, then prints {"seen": {number: times}}."""

import asyncio
import base64
import hashlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torture.exchange import body_for, upload_for  # noqa: E402

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

seen = {}


async def read_body(reader, fields):
    """The request's body, or None if it is not framed."""
    if "chunked" in fields.get(b"transfer-encoding", b"").decode():
        parts = []
        while size := int(await reader.readuntil(b"\r\n"), 16):
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return b"".join(parts)
    return await reader.readexactly(int(fields.get(b"content-length", b"0")))


async def tunnel(reader, writer, fields):
    """Switches (RFC 6455 section 4.2.2) and gives back every octet; frames are nothing to a proxy."""
    accept = base64.b64encode(hashlib.sha1(fields[b"sec-websocket-key"] + MAGIC).digest())
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                 b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept)
    while octets := await reader.read(65536):
        writer.write(octets)
        await writer.drain()


async def serve(reader, writer):
    try:
        while True:
            lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
            method, target, _ = lines[0].split(b" ")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
            number, kind, size = target.decode()[1:].split("/")
            # Seen means: it could have been acted on.
            seen[number] = seen.get(number, 0) + 1
            if b"upgrade" in fields:
                await tunnel(reader, writer, fields)
                return
            if b"expect" in fields:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await read_body(reader, fields)
            whole = method == b"GET" or body == upload_for(number, int(fields[b"x-size"]))
            answer = body_for(number, int(size)) if whole else b"the upload is not what was sent"
            head = b"HTTP/1.1 200 OK\r\nX-Number: %s\r\n" % number.encode()
            if int(number) % 3 == 0:
                half = len(answer) // 2 or 1
                writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n")
                for part in (answer[:half], answer[half:]):
                    if part:
                        writer.write(b"%x\r\n%s\r\n" % (len(part), part))
                writer.write(b"0\r\n\r\n")
            else:
                writer.write(head + b"Content-Length: %d\r\n\r\n%s" % (len(answer), answer))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20, backlog=1024)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(json.dumps({"seen": seen}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
