"""Steady traffic in the background of a test: kept connections that ask again and again and account for each answer."""

import threading

from support.client import Client, request
from support.wait import until
from support.wire import Ended


class Steady:
    """`with Steady(tidegate) as steady:` connects first; at the end nothing may have failed.

    `failures`: requests without their one right answer. `reconnects`: how often the proxy ended a kept connection, openly or
    while it was idle. `races`: requests on a kept connection that was closed without an octet of an answer."""

    def __init__(self, tidegate, connections=4, pace=0.004, strict=True):
        self.address = tidegate.addresses()[0]
        self.count = connections
        self.pace = pace
        self.strict = strict
        self.failures = []
        self.answers = 0
        self.reconnects = 0
        self.races = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(connections)]
        self._asked = [0] * connections

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        self.more("the first steady answers")
        return self

    def __exit__(self, kind, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if kind is None and self.strict:
            assert not self.failures, self.failures[:3]
            assert self.races == 0, f"{self.races} requests raced the close of an idle connection"

    def more(self, what="further steady answers", count=2):
        """Until each connection got `count` further answers."""
        before = list(self._asked)
        until(lambda: self.failures or all(now >= then + count for now, then in zip(self._asked, before)), what)

    def _run(self, number):
        client, used = None, 0
        while not self._stop.is_set():
            try:
                if client is None:
                    client, used = Client(self.address), 0
                client.send(request("GET", f"/steady/{number}"))
                response = client.response()
                assert response.status == 200, response.raw
                used += 1
                self.answers += 1
                self._asked[number] += 1
                if response.get("connection") == "close":
                    client.close()
                    client = None
                    self.reconnects += 1
                elif not client.silent(self.pace):
                    # The end while idle: nothing was asked, nothing is lost.
                    assert client.pending == b"", f"unasked octets: {client.pending!r}"
                    client.close()
                    client = None
                    self.reconnects += 1
            except (Ended, OSError) as gone:
                if used and not (isinstance(gone, Ended) and gone.got):
                    self.races += 1
                    self.reconnects += 1
                else:
                    self.failures.append(repr(gone))
                client = None
            except AssertionError as wrong:
                self.failures.append(repr(wrong))
                client = None
                self._stop.wait(0.05)
        if client:
            client.close()
