"""Plays the rows of the HTTP/2 table: what conformance/stage.py says holds for every row, and beyond it:

  4. Every frame that the client receives is one that RFC 9113 lets a server send (support/h2.py reads them strictly).
  5. The stranger asks over HTTP/2, too."""

from conformance.stage import Play, Stage
from support.daemon import CLEAR, basic
from support.h2 import raw_h2
from support.wait import duration

CONFIGURATIONS = {
    "plain": {"routes": [{"name": "own", "path": "/own/", "respond": {"status": 200, "body": "pong\n"}},
                         {"name": "all", "upstream": "app"}]},
    "bounded": {"limits": {"max_header_bytes": "2KiB", "max_headers": 10, "max_url_bytes": "256B", "max_body": "1KiB"}},
    # Its origins, and the stranger, must be in time.
    "hasty": {"timeouts": dict.fromkeys(["request_head", "body_idle", "keepalive", "write_idle", "upstream_response",
                                         "upstream_idle", "tunnel_idle"], duration(0.3))},
}


def configuration(name, origin, pair=None):
    """`pair`: the certificate of a TLS listener, instead of a plain one."""
    listener = {**CLEAR, "protocols": ["h2", "h1"], "tls": {}} if pair else CLEAR
    certificates = {"certificates": [pair.entry()]} if pair else {}
    return basic(origin.address, listeners=[listener], **certificates, **CONFIGURATIONS[name])


class H2Play(Play):
    """One row under way; its client has shaken hands unless the row does that itself."""

    def begin(self):
        if self.row.begun:
            self.client.start(*self.row.settings)


class H2Stage(Stage):
    play_kind = H2Play

    def answer_to(self, target):
        with self.connect() as stranger:
            return stranger.start().get(target)

    def in_order(self, wanted, requests):
        """Streams are answered side by side: requests are paired by their targets."""
        return zip(sorted(wanted, key=lambda seen: seen.target), sorted(requests, key=lambda got: got.target))


def stage_of(tidegate, origin, context=None, seconds=10.0):
    """A stage in front of `origin`; `context`: TLS."""
    address = tidegate.addresses()[0]
    return H2Stage(origin, lambda: raw_h2(address, context, seconds=seconds), tidegate, seconds)


def naive_stage(naive, origin, seconds):
    """A stage with `naive` where Tidegate should be: nothing is logged."""
    class NoLog:
        @staticmethod
        def worker_processes():
            return []
    return H2Stage(origin, lambda: raw_h2(naive.address, seconds=seconds), NoLog, seconds)
