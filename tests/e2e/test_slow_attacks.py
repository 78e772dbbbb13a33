"""slowhttptest's attacks with 1,000 connections each: all are closed by their timeouts, and others are served meanwhile."""

import re
import subprocess
import sys
import threading
import time

import pytest

from support import report
from support.daemon import basic
from support.wait import PATIENCE, SMALL, until

MANY = 200 if SMALL else 1000
LONG = 4 << 20


ORIGIN = """
import asyncio, socket
async def serve(reader, writer):
    try:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            if head.startswith(b"POST"):
                await reader.read()
                return
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n")
            for _ in range(%d // 65536):
                writer.write(b"x" * 65536)
                await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.sleep(3600)
asyncio.run(main())
"""


@pytest.fixture
def attacked():
    """The origin that the attackers' requests go to: a thousand of them in one thread of a process of its own.

    Its send buffers are small. Left alone they grow to 3 GiB, and the memory of TCP belongs to the whole machine: above the second
    figure of tcp_mem the kernel drops segments of all sockets, those of the probing client too. A real origin has a machine of its own.
    """
    with subprocess.Popen([sys.executable, "-c", ORIGIN % (LONG, LONG)], stdout=subprocess.PIPE, text=True) as process:
        yield f"127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


class Probe:
    """Another client, all the time: the longest that it waits for an answer on a connection of its own."""

    def __init__(self, tidegate):
        self.tidegate, self.waits, self.stop = tidegate, [], threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.stop.wait(0.02):
            began = time.monotonic()
            with self.tidegate.connect() as client:
                status = client.get("/").status
            self.waits.append(time.monotonic() - began if status == 200 else 3600)

    def __enter__(self):
        self.tidegate.port()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


@pytest.mark.parametrize("what,mode,reason", [
    ("slow heads", ["-H", "-i", "2"], "request_head_timeout"),
    ("slow bodies", ["-B", "-i", "2", "-s", "100000"], "body_too_slow"),
    ("slow readers", ["-X", "-w", "10", "-y", "20", "-n", "1", "-z", "512"], "write_idle_timeout"),
], ids=["heads", "bodies", "readers"])
def test_a_thousand_slow_clients_are_closed_and_others_served(launch, origin, attacked, what, mode, reason):
    timeouts = {"request_head": "4s", "body_idle": "4s", "body_min_rate": "1KiB/s", "write_idle": "4s", "keepalive": "30s"}
    config = basic(origin.address, timeouts=timeouts)
    config["upstreams"]["attacked"] = {"endpoints": [attacked]}
    config["routes"].append({"name": "attacked", "path": "/attacked", "upstream": "attacked"})
    tidegate = launch(config)
    command = ["slowhttptest", *mode, "-c", str(MANY), "-r", "250", "-l", "60", "-p", "3", "-v", "1",
               "-u", f"http://127.0.0.1:{tidegate.port()}/attacked"]
    began = time.monotonic()
    with Probe(tidegate) as probe:
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stdout
    took = time.monotonic() - began

    def closed():
        return sum(line.get("reason") == reason for line in tidegate.access_lines())
    until(lambda: closed() >= MANY, lambda: f"{MANY} log lines with {reason}, not {closed()}")
    waits = sorted(probe.waits)
    report.add([f"slowhttptest {mode[0]}, {MANY:,} {what}: {closed():,} closed as {reason} after {took:.0f} s; another client was "
                f"served {len(waits)} times, at most in {1000 * waits[-1]:.0f} ms"])
    assert re.search(r"Exit status:.*No open connections left", said), said[-2000:]
    assert closed() == MANY
    # The rest is the machine's: attackers, their origin and both of our ends share its cores.
    assert waits[len(waits) * 99 // 100] < 0.5 * PATIENCE
