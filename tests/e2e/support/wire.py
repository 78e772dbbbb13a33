"""HTTP/1.1 octet for octet: a socket that is read exactly, and the strict reading of heads and bodies.

Both ends of the proxy use it: the raw client and the programmable origin. Nothing is lenient: what RFC 9112 does not
allow raises Malformed, so a sloppy proxy cannot pass by a forgiving test."""

import re
import socket
import struct
from dataclasses import dataclass, field

from support.wait import PATIENCE


class Malformed(AssertionError):
    """The peer sent what the RFC forbids."""


class Ended(Exception):
    """The peer ended or reset the connection while more was expected. `got` holds what came before."""

    def __init__(self, got, how):
        super().__init__(f"{how} after {got[-200:]!r}")
        self.got = got
        self.how = how


@dataclass
class Head:
    raw: bytes
    start: str
    fields: list  # of (name, value), in order, as received

    def all(self, name):
        """Every value of that field, in order."""
        return [value for known, value in self.fields if known.lower() == name.lower()]

    def get(self, name):
        """The only value of that field, or None. More than one is a fault of the test or of the proxy."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    def names(self):
        return [name.lower() for name, _ in self.fields]


@dataclass
class Request(Head):
    method: str = ""
    target: str = ""
    version: str = ""
    body: bytes = b""
    trailers: list = field(default_factory=list)
    chunks: list = field(default_factory=list)


@dataclass
class Response(Head):
    status: int = 0
    reason: str = ""
    version: str = ""
    body: bytes = b""
    trailers: list = field(default_factory=list)
    chunks: list = field(default_factory=list)
    framing: str = ""  # none, length, chunked, close
    interims: list = field(default_factory=list)

    @property
    def text(self):
        return self.body.decode()


FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*\Z", re.DOTALL)


def parse_fields(lines):
    fields = []
    for line in lines:
        match = FIELD.match(line)
        if not match or any(octet < 32 and octet != 9 for octet in match[2]):
            raise Malformed(f"not a field line: {line!r}")
        fields.append((match[1].decode(), match[2].decode("latin-1")))
    return fields


def parse_head(raw):
    """Start line and fields of `raw`, which ends with the empty line."""
    lines = raw[:-4].split(b"\r\n")
    if any(b"\n" in line or b"\r" in line for line in lines):
        raise Malformed(f"a bare CR or LF in {raw!r}")
    return lines[0].decode("latin-1"), parse_fields(lines[1:])


def parse_request(raw):
    start, fields = parse_head(raw)
    match = re.fullmatch(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) (HTTP/1\.[01])", start)
    if not match:
        raise Malformed(f"not a request line: {start!r}")
    return Request(raw, start, fields, match[1], match[2], match[3])


def parse_response(raw):
    start, fields = parse_head(raw)
    match = re.fullmatch(r"(HTTP/1\.1) ([1-9][0-9][0-9]) ([^\r\n]*)", start)
    if not match:
        raise Malformed(f"not a status line of HTTP/1.1: {start!r}")
    return Response(raw, start, fields, int(match[2]), match[3], match[1])


def framing_of(head, status=None, method=None):
    """('none'|'length'|'chunked'|'close', length) by RFC 9112 section 6.3."""
    codings = head.all("transfer-encoding")
    lengths = head.all("content-length")
    if codings and lengths:
        raise Malformed(f"both Transfer-Encoding and Content-Length in {head.raw!r}")
    if len(codings) > 1 or len(lengths) > 1:
        raise Malformed(f"framing given twice in {head.raw!r}")
    if status is not None and (method == "HEAD" or status < 200 or status in (204, 304)):
        return "none", 0
    if codings:
        if codings[0].lower() != "chunked":
            raise Malformed(f"Transfer-Encoding {codings[0]!r}")
        return "chunked", 0
    if lengths:
        if not re.fullmatch(r"[0-9]+", lengths[0]):
            raise Malformed(f"Content-Length {lengths[0]!r}")
        return "length", int(lengths[0])
    return ("none", 0) if status is None else ("close", 0)


class Wire:
    """One end of a connection. Reads are exact, everything received is recorded in `received`."""

    def __init__(self, sock, seconds=15.0):
        self.sock = sock
        self.received = bytearray()
        self._taken = 0  # octets of `received` that were handed out
        sock.settimeout(seconds * PATIENCE)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # Sending.

    def send(self, *parts):
        """Sends all octets of `parts`, each in its own segment."""
        for part in parts:
            self.sock.sendall(part.encode("latin-1") if isinstance(part, str) else part)

    def half_close(self):
        """Ends our direction; the other stays open."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        self.sock.close()

    def reset(self):
        """Closes with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # Receiving.

    @property
    def pending(self):
        """What was received and not yet handed out."""
        return bytes(self.received[self._taken:])

    def _more(self):
        try:
            octets = self.sock.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            raise Ended(self.pending, "reset") from None
        except socket.timeout:
            raise AssertionError(f"nothing came for {self.sock.gettimeout():g} s after {self.pending[-300:]!r}") from None
        if not octets:
            raise Ended(self.pending, "end")
        self.received += octets

    def _take(self, count):
        taken = bytes(self.received[self._taken:self._taken + count])
        self._taken += count
        return taken

    def exactly(self, count):
        while len(self.received) - self._taken < count:
            self._more()
        return self._take(count)

    def up_to(self, mark):
        """Everything up to and with `mark`."""
        while True:
            found = self.received.find(mark, self._taken)
            if found >= 0:
                return self._take(found + len(mark) - self._taken)
            self._more()

    def some(self):
        """At least one octet: what is there."""
        if len(self.received) == self._taken:
            self._more()
        return self._take(len(self.received) - self._taken)

    def to_end(self):
        """Everything up to the peer's end; Ended with how == 'reset' when it was reset."""
        while True:
            try:
                self._more()
            except Ended as ended:
                if ended.how != "end":
                    raise
                return self._take(len(self.received) - self._taken)

    def expect_end(self):
        """The peer ends cleanly and sends nothing more."""
        rest = self.to_end()
        assert rest == b"", f"octets where the end was expected: {rest!r}"

    def expect_gone(self):
        """The peer ends or resets; returns what came before."""
        try:
            return self.to_end()
        except Ended as ended:
            return ended.got

    def silent(self, seconds=0.2):
        """True if nothing arrives for `seconds`, neither octets nor the end."""
        if self.pending:
            return False
        before = self.sock.gettimeout()
        self.sock.settimeout(seconds)
        try:
            self.received += self.sock.recv(65536) or b""
            return False
        except socket.timeout:
            return True
        finally:
            self.sock.settimeout(before)

    # Messages.

    def head(self):
        return self.up_to(b"\r\n\r\n")

    def chunked(self, message):
        """Reads a chunked body into `message`: body, chunks, trailers."""
        while True:
            line = self.up_to(b"\r\n")[:-2]
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", line):
                raise Malformed(f"not a chunk size: {line!r}")
            size = int(line, 16)
            if size == 0:
                break
            chunk = self.exactly(size)
            if self.exactly(2) != b"\r\n":
                raise Malformed("a chunk does not end with CRLF")
            message.chunks.append(chunk)
        trailer_lines = []
        while (line := self.up_to(b"\r\n")[:-2]) != b"":
            trailer_lines.append(line)
        message.trailers = parse_fields(trailer_lines)
        message.body = b"".join(message.chunks)
        return message

    def body_of(self, message, framing, length):
        if framing == "chunked":
            self.chunked(message)
        elif framing == "length":
            message.body = self.exactly(length)
        elif framing == "close":
            message.body = self.to_end()
        return message
