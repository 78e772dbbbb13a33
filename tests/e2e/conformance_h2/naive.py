"""What the table must not take for a proxy: a server that takes every frame for what it should be and copies requests to the
origin and answers back, without a rule, a limit or a window."""

import socket
import threading

from support import h2_frames as h2
from support import hpack
from support.client import Client
from support.wire import Ended, Wire


class Naive:
    def __init__(self, origin_address, seconds):
        self.origin_address = origin_address
        self.seconds = seconds
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(Wire(sock, 10.0),), daemon=True).start()

    def _serve(self, wire):
        try:
            with wire:
                wire.exactly(len(h2.PREFACE))
                wire.send(h2.settings((h2.MAX_CONCURRENT_STREAMS, 100)))
                self._frames(wire)
        except (AssertionError, Ended, IndexError, OSError):
            pass

    def _frames(self, wire):
        decoder, fragments, requests, ends = hpack.Decoder(), b"", {}, False
        while True:
            head = wire.exactly(h2.FRAME_HEAD)
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:9], "big")
            payload = wire.exactly(int.from_bytes(head[:3], "big"))
            if kind in (h2.DATA, h2.HEADERS):
                if flags & h2.PADDED:
                    payload = payload[1:len(payload) - payload[0]]
                ends = flags & h2.END_STREAM
            if kind == h2.DATA and stream in requests:
                requests[stream][1].append(payload)
            elif kind in (h2.HEADERS, h2.CONTINUATION):
                fragments += payload[5:] if kind == h2.HEADERS and flags & h2.PRIORITISED else payload
                if not flags & h2.END_HEADERS:
                    continue
                requests.setdefault(stream, (decoder.decode(fragments), []))
                fragments = b""
            elif kind in (h2.SETTINGS, h2.PING) and not flags & h2.ACK:
                wire.send(h2.frame(kind, h2.ACK, 0, payload if kind == h2.PING else b""))
            if kind != h2.PRIORITY and ends and stream in requests and not fragments:
                threading.Thread(target=self._relay, args=(wire, stream, *requests.pop(stream)), daemon=True).start()
                ends = False

    def _relay(self, wire, stream, fields, body):
        try:
            pseudo = {name: value for name, value in fields if name.startswith(":")}
            lines = [f"{pseudo[':method']} {pseudo[':path']} HTTP/1.1", f"Host: {pseudo.get(':authority', 'test')}"]
            lines += [f"{name}: {value}" for name, value in fields if not name.startswith(":")]
            octets = b"".join(body)
            if octets and not any(name == "content-length" for name, _ in fields):
                lines.append(f"content-length: {len(octets)}")
            with Client(self.origin_address, self.seconds) as origin:
                origin.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + octets)
                answer = origin.response(pseudo[":method"])
            wire.send(h2.headers(stream, (":status", str(answer.status)),
                                 *[(name.lower(), value) for name, value in answer.fields], end=False)
                      + h2.data(stream, answer.body, end=True))
        except (AssertionError, Ended, KeyError, OSError):
            pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
