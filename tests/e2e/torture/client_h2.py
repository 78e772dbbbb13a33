"""The torture's clients of HTTP/2, a process of their own: each a thread that obeys GOAWAY (RFC 9113 section 6.8) and
accounts for every request and octet.

`client_h2.py PORT [CERTIFICATE]`: by ALPN over TLS if the server's certificate is given, else by prior knowledge; in
all else as client.py. What breaks RFC 9113 is found by support/h2.py."""

import json
import random
import socket
import ssl
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import h2_frames as h2  # noqa: E402
from support.client import connect  # noqa: E402
from support.h2 import H2  # noqa: E402
from support.h2_frames import BadFrame, code_name  # noqa: E402
from support.wire import Ended  # noqa: E402
from torture.exchange import (OK, REFUSED, RESET_AFTER, RESET_BEFORE, TIMED_OUT, TRUNCATED, WRONG,  # noqa: E402
                              body_for, upload_for)
from torture.tally import PATIENCE, Lost, Tally  # noqa: E402

FIRST_NUMBER = 10_000_000
WINDOW = 16384  # of the streams of slow downloads
# Longer than the proxy waits for an answer to the PING of a drain (2 s), shorter than that and its linger (2 s more).
DEAF = 3.0


def open_client(tally, port, context, window=None, receive_buffer=None):
    """A started connection; Lost if there is none."""
    try:
        sock = connect(("127.0.0.1", port), PATIENCE, receive_buffer)
    except OSError as refused:
        raise Lost(REFUSED, repr(refused)) from None
    tally.add("connections")
    try:
        if context:
            sock = context.wrap_socket(sock, server_hostname="torture")
            context.shaken(sock)
            # An end without close_notify could be anybody's: an error.
            sock.suppress_ragged_eofs = False
            if sock.selected_alpn_protocol() != "h2":
                raise Lost(WRONG, f"ALPN chose {sock.selected_alpn_protocol()}")
        client = H2(sock, PATIENCE, credit=window is None)
        client.start(*([(h2.INITIAL_WINDOW_SIZE, window)] if window else []))
    except (OSError, Ended, AssertionError) as failed:
        sock.close()
        raise Lost(WRONG if isinstance(failed, BadFrame) else RESET_BEFORE, f"beginning: {failed!r}") from None
    tally.add("h2_connections")
    if context:
        context.keep(sock)
    return client


def listen(client, seconds):
    """Deals with what comes in that time; ends early when told to go away."""
    end = time.monotonic() + seconds
    while client.goaway is None and (left := end - time.monotonic()) > 0:
        if not client.silent(left):
            client.next()
            while client.pending and client.goaway is None:
                client.next()


def declined(client, stream):
    """It was not and will not be dealt with: it may be asked again elsewhere."""
    return (client.goaway is not None and stream > client.goaway.last) or client.of(stream).reset == h2.REFUSED_STREAM


class Asking:
    """One client: a connection at a time, until it is told to go away."""

    def __init__(self, tally, port, kind):
        self.tally = tally
        self.port = port
        self.kind = kind
        self.act, _, self.batch, self.options = KINDS[kind]
        self.context = tally.context("h2")
        self.scheme = "https" if self.context else "http"
        self.again = []  # numbers that a connection has declined

    def run(self):
        while not self.tally.stopping or self.again:
            client = None
            try:
                client = open_client(self.tally, self.port, self.context, **self.options)
                self.converse(client)
            except Lost as lost:
                self.tally.fail(self.kind, self.tally.number(), lost.outcome, lost.detail, client.port if client else 0)
                time.sleep(0.05)
            except (Ended, OSError, AssertionError) as wrong:
                # Nothing was owed, yet it did not end as it must.
                outcome = WRONG if isinstance(wrong, AssertionError) else RESET_BEFORE
                self.tally.fail(self.kind, self.tally.number(), outcome, f"between requests: {wrong!r}", client.port)
            finally:
                if client:
                    client.close()

    def converse(self, client):
        alone = False
        while client.goaway is None and not alone and (not self.tally.stopping or self.again):
            numbers = [self.again.pop() if self.again else self.tally.number() for _ in range(self.batch)]
            began = time.monotonic()
            streams = {}
            try:
                alone = self.act(self, client, numbers, streams)
            except (OSError, Ended) as gone:
                # What has come all the same tells more, if anything was asked.
                if not streams and client.goaway is None:
                    self.again += numbers
                    raise Lost(RESET_BEFORE, f"the end without a GOAWAY: {gone!r}") from None
            except AssertionError as wrong:
                for number in numbers:
                    self.tally.fail(self.kind, number, WRONG, repr(wrong), client.port)
                return
            settled = [self.settle(client, number, streams.get(number)) for number in numbers]
            alone = alone or not all(settled)
            self.tally.slowest = max(self.tally.slowest, time.monotonic() - began)
            if self.context:
                self.context.keep(client.sock)
            if self.kind == "h2 idle":
                listen(client, random.uniform(0.05, 0.8))
            else:
                time.sleep(0.02)
        if client.goaway is not None:
            self.leave(client)

    def leave(self, client):
        """Told to go away, and nothing is owed any more."""
        self.tally.add("goaways")
        if client.goaway.code != h2.NO_ERROR:
            raise Lost(WRONG, f"{client.goaway}")
        if random.random() < 0.5:
            return
        client.end()
        self.tally.add("ended_by_proxy")

    def settle(self, client, number, stream):
        """What became of that request; false if it is lost."""
        if stream is None:
            self.again.append(number)  # it was not sent: GOAWAY came, or the end
            return True
        known = client.of(stream)
        try:
            client.until(lambda: known.over or declined(client, stream), f"an answer to request {number}")
            if declined(client, stream):
                if known.status is not None or known.body:
                    raise Lost(WRONG, f"{client.goaway} declines what was answered: {known.raw}")
                self.tally.add("declined")
                self.again.append(number)
                return True
            self.judge(known, number)
            self.tally.count(self.kind, OK)
            return True
        except (Ended, OSError, AssertionError, Lost) as wrong:
            outcome = getattr(wrong, "outcome", None)
            if isinstance(wrong, (Ended, ConnectionError, ssl.SSLError)):
                outcome = RESET_AFTER if known.status is None else TRUNCATED
            elif isinstance(wrong, socket.timeout) or "in vain" in str(wrong) or "nothing came" in str(wrong):
                outcome = TIMED_OUT
            detail = getattr(wrong, "detail", repr(wrong))
            self.tally.fail(self.kind, number, outcome or WRONG, f"stream {stream}: {detail}; {client.goaway}", client.port)
            return False

    def judge(self, known, number):
        if known.reset is not None:
            raise Lost(TRUNCATED if known.status else RESET_AFTER, f"reset with {code_name(known.reset)}: {known.raw}")
        self.tally.answered(known.status)
        size = KINDS[self.kind][0].size(number)
        length = known.get("content-length")
        if known.status != 200 or known.get("x-number") != str(number) or known.body != body_for(number, size) or \
                length not in (None, str(size)) or known.trailers:
            raise Lost(WRONG, known.raw[:500])

    def head(self, client, number, streams, size, *fields, method="GET"):
        """The octets of a request on a new stream."""
        streams[number] = stream = client.new_stream()
        return h2.get(stream, f"/{number}/{self.kind.replace(' ', '-')}/{size}", *fields, method=method, scheme=self.scheme,
                      authority="torture", end=method == "GET")


def answers(size):
    """Of how many octets the answers of a kind are: by the request's number."""
    def mark(act):
        act.size = size
        return act
    return mark


# The kinds: each sends one batch on `client`, and tells in `streams` which number went where. True: the connection is for
# nothing more.

@answers(lambda number: 20 + number % 3000)
def several(asking, client, numbers, streams):
    """All at once; nothing is read before, so a GOAWAY may be on its way to us."""
    client.send(b"".join(asking.head(client, number, streams, several.size(number)) for number in numbers))


@answers(lambda number: 64)
def single(asking, client, numbers, streams):
    client.send(asking.head(client, numbers[0], streams, 64))
    return asking.kind == "h2 fresh"


@answers(lambda number: 40)
def upload(asking, client, numbers, streams):
    """In pieces, of all streams in turn."""
    size, pieces = 30000, 10
    for number in numbers:
        length = [("content-length", str(size))] if number % 2 else []
        client.send(asking.head(client, number, streams, 40, ("x-size", str(size)), *length, method="POST"))
    step = size // pieces
    for start in range(0, size, step):
        for number in numbers:
            part = upload_for(number, size)[start:start + step]
            client.send_body(streams[number], part, end=start + step == size)
        time.sleep(0.03)


@answers(lambda number: 120000)
def download(asking, client, numbers, streams):
    """Small windows, given back late."""
    for number in numbers:
        client.send(asking.head(client, number, streams, download.size(number)))
    known = [client.of(stream) for stream in streams.values()]

    def waits(one):
        return one.over or one.window <= WINDOW // 4 or declined(client, one.stream)
    while not all(one.over or declined(client, one.stream) for one in known):
        client.until(lambda: all(map(waits, known)), "octets up to the windows")
        time.sleep(0.02)
        spent = 65535 - client.window
        if spent:
            client.give(0, spent)
        for one in known:
            if not one.over and one.window < WINDOW:
                client.give(one.stream, WINDOW - one.window)


@answers(lambda number: 64)
def deaf(asking, client, numbers, streams):
    """Reads nothing for so long that a drain does not wait for it; what it sends then may be above the last identifier."""
    listen(client, 0.5)
    if client.goaway is not None:
        return
    client.send(asking.head(client, numbers[0], streams, 64))
    time.sleep(DEAF)
    client.send(b"".join(asking.head(client, number, streams, 64) for number in numbers[1:]))


# kind: (what it does, clients, requests in a batch, options of the connection)
KINDS = {
    "h2 busy": (several, 4, 8, {}),
    "h2 idle": (single, 12, 1, {}),
    "h2 fresh": (single, 2, 1, {}),
    "h2 upload": (upload, 3, 2, {}),
    "h2 download": (download, 3, 2, {"window": WINDOW, "receive_buffer": 8192}),
    "h2 deaf": (deaf, 3, 3, {}),
}


def run_threads(tally, threads):
    """Runs them until standard input ends and they have; prints the progress and the report."""
    told = threading.Event()

    def read():
        sys.stdin.read()
        told.set()
    threading.Thread(target=read, daemon=True).start()
    for thread in threads:
        thread.start()
    while not told.wait(0.2):
        print(json.dumps({"progress": tally.progress()}), flush=True)
    tally.stopping = True
    for thread in threads:
        thread.join()
    print(json.dumps(tally.report()), flush=True)


def main(port, certificate=None):
    tally = Tally(certificate, FIRST_NUMBER)
    # Without TLS, upgrades are waited for one by one: who is deaf would make each last longer.
    kinds = [kind for kind in KINDS if certificate or kind != "h2 deaf"]
    run_threads(tally, [threading.Thread(target=Asking(tally, port, kind).run) for kind in kinds for _ in range(KINDS[kind][1])])


if __name__ == "__main__":
    random.seed(2)
    main(int(sys.argv[1]), *sys.argv[2:3])
