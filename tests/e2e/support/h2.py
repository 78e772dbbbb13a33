"""The raw HTTP/2 client: sends the octets that a test says, reads frames strictly.

Whatever a server must not send raises BadFrame or BadBlock, wherever it comes: frames on closed streams, data beyond the
windows that were given, fields that HTTP/2 does not have, a body that differs from its Content-Length."""

import re
import socket
import time
from dataclasses import dataclass, field

from support import h2_frames as h2
from support import hpack
from support.client import connect
from support.h2_frames import BadFrame, code_name
from support.wait import deadline
from support.wire import Ended, Wire

NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
OF_CONNECTION = ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade")


@dataclass
class Response:
    """What has come on one stream. `fields` are those of the final head, without :status."""
    stream: int
    status: int = None
    fields: list = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)  # grown in place: bodies are large
    trailers: list = field(default_factory=list)
    interims: list = field(default_factory=list)  # of Response
    ended: bool = False
    reset: int = None  # the code of the server's RST_STREAM
    left: bool = False  # we reset it: what is still under way is not looked at
    window: int = 0  # octets that the server may still send
    send_window: int = 0  # octets that we may still send

    @property
    def start(self):
        """As an answer of HTTP/1.1 has it, for messages."""
        return f"HTTP/2 {self.status} on stream {self.stream}"

    @property
    def raw(self):
        return f"{self.start} {self.fields} {bytes(self.body[-200:])!r} ended={self.ended} reset={self.reset}"

    @property
    def over(self):
        return self.ended or self.reset is not None

    def all(self, name):
        return [value for known, value in self.fields if known == name.lower()]

    def get(self, name):
        """The only value of that field, or None."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    def names(self):
        return [name for name, _ in self.fields]


def check_names(fields, pseudo):
    """RFC 9113 section 8.2 and 8.3."""
    for place, (name, value) in enumerate(fields):
        if name.startswith(":"):
            if name != pseudo or place:
                raise BadFrame(f"{name} at place {place} of {fields}")
        elif not NAME.fullmatch(name) or name in OF_CONNECTION or name == "te":
            raise BadFrame(f"a field {name!r} in HTTP/2")
        if re.search(r"[\x00\r\n]", value) or value != value.strip(" \t"):
            raise BadFrame(f"a value {value!r}")
    if pseudo and (not fields or fields[0][0] != pseudo):
        raise BadFrame(f"no {pseudo} in {fields}")


class H2(Wire):
    """One downstream connection over `sock`, be it plain or TLS.

    `credit`: whether what was received is given back as window at once. `polite`: whether SETTINGS and PING are
    answered."""

    def __init__(self, sock, seconds=15.0, credit=True, polite=True):
        super().__init__(sock, seconds)
        self.seconds = seconds
        self.credit = credit
        self.held = set()  # streams that get no window back, though the connection does
        self.polite = polite
        self.frames = []  # every frame that came
        self.streams = {}
        self.peer = {h2.HEADER_TABLE_SIZE: 4096, h2.INITIAL_WINDOW_SIZE: 65535, h2.MAX_FRAME_SIZE: 16384}
        self.own_window = 65535  # the initial window of a stream that the server has taken from us
        self.window = 65535
        self.send_window = 65535
        self.largest_frame = 16384
        self.goaway = None  # the last one
        self._decoder = hpack.Decoder()
        self._untaken = []  # our settings that the server has not acknowledged
        self._fragments = None  # (the HEADERS, the octets so far) of a block that is not at its end
        self._next_stream = 1
        self._pings = 0

    @property
    def port(self):
        return self.sock.getsockname()[1]

    # Beginning.

    def start(self, *pairs, taken=True):
        """Preface and SETTINGS, and the server's; `taken`: ours are acknowledged."""
        self.send(h2.PREFACE + self.settings(*pairs))
        return self.started(taken)

    def started(self, taken=True):
        self.until(lambda: self.frames and (not taken or not self._untaken), "the server's SETTINGS")
        return self

    def settings(self, *pairs):
        """The octets of a SETTINGS frame that the caller sends: what it says holds from its acknowledgement on."""
        self._untaken.append(dict(pairs))
        return h2.settings(*pairs)

    # Asking.

    def new_stream(self):
        number, self._next_stream = self._next_stream, self._next_stream + 2
        return number

    def ask(self, path="/", *more, body=None, stream=None, **options):
        """Sends a request, its body by the server's windows; returns the number of its stream."""
        stream = stream or self.new_stream()
        self._next_stream = max(self._next_stream, stream + 2)
        self.send(h2.get(stream, path, *more, end=body is None, **options))
        if body is not None:
            self.send_body(stream, body)
        return stream

    def get(self, path="/", *more, **options):
        """One request and its answer."""
        stream = self.ask(path, *more, **options)
        return self.answer(stream, options.get("method", "GET"))

    def send_body(self, stream, octets, end=True):
        """DATA as the windows allow, waiting for them."""
        at = 0
        known = self.of(stream)
        while at < len(octets):
            self.until(lambda: known.reset is not None or min(self.send_window, known.send_window) > 0,
                       f"window for stream {stream}")
            if known.reset is not None:
                return at
            count = min(len(octets) - at, self.send_window, known.send_window, self.peer[h2.MAX_FRAME_SIZE])
            self.spend(stream, count)
            self.send(h2.data(stream, octets[at:at + count], end=end and at + count == len(octets)))
            at += count
        if end and not octets:
            self.send(h2.data(stream, end=True))
        return at

    def spend(self, stream, count):
        """So many octets of DATA are sent by the caller."""
        self.send_window -= count
        self.of(stream).send_window -= count

    def leave(self, stream, code=h2.CANCEL):
        """Resets a stream of ours."""
        self.of(stream).left = True
        self.send(h2.rst(stream, code))

    # Receiving.

    def of(self, stream):
        """What has come on `stream`."""
        if stream not in self.streams:
            self.streams[stream] = Response(stream, window=self.own_window,
                                            send_window=self.peer[h2.INITIAL_WINDOW_SIZE])
        return self.streams[stream]

    def next(self):
        """The next frame, whose effects have happened. Raises Ended."""
        head = self.exactly(h2.FRAME_HEAD)
        length = int.from_bytes(head[:3], "big")
        if length > self.largest_frame:
            raise BadFrame(f"a frame of {length} octets: {head!r}")
        one = h2.parse(head[3], head[4], int.from_bytes(head[5:9], "big") & h2.LARGEST_WINDOW, self.exactly(length))
        if not self.frames and (one.kind != h2.SETTINGS or one.ack):
            raise BadFrame(f"the first frame is {one}")
        if self._fragments and (one.kind != h2.CONTINUATION or one.stream != self._fragments[0].stream):
            raise BadFrame(f"{one} within a block")
        self.frames.append(one)
        kinds = {h2.DATA: self._data, h2.HEADERS: self._headers, h2.CONTINUATION: self._continuation,
                 h2.RST_STREAM: self._reset, h2.SETTINGS: self._settings, h2.PING: self._ping,
                 h2.GOAWAY: self._goaway, h2.WINDOW_UPDATE: self._window_update}
        if one.kind in kinds:
            kinds[one.kind](one)
        return one

    def until(self, condition, what):
        """Reads frames until `condition()`."""
        end = deadline(self.seconds)
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"in vain for {what}; {self.told()}")
            try:
                self.next()
            except Ended as ended:
                raise Ended(ended.got, f"{ended.how} instead of {what}; {self.told()}") from None
            except (AssertionError, socket.timeout) as wrong:
                raise type(wrong)(f"{wrong} while waiting for {what}; {self.told()}") from None

    def told(self):
        return f"the last frames were {[str(one) for one in self.frames[-6:]]}"

    def head(self, stream):
        """Reads until the final head of `stream`."""
        known = self.of(stream)
        self.until(lambda: known.status is not None or known.over, f"a head on stream {stream}")
        assert known.status is not None, f"stream {stream} was reset: {known.raw}"
        return known

    def outcome(self, stream):
        """Reads until `stream` has ended, in whatever way."""
        known = self.of(stream)
        self.until(lambda: known.over, f"the end of stream {stream}")
        return known

    def answer(self, stream, to="GET"):
        """The whole answer on `stream`, which must not be reset before its end."""
        response = self.outcome(stream)
        assert response.ended, f"stream {stream} was reset with {code_name(response.reset)}: {response.raw}"
        length = response.get("content-length")
        if length is not None and to != "HEAD" and response.status != 304 and int(length) != len(response.body):
            raise BadFrame(f"Content-Length {length} of {len(response.body)} octets")
        return response

    def roundtrip(self):
        """Until the server has dealt with everything that was sent. Twice: acknowledgements may overtake."""
        for _ in range(2):
            self._pings += 1
            octets = b"trip%04d" % self._pings
            self.send(h2.ping(octets))
            self.until(lambda octets=octets: any(one.kind == h2.PING and one.ack and one.octets == octets
                                                 for one in self.frames[-50:]), "the answer to a PING")

    def end(self):
        """Reads frames until the connection ends, in order or by a reset; returns the last GOAWAY or None."""
        until = deadline(self.seconds)
        try:
            while time.monotonic() < until:
                self.next()
        except Ended as ended:
            if ended.got:
                raise BadFrame(f"the connection ended within a frame: {ended.got!r}") from None
            return self.goaway
        except ConnectionError:
            return self.goaway
        raise AssertionError(f"the connection does not end; {self.told()}")

    # The effects of frames.

    def _data(self, one):
        known = self.of(one.stream)
        self.window -= len(one.payload)
        known.window -= len(one.payload)
        if self.window < 0 or known.window < 0:
            raise BadFrame(f"{one} beyond the window: {known.window} of the stream, {self.window} of all")
        if not known.left:
            if known.status is None or known.over:
                raise BadFrame(f"{one} on a stream that is not open: {known.raw}")
            known.body += one.octets
            known.ended = one.ends
        if self.credit and one.payload:
            self.give(0, len(one.payload))
            if not known.over and one.stream not in self.held:
                self.give(one.stream, len(one.payload))

    def give(self, stream, count):
        """Window for `count` octets more."""
        if stream:
            self.of(stream).window += count
        else:
            self.window += count
        try:
            self.send(h2.window_update(stream, count))
        except OSError:
            pass  # it ends; the next read tells how

    def _headers(self, one):
        self._fragments = (one, one.octets)
        if one.whole:
            self._block()

    def _continuation(self, one):
        if not self._fragments:
            raise BadFrame("a CONTINUATION of nothing")
        self._fragments = (self._fragments[0], self._fragments[1] + one.octets)
        if one.whole:
            self._block()

    def _block(self):
        (one, octets), self._fragments = self._fragments, None
        fields = self._decoder.decode(octets)
        known = self.of(one.stream)
        if one.stream % 2 == 0:
            raise BadFrame(f"{one}: a stream that is not ours")
        if known.left:
            return
        if known.over:
            raise BadFrame(f"{one} on a stream that is closed: {known.raw}")
        if known.status is not None:
            check_names(fields, None)
            if not one.ends:
                raise BadFrame("trailers without END_STREAM")
            known.trailers, known.ended = fields, True
            return
        check_names(fields, ":status")
        status = fields[0][1]
        if not re.fullmatch(r"[1-9][0-9][0-9]", status) or status == "101":
            raise BadFrame(f":status {status!r}")
        if status.startswith("1"):
            if one.ends:
                raise BadFrame("an interim answer with END_STREAM")
            known.interims.append(Response(one.stream, int(status), fields[1:]))
            return
        known.status, known.fields, known.ended = int(status), fields[1:], one.ends

    def _reset(self, one):
        known = self.of(one.stream)
        if known.reset is not None:
            raise BadFrame(f"{one} on a stream that was reset before")
        known.reset = one.code

    def _settings(self, one):
        if one.ack:
            if not self._untaken:
                raise BadFrame("an acknowledgement of no SETTINGS")
            self._agreed(self._untaken.pop(0))
            return
        for key, value in one.values:
            if key == h2.INITIAL_WINDOW_SIZE:
                for known in self.streams.values():
                    known.send_window += value - self.peer[key]
            if key == h2.ENABLE_PUSH and value:
                raise BadFrame("a server that says ENABLE_PUSH")
            self.peer[key] = value
        if self.polite:
            self.send(h2.settings(ack=True))

    def _agreed(self, values):
        for key, value in values.items():
            if key == h2.INITIAL_WINDOW_SIZE:
                for known in self.streams.values():
                    known.window += value - self.own_window
                self.own_window = value
            elif key == h2.HEADER_TABLE_SIZE:
                self._decoder.allow(value)
            elif key == h2.MAX_FRAME_SIZE:
                self.largest_frame = value

    def _ping(self, one):
        if not one.ack and self.polite:
            self.send(h2.ping(one.octets, ack=True))

    def _goaway(self, one):
        if self.goaway and one.last > self.goaway.last:
            raise BadFrame(f"{one} after {self.goaway}")
        self.goaway = one

    def _window_update(self, one):
        if not one.stream:
            self.send_window += one.increment
            left = self.send_window
        else:
            self.of(one.stream).send_window += one.increment
            left = self.of(one.stream).send_window
        if left > h2.LARGEST_WINDOW:
            raise BadFrame(f"{one} makes a window of {left}")


def open_h2(address, *pairs, context=None, name="a.example", seconds=15.0, receive_buffer=None, **options):
    """A started client. With `context`, over TLS, where ALPN must have chosen h2."""
    client = raw_h2(address, context, name, seconds, receive_buffer, **options)
    return client.start(*pairs)


def raw_h2(address, context=None, name="a.example", seconds=15.0, receive_buffer=None, **options):
    """A client that has not sent anything."""
    sock = connect(address, seconds, receive_buffer)
    if context:
        sock = context.wrap_socket(sock, server_hostname=name)
        assert sock.selected_alpn_protocol() == "h2", sock.selected_alpn_protocol()
    return H2(sock, seconds, **options)
