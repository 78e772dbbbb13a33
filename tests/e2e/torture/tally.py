"""What the torture's clients of all kinds have in common: how each accounts for its requests, and how it comes back over
TLS with the session that it had before."""

import ssl
import threading
import time
from collections import Counter

from torture.exchange import OK

PATIENCE = 30.0  # of a client for one answer


class Lost(Exception):
    """This request is lost: which way, and what there was to see."""

    def __init__(self, outcome, detail=""):
        super().__init__(outcome)
        self.outcome = outcome
        self.detail = detail


class Tally:
    """Of one process of clients. `first`: below its numbers, which no other process may use."""

    def __init__(self, certificate=None, first=0):
        self.certificate = certificate  # the server's, or None for clients without TLS
        self.rows = {}
        self.failures = []
        self.handshakes = []  # (when, whether it was its client's first, a session was offered, it was resumed)
        self.tunnels = []  # how each was, and how it ended
        self.answers = Counter()  # by status class, as the proxy should have counted them
        # connections; idle_closed: by the proxy while no request was on its way, no loss; told_to_close: an answer came
        # with Connection: close; goaways: connections that were told to go away; declined: requests that a GOAWAY left to
        # another connection.
        self.counts = Counter()
        self.next_number = first
        self.stopping = False
        self.slowest = 0.0
        self.lock = threading.Lock()

    def number(self):
        with self.lock:
            self.next_number += 1
            return self.next_number

    def count(self, kind, outcome):
        with self.lock:
            self.rows.setdefault(kind, Counter())[outcome] += 1

    def add(self, what, count=1):
        with self.lock:
            self.counts[what] += count

    def answered(self, status):
        with self.lock:
            self.answers[status // 100] += 1

    def fail(self, kind, number, outcome, detail, port, reused=False, opened=None):
        """`opened`: when its connection was, as time.time()."""
        self.count(kind, outcome)
        self.failures.append({"kind": kind, "number": number, "outcome": outcome, "detail": detail, "port": port,
                              "at": time.time(), "reused": reused, "opened": opened})

    def progress(self):
        with self.lock:
            return {kind: row[OK] for kind, row in self.rows.items()}

    def report(self):
        return {"rows": self.rows, "failures": self.failures, "answers": self.answers, "counts": self.counts,
                "handshakes": self.handshakes, "tunnels": self.tunnels, "slowest": self.slowest}

    def context(self, *alpn):
        """What one client needs for TLS, or None."""
        return Returning(self, list(alpn)) if self.certificate else None


class Returning(ssl.SSLContext):
    """Of one client: every handshake offers the newest session that it was given a ticket for."""

    def __new__(cls, *_):
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, tally, alpn):
        super().__init__()
        self.tally = tally
        self.session = None
        self.first = True
        self.load_verify_locations(tally.certificate)
        self.set_alpn_protocols(alpn)

    # asyncio has no way to hand a session on; it asks its context for each connection.
    def wrap_bio(self, *arguments, **options):  # pylint: disable=arguments-differ
        return super().wrap_bio(*arguments, session=self.session, **options)

    def wrap_socket(self, *arguments, **options):  # pylint: disable=arguments-differ
        return super().wrap_socket(*arguments, session=self.session, **options)

    def shaken(self, connection):
        """The handshake of `connection` (with .session) is over."""
        self.tally.handshakes.append((time.monotonic(), self.first, self.session is not None, connection.session_reused))
        self.first = False

    def keep(self, connection):
        """Something was read from `connection`: its tickets, which come first with TLS 1.3, are there."""
        session = connection.session
        if session and session.has_ticket:
            self.session = session
