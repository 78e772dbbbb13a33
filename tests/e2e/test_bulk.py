"""Large bodies: intact, and in bounded memory. The octets are made on the way, never held."""

import hashlib
import os
import threading

import pytest

from support import processes
from support.client import request
from support.daemon import basic
from support.wait import PATIENCE, SMALL

SIZE = (64 if SMALL else 1024) << 20
# Sanitizers keep freed memory in quarantine: their size says nothing about ours.
CEILING = 40 << 20
SANITIZED = SMALL

BLOCK = os.urandom(1 << 20)


def stream_hash(size):
    digest = hashlib.sha256()
    for _ in range(size >> 20):
        digest.update(BLOCK)
    return digest.digest()


def drain(wire, already, size):
    """Reads `size` octets of which `already` were read; nothing is kept. Returns their hash."""
    digest = hashlib.sha256(already)
    left = size - len(already)
    buffer = memoryview(bytearray(1 << 18))
    while left:
        count = wire.sock.recv_into(buffer, min(left, len(buffer)))
        assert count, f"the end came {left} octets early"
        digest.update(buffer[:count])
        left -= count
    return digest.digest()


@pytest.fixture
def watched(launch, origin):
    """A Tidegate whose worker must stay small."""
    tidegate = launch(basic(origin.address))
    yield tidegate
    peak = processes.resident_bytes(tidegate.workers()[0], peak=True)
    print(f"peak of the worker: {peak >> 20} MiB")
    if not SANITIZED:
        assert peak < CEILING, f"the worker grew to {peak >> 20} MiB"


def test_a_large_download_arrives_intact(watched, origin):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        for _ in range(SIZE >> 20):
            peer.send(BLOCK)
        peer.request()
        peer.answer()
    origin.next(script)
    with watched.connect() as client:
        client.send(request())
        client.response_head()
        assert drain(client, client.exactly(len(client.pending)), SIZE) == stream_hash(SIZE)
        assert client.get("/again").status == 200


def test_a_large_upload_arrives_intact(watched, origin):
    digests = []

    def script(peer):
        peer.request_head()
        digests.append(drain(peer, peer.exactly(len(peer.pending)), SIZE))
        peer.answer()
    origin.next(script)
    with watched.connect() as client:
        client.send(request("POST", "/", f"Content-Length: {SIZE}"))
        for _ in range(SIZE >> 20):
            client.send(BLOCK)
        assert client.response("POST").status == 200
    assert digests == [stream_hash(SIZE)]


def test_a_large_chunked_transfer_arrives_intact_both_ways(watched, origin):
    size = SIZE // 8
    head = b"%x\r\n" % len(BLOCK)

    def script(peer):
        peer.request_head()
        got = hashlib.sha256()
        file = peer.sock.makefile("rb", buffering=1 << 18)
        pending = peer.exactly(len(peer.pending))
        assert pending == b"", "the head comes alone in this test"
        while chunk_size := int(file.readline(), 16):
            got.update(file.read(chunk_size))
            file.read(2)
        file.readline()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Sum: %s\r\n\r\n" % got.hexdigest().encode())
        for _ in range(size >> 20):
            peer.send(head, BLOCK, b"\r\n")
        peer.send(b"0\r\n\r\n")
    origin.next(script)
    with watched.connect() as client:
        client.send(request("POST", "/", "Transfer-Encoding: chunked"))
        origin.wait_requests(1)
        for _ in range(size >> 20):
            client.send(head, BLOCK, b"\r\n")
        client.send(b"0\r\n\r\n")
        response = client.response_head("POST")
        file = client.sock.makefile("rb", buffering=1 << 18)
        digest = hashlib.sha256()
        # What was read beyond the head belongs to the first chunks.
        rest = Spliced(client.exactly(len(client.pending)), file)
        while chunk_size := int(rest.line(), 16):
            digest.update(rest.read(chunk_size))
            assert rest.read(2) == b"\r\n"
    assert digest.digest() == stream_hash(size)
    assert response.get("x-sum") == digest.hexdigest()


class Spliced:
    """Octets that were read already, then the file."""

    def __init__(self, first, file):
        self.first = first
        self.file = file

    def read(self, count):
        taken, self.first = self.first[:count], self.first[count:]
        return taken + self.file.read(count - len(taken)) if len(taken) < count else taken

    def line(self):
        line = b""
        while not line.endswith(b"\n"):
            line += self.read(1)
        return line


def test_a_client_that_reads_slowly_holds_back_the_origin(watched, origin):
    """Backpressure: what nobody reads is not collected in the worker."""
    sent = [0]

    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (256 << 20))
        peer.sock.settimeout(1)
        try:
            for _ in range(256 << 4):
                peer.send(BLOCK[:65536])
                sent[0] += 65536
        except TimeoutError:
            pass
    origin.next(script)
    with watched.connect(receive_buffer=65536) as client:
        client.send(request())
        client.response_head()
        assert origin.peers[0].finished.wait(20 * PATIENCE), "the origin could send everything to a client that reads nothing"
    assert sent[0] < 64 << 20


def test_many_idle_connections_cost_little(watched):
    clients = [watched.connect() for _ in range(500)]
    for client in clients:
        client.send(request())
    for client in clients:
        assert client.response().status == 200
    worker = watched.workers()[0]
    used = processes.resident_bytes(worker)
    print(f"500 idle connections: {used >> 20} MiB")
    for client in clients:
        client.close()


def test_uploads_at_once_share_one_worker(watched, origin):
    size = 32 << 20

    def script(peer):
        peer.request_head()
        drain(peer, peer.exactly(len(peer.pending)), size)
        peer.answer()
    origin.forever(script)

    def one():
        with watched.connect() as client:
            client.send(request("POST", "/", f"Content-Length: {size}"))
            for _ in range(size >> 20):
                client.send(BLOCK)
            outcomes.append(client.response("POST").status)
    outcomes = []
    watched.port()
    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [200] * 4
