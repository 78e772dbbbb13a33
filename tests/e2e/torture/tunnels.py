"""The torture's tunnels, a process of their own: WebSockets over HTTP/1.1 (Upgrade) and over HTTP/2 (RFC 8441) that talk
until they are ended, and are opened again.

`tunnels.py PORT CERTIFICATE`: as client.py; the report has {"tunnels": [...]}: how each ended and when."""

import base64
import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import h2_frames as h2  # noqa: E402
from support.client import Client, request  # noqa: E402
from support.wire import Ended  # noqa: E402
from torture.client_h2 import declined, listen, open_client, run_threads  # noqa: E402
from torture.exchange import OK, REFUSED, RESET_AFTER, RESET_BEFORE, WRONG, body_for  # noqa: E402
from torture.tally import PATIENCE, Lost, Tally  # noqa: E402

FIRST_NUMBER = 20_000_000
PAUSE = 0.05  # between two messages
EACH = 3  # tunnels of each kind at a time
APART = 1.5  # seconds between their beginnings: they belong to several generations


class OfOne:
    """Over HTTP/1.1: the connection is the tunnel."""
    kind = "tunnel"
    alpn = "http/1.1"
    status = 101

    def __init__(self, tally, port, context):
        try:
            self.client = Client(("127.0.0.1", port), PATIENCE)
        except OSError as refused:
            raise Lost(REFUSED, repr(refused)) from None
        tally.add("connections")
        self.client.sock = context.wrap_socket(self.client.sock, server_hostname="torture")
        context.shaken(self.client.sock)
        self.client.sock.suppress_ragged_eofs = False

    told = declined = False

    def open(self, number):
        key = base64.b64encode(os.urandom(16)).decode()
        self.client.send(request("GET", f"/{number}/tunnel/0", "Connection: Upgrade", "Upgrade: websocket",
                                 "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", host="torture"))
        answer = self.client.response()
        if answer.status != 101:
            raise Lost(WRONG, f"no tunnel: {answer.raw[:300]!r}")

    def exchange(self, octets):
        self.client.send(octets)
        return self.client.exactly(len(octets))

    def pause(self):
        if not self.client.silent(PAUSE):
            raise Ended(self.client.exactly(1), "octets that nobody sent")


class OfTwo:
    """Over HTTP/2: a stream of a connection that is told to go away and has to carry on."""
    kind = "h2 tunnel"
    alpn = "h2"
    status = 101  # what the proxy counts: the origin's answer, which this client gets as 200

    def __init__(self, tally, port, context):
        self.client = open_client(tally, port, context)
        self.known = None
        self.taken = 0

    @property
    def told(self):
        return self.client.goaway is not None

    @property
    def declined(self):
        """Told to go away before the tunnel was asked for, or by a GOAWAY that leaves it to another connection."""
        return self.told and (self.known is None or declined(self.client, self.known.stream))

    def open(self, number):
        if self.told:
            raise Lost(RESET_BEFORE, "GOAWAY came first")
        stream = self.client.new_stream()
        self.client.send(h2.headers(stream, (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"),
                                    (":path", f"/{number}/tunnel/0"), (":authority", "torture"),
                                    ("sec-websocket-version", "13"), end=False))
        self.known = self.client.of(stream)
        self.client.until(lambda: self.known.status or self.known.over or self.declined, "the head of a tunnel")
        if self.known.status != 200:
            raise Lost(WRONG, f"no tunnel: {self.known.raw}")

    def exchange(self, octets):
        self.client.send_body(self.known.stream, octets, end=False)
        self.client.until(lambda: len(self.known.body) - self.taken >= len(octets) or self.known.over, "an echo")
        self.watch()
        echo = bytes(self.known.body[self.taken:])
        self.taken += len(octets)
        return echo

    def pause(self):
        if self.told:
            # listen() ends at a GOAWAY, and there was one.
            if not self.client.silent(PAUSE):
                self.client.next()
        else:
            listen(self.client, PAUSE)
        self.watch()

    def watch(self):
        if self.known.over:
            raise Ended(b"", "END_STREAM" if self.known.ended else h2.code_name(self.known.reset))


def live(tally, port, make, context):
    """One tunnel from its beginning to its end."""
    number = tally.number()
    one = {"kind": make.kind, "number": number, "began": time.monotonic()}
    tunnel = None
    try:
        tunnel = make(tally, port, context)
        tunnel.open(number)
        tally.answered(make.status)
    except (Lost, Ended, OSError, AssertionError) as wrong:
        if tunnel and tunnel.declined:
            tally.add("declined")
        else:
            tally.fail(make.kind, number, getattr(wrong, "outcome", RESET_AFTER), getattr(wrong, "detail", repr(wrong)), 0)
        if tunnel:
            tunnel.client.close()
        return
    one["opened"] = time.monotonic()
    said = 0
    try:
        while not tally.stopping:
            octets = body_for(number + said, 50 + 37 * (said % 50))
            echo = tunnel.exchange(octets)
            if echo != octets:
                tally.fail(make.kind, number, WRONG, f"message {said}: {echo[:100]!r}", tunnel.client.port)
                break
            said += 1
            tally.count(make.kind, OK)
            context.keep(tunnel.client.sock)
            tunnel.pause()
        one["how"] = "ours"
    except (Ended, OSError, AssertionError) as wrong:
        one["how"] = getattr(wrong, "how", None) or type(wrong).__name__
    one["ended"] = time.monotonic()
    one["told"] = tunnel.told
    one["messages"] = said
    tunnel.client.close()
    tally.tunnels.append(one)


def main(port, certificate):
    tally = Tally(certificate, FIRST_NUMBER)

    def run(make, place):
        context = tally.context(make.alpn)
        time.sleep(place * APART)
        while not tally.stopping:
            live(tally, port, make, context)
    run_threads(tally, [threading.Thread(target=run, args=(make, place))
                        for make in (OfOne, OfTwo) for place in range(EACH)])


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
