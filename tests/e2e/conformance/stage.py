"""Plays the rows of the conformance table, one after the other, on one proxy in front of one recording origin.

What holds for every row, whatever it says itself:

  1. What the origin receives are well-formed requests of HTTP/1.1 (wire.py reads them strictly), these and no others.
  2. Afterwards a stranger asks and gets exactly the answer to its own question: nothing of the row, no stray octet, no
     half-read answer has stayed in a pooled connection. The question also comes after everything that the proxy still
     had under way to the origin, so what the origin has not seen by then it will not see.
  3. When the origin ends its connections, the proxy ends them too. Each row finds an empty pool."""

import os
import signal
import socket

from conformance.steps import Finished, whole_request
from support import processes
from support.client import Client, request
from support.daemon import basic
from support.wait import PATIENCE, until
from support.wait import duration
from support.wire import Ended

CONFIGURATIONS = {
    # One upstream with a pool; nothing is tried more than twice.
    "plain": {"routes": [{"name": "trace", "path": "/trace/", "methods": ["TRACE"], "upstream": "app"},
                         {"name": "own", "path": "/own/", "respond": {"status": 200, "body": "pong\n"}},
                         {"name": "all", "upstream": "app"}]},
    "bounded": {"limits": {"max_header_bytes": "2KiB", "max_headers": 10, "max_url_bytes": "256B", "max_body": "1KiB"}},
    # Its origins, and the stranger, must be in time.
    "hasty": {"timeouts": dict.fromkeys(["request_head", "body_idle", "keepalive", "write_idle", "upstream_response",
                                         "upstream_idle", "tunnel_idle"], duration(0.3))},
    "trusting": {"trusted_proxies": ["127.0.0.0/8"], "forwarded": {"rfc7239": True}},
    "naming": {"forwarded": {"rfc7239": True}},
}


def configuration(name, origin):
    return basic(origin.address, **CONFIGURATIONS[name])


class Play:
    """One row under way."""

    def __init__(self, stage, row):
        self.stage = stage
        self.row = row
        self.seconds = stage.seconds
        self.events = set()
        self.over = False
        self.client = None

    def origin_script(self, steps):
        def script(peer):
            try:
                for step in steps:
                    if isinstance(step, bytes):
                        peer.send(step)
                    else:
                        step.at_origin(self, peer)
                serve(peer)
            except Finished:
                pass
        return script

    def run_client(self):
        self.client = self.stage.connect()
        self.begin()
        for step in self.row.client:
            if isinstance(step, bytes):
                self.client.send(step)
            else:
                step.at_client(self)

    def begin(self):
        """What comes before the first step."""


def serve(peer):
    """Each answer tells what was asked, so that an answer which went astray is seen."""
    while True:
        got = whole_request(peer)
        octets = f"{got.method} {got.target}\n".encode() + got.body
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(octets)
                  + (b"" if got.method == "HEAD" else octets))


class Stage:
    """`connect` opens a client's connection, `log` is the Tidegate whose log is asked; a row waits `seconds` for
    anything."""

    play_kind = Play

    def __init__(self, origin, connect, log, seconds=10.0):
        self.origin = origin
        self.connect = connect
        self.log = log
        self.seconds = seconds
        self.questions = 0
        self.owed = []  # (row, X-Request-Id, reason): what the access log must say; its lines come late, so all at once
        origin.forever(serve)

    def play(self, row):
        """Raises AssertionError, Ended or OSError where the proxy does what the row does not allow."""
        play = self.play_kind(self, row)
        self.origin.next(*[play.origin_script(steps) for steps in row.origin])
        try:
            play.run_client()
            self._wait_for(row)
            self._end_of_client(play)
            opened = len(self.origin.peers)
            if row.sees == ():
                assert opened == 0, f"the origin was reached: {[bytes(peer.received) for peer in self.origin.peers]}"
            self.origin.scripts.clear()
            reused = self._ask(opened)
            self._check(row, opened, reused)
        except (AssertionError, Ended, OSError) as wrong:
            told = type(wrong)(*self._told(wrong))
            self._settle(play)
            raise told from wrong
        finally:
            play.over = True
            self._end_of_client(play)
            left = self._clear()
        assert not left, f"the proxy did not end the connections {left} that the origin had ended"

    def thaw(self):
        """Goes on after a step `Freeze`."""
        for pid in self.log.worker_processes():
            if processes.stopped(pid):
                os.kill(pid, signal.SIGCONT)

    def _settle(self, play):
        """After a failure: what is still under way shall not be taken for the next row's."""
        play.over = True
        self.thaw()
        self._end_of_client(play)
        self.origin.scripts.clear()
        try:
            self._ask(0)
        except (AssertionError, Ended, OSError):
            pass

    def _wait_for(self, row):
        required = [one for one in row.sees if not one.perhaps]
        whole = [one for one in required if not one.cut]

        def seen():
            requests = list(self.origin.requests)
            finished = [one for one in requests if getattr(one, "whole", False)]
            return self.origin.faults or (len(requests) >= len(required) and len(finished) >= len(whole))
        until(seen,
              lambda: f"{len(required)} requests at the origin; it saw {[one.raw for one in self.origin.requests]}",
              self.seconds)

    @staticmethod
    def _end_of_client(play):
        if play.client:
            play.client.close()

    def _ask(self, opened):
        """The stranger's question; True if it came on a connection that the row had opened."""
        self.questions += 1
        target = f"/stranger/{self.questions}"
        response = self.answer_to(target)
        assert (response.status, response.body) == (200, f"GET {target}\n".encode()), \
            f"a stranger got {response.raw!r} {response.body!r} for {target}"
        asked = [one for one in self.origin.requests if one.target == target]
        assert len(asked) == 1, f"the stranger's one question came {len(asked)} times"
        return asked[0].connection < opened

    def answer_to(self, target):
        """Somebody asks for `target` on a connection of their own."""
        with self.connect() as stranger:
            stranger.send(request("GET", target))
            return stranger.response()

    def in_order(self, wanted, requests):  # pylint: disable=no-self-use
        """Pairs what the origin should see with what it saw."""
        return zip(wanted, requests)

    def _check(self, row, opened, reused):
        assert not self.origin.faults, f"at the origin: {self.origin.faults[0]!r}"
        requests = [one for one in self.origin.requests if not one.target.startswith("/stranger/")]
        wanted = list(row.sees)
        if len(wanted) > len(requests):
            wanted = [one for one in wanted if not one.perhaps]
        assert len(requests) == len(wanted), f"the origin saw {[one.raw for one in requests]}"
        for seen, got in self.in_order(wanted, requests):
            seen.check(got)
        if not any(seen.cut for seen in wanted):
            for peer in self.origin.peers:
                assert peer.pending == b"", f"octets at the origin that belong to no request: {peer.pending!r}"
        assert row.connections in (None, opened), f"{opened} connections to the origin"
        assert row.reused in (None, reused), "a connection was reused" if reused else "no connection was kept"

    def _told(self, wrong):
        at_origin = f"the origin saw {[one.raw for one in self.origin.requests]}, faults {self.origin.faults}"
        if isinstance(wrong, Ended):
            return wrong.got, f"{wrong.how}; {at_origin}"
        return (f"{wrong}\n{at_origin}",)

    def _clear(self):
        """Ends the origin's connections and empties its record; returns the numbers of those that the proxy kept."""
        for peer in self.origin.peers:
            self._shutdown(peer, socket.SHUT_WR)
        left = [peer.number for peer in self.origin.peers if not peer.finished.wait(self.seconds * PATIENCE)]
        for peer in self.origin.peers:
            self._shutdown(peer, socket.SHUT_RDWR)
            peer.finished.wait(self.seconds * PATIENCE)
        for record in (self.origin.scripts, self.origin.requests, self.origin.peers, self.origin.faults):
            record.clear()
        return left

    @staticmethod
    def _shutdown(peer, how):
        try:
            peer.sock.shutdown(how)
        except OSError:
            pass


def relayed_stage(relay, origin, seconds):
    """A stage with `relay` where Tidegate should be: nothing is logged."""
    class NoLog:
        @staticmethod
        def logged(**expected):
            raise AssertionError(f"a relay logs nothing: {expected}")

        @staticmethod
        def worker_processes():
            return []
    return Stage(origin, lambda: Client(relay.address, seconds), NoLog, seconds)
