"""The frames of HTTP/2 (RFC 9113 section 4 and 6): how each is written, rightly or wrongly, and strictly read."""

from dataclasses import dataclass, field

from support import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEAD = 9

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
TYPES = ("DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE",
         "CONTINUATION")

END_STREAM, ACK, END_HEADERS, PADDED, PRIORITISED = 1, 1, 4, 8, 32

(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR,
 REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY,
 HTTP_1_1_REQUIRED) = range(14)
CODES = ("NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
         "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
         "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED")

(HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE,
 MAX_HEADER_LIST_SIZE) = range(1, 7)
ENABLE_CONNECT_PROTOCOL = 8
NO_RFC7540_PRIORITIES = 9

LARGEST_WINDOW = 2**31 - 1


class BadFrame(AssertionError):
    """The peer sent what RFC 9113 forbids."""


def code_name(code):
    return CODES[code] if code < len(CODES) else f"error {code:#x}"


# Writing. Nothing is checked: tests break every rule.

def frame(kind, flags=0, stream=0, payload=b"", length=None, reserved=False):
    """Any frame. `length`: what its head says instead of the truth."""
    length = len(payload) if length is None else length
    return (length.to_bytes(3, "big") + bytes([kind, flags]) + (stream | reserved << 31).to_bytes(4, "big") + payload)


def _padded(payload, pad):
    return payload if pad is None else bytes([pad]) + payload + bytes(pad)


def data(stream, octets=b"", end=False, pad=None, flags=0):
    return frame(DATA, flags | end * END_STREAM | (pad is not None) * PADDED, stream, _padded(octets, pad))


def _priority(depends, weight, exclusive):
    return (depends | exclusive << 31).to_bytes(4, "big") + bytes([weight - 1])


def headers(stream, *fields, end=True, whole=True, pad=None, depends=None, weight=16, exclusive=False, flags=0):
    """`fields`: see hpack.block. `whole`: END_HEADERS. `depends`: the stream of the priority fields, if any."""
    payload = hpack.block(*fields)
    if depends is not None:
        payload = _priority(depends, weight, exclusive) + payload
        flags |= PRIORITISED
    flags |= end * END_STREAM | whole * END_HEADERS | (pad is not None) * PADDED
    return frame(HEADERS, flags, stream, _padded(payload, pad))


def continuation(stream, *fields, whole=True, flags=0):
    return frame(CONTINUATION, flags | whole * END_HEADERS, stream, hpack.block(*fields))


def priority(stream, depends=0, weight=16, exclusive=False):
    return frame(PRIORITY, 0, stream, _priority(depends, weight, exclusive))


def rst(stream, code=CANCEL):
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def settings(*pairs, ack=False):
    """`pairs`: (identifier, value), in this order."""
    return frame(SETTINGS, ACK if ack else 0, 0,
                 b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in pairs))


def push_promise(stream, promised, *fields):
    return frame(PUSH_PROMISE, END_HEADERS, stream, promised.to_bytes(4, "big") + hpack.block(*fields))


def ping(octets=b"tidegate", ack=False):
    return frame(PING, ACK if ack else 0, 0, octets)


def goaway(last=0, code=NO_ERROR, debug=b"", stream=0):
    return frame(GOAWAY, 0, stream, last.to_bytes(4, "big") + code.to_bytes(4, "big") + debug)


def window_update(stream, increment):
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def asking(*more, method="GET", path="/", authority="test", scheme="http"):
    """The fields of a request; a pseudo-header that is None is left out."""
    pseudo = ((":method", method), (":scheme", scheme), (":path", path), (":authority", authority))
    return (*[(name, value) for name, value in pseudo if value is not None], *more)


def get(stream, path="/", *more, end=True, **options):
    """A whole request in one frame."""
    return headers(stream, *asking(*more, path=path, **options), end=end)


def post(stream, path="/", *more, **options):
    """The head of a request whose body follows."""
    return get(stream, path, *more, method="POST", end=False, **options)


# Reading.

@dataclass
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes
    code: int = None  # RST_STREAM, GOAWAY
    last: int = None  # GOAWAY
    increment: int = None  # WINDOW_UPDATE
    values: list = field(default_factory=list)  # SETTINGS
    octets: bytes = b""  # DATA without its padding; a fragment of a block; PING; the debug data of GOAWAY

    @property
    def ack(self):
        return bool(self.flags & ACK)

    @property
    def ends(self):
        return self.kind in (DATA, HEADERS) and bool(self.flags & END_STREAM)

    @property
    def whole(self):
        return bool(self.flags & END_HEADERS)

    def __str__(self):
        name = TYPES[self.kind] if self.kind < len(TYPES) else f"frame {self.kind}"
        what = {RST_STREAM: lambda: " " + code_name(self.code),
                GOAWAY: lambda: f" {code_name(self.code)} last={self.last} {self.octets!r}",
                WINDOW_UPDATE: lambda: f" +{self.increment}", SETTINGS: lambda: f" {self.values}"}
        return (f"{name}({self.stream}{' END_STREAM' if self.ends else ''}{' ACK' if self.ack and not self.ends else ''}"
                f" {len(self.payload)} octets{what[self.kind]() if self.kind in what else ''})")


FIXED = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
ON_CONNECTION = (SETTINGS, PING, GOAWAY)
ON_STREAM = (DATA, HEADERS, PRIORITY, RST_STREAM, CONTINUATION)


def _without_padding(one):
    octets = one.payload
    if one.flags & PADDED:
        if not octets or octets[0] > len(octets) - 1:
            raise BadFrame(f"padding longer than its frame: {one}")
        octets = octets[1:len(octets) - octets[0]]
    return octets


def parse(kind, flags, stream, payload):
    """A frame of a server, or BadFrame."""
    one = Frame(kind, flags, stream, payload)
    if kind == PUSH_PROMISE:
        raise BadFrame("a push: Tidegate has nothing to push")
    if kind in FIXED and len(payload) != FIXED[kind]:
        raise BadFrame(f"length {len(payload)} of {TYPES[kind]}")
    if kind in ON_CONNECTION and stream:
        raise BadFrame(f"{TYPES[kind]} on stream {stream}")
    if kind in ON_STREAM and not stream:
        raise BadFrame(f"{TYPES[kind]} on stream 0")
    if kind == DATA:
        one.octets = _without_padding(one)
    elif kind == HEADERS:
        octets = _without_padding(one)
        one.octets = octets[5:] if flags & PRIORITISED else octets
    elif kind == CONTINUATION:
        one.octets = payload
    elif kind == RST_STREAM:
        one.code = int.from_bytes(payload, "big")
    elif kind == SETTINGS:
        if len(payload) % 6 or (one.ack and payload):
            raise BadFrame(f"length {len(payload)} of SETTINGS")
        one.values = [(int.from_bytes(payload[at:at + 2], "big"), int.from_bytes(payload[at + 2:at + 6], "big"))
                      for at in range(0, len(payload), 6)]
    elif kind == PING:
        one.octets = payload
    elif kind == GOAWAY:
        if len(payload) < 8:
            raise BadFrame("a short GOAWAY")
        one.last, one.code = (int.from_bytes(payload[at:at + 4], "big") for at in (0, 4))
        one.octets = payload[8:]
        if one.last >> 31:
            raise BadFrame("the reserved bit of GOAWAY is set")
    elif kind == WINDOW_UPDATE:
        one.increment = int.from_bytes(payload, "big")
        if not 0 < one.increment <= LARGEST_WINDOW:
            raise BadFrame(f"a window update of {one.increment}")
    return one
