"""One run of the torture as the test sees it: starts origin and client, asks how far they are, gives the verdict."""

import json
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

from support.wait import PATIENCE, until
from torture.exchange import DUPLICATED, IDLE_RACE, KILLED, LOST, OUTCOMES, RESET_AFTER, table

HERE = Path(__file__).parent
KINDS = ["busy", "idle", "fresh", "pipelined", "upload", "download", "continue"]


class Child:
    """A process that speaks JSON lines and ends when its standard input does."""

    def __init__(self, script, *arguments):
        self.process = subprocess.Popen([sys.executable, str(HERE / script), *map(str, arguments)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.latest = {}
        self._arrived = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.latest.update(json.loads(line))
            self._arrived.set()

    def first(self):
        assert self._arrived.wait(20 * PATIENCE), "a process of the torture did not start"
        return self.latest

    def finish(self, seconds=60):
        """Ends it and returns all that it said."""
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(seconds * PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise AssertionError("a process of the torture did not end: clients wait for answers") from None
        self._reader.join(10 * PATIENCE)
        return self.latest


class Verdict:
    """What became of every request, after asking the origin which it saw."""

    def __init__(self, client, origin, killed_ports):
        self.rows = {kind: Counter(row) for kind, row in client["rows"].items()}
        self.failures = client["failures"]
        self.answers = {int(key): value for key, value in client["answers"].items()}
        self.client = client
        seen = origin["seen"]
        for failure in self.failures:
            self._settle(failure, seen, killed_ports)
        failed = {str(failure["number"]) for failure in self.failures}
        # A retry after a stale connection may show the origin a request twice only if it never answered the first.
        self.twice = [number for number, times in seen.items() if times > 1 and number not in failed]

    def _settle(self, failure, seen, killed_ports):
        outcome = failure["outcome"]
        final = outcome
        if failure["port"] in killed_ports:
            final = KILLED
        elif outcome == IDLE_RACE and str(failure["number"]) in seen:
            final = RESET_AFTER
        if final != outcome:
            self.rows[failure["kind"]][outcome] -= 1
            self.rows[failure["kind"]][final] += 1
            failure["outcome"] = final

    def total(self, *outcomes):
        return sum(row[outcome] for row in self.rows.values() for outcome in outcomes)

    @property
    def lost(self):
        return self.total(*LOST) + len(self.twice)

    @property
    def lost_details(self):
        return [failure for failure in self.failures if failure["outcome"] in LOST][:8] + [
            {"outcome": DUPLICATED, "number": number, "detail": "the origin saw it twice"} for number in self.twice[:8]]

    def lines(self, title):
        rows = dict(self.rows)
        rows["all"] = sum(self.rows.values(), Counter())
        return [title, *("  " + line for line in table(rows, OUTCOMES)),
                f"  lost {self.lost}; idle-close races {self.total(IDLE_RACE)}; inside killed workers {self.total(KILLED)}; "
                f"connections {self.client['connections']}, closed while idle {self.client['idle_closed']}, "
                f"told to close {self.client['told_to_close']}; slowest {self.client['slowest']:.2f} s"]


class Torture:
    """`with Torture() as torture: tidegate = launch(... torture.origin_address ...); torture.begin(port); ...`"""

    def __enter__(self):
        self.origin = Child("origin.py")
        self.origin_address = f"127.0.0.1:{self.origin.first()['port']}"
        self.client = None
        self.killed_ports = set()
        return self

    def __exit__(self, *_):
        for child in (self.client, self.origin):
            if child and child.process.poll() is None:
                child.process.kill()
            if child:
                child.process.wait()

    def begin(self, port, *certificate):
        """Starts the clients, over TLS if a certificate is given; returns when every kind has had an answer."""
        self.client = Child("client.py", port, *certificate)
        self.progress("the first answers")

    def progress(self, what="answers of every kind", more=1):
        """Until every kind of client got `more` further answers."""
        before = dict(self.client.latest.get("progress", {}))

        def moved():
            assert self.client.process.poll() is None, "the torture's client ended by itself"
            now = self.client.latest.get("progress", {})
            return all(now.get(kind, 0) >= before.get(kind, 0) + more for kind in KINDS)
        until(moved, lambda: f"{what}; before {before}, now {self.client.latest.get('progress')}", 40)

    def end(self):
        """Stops the clients in good order and returns the Verdict."""
        client = self.client.finish()
        assert "rows" in client, "the torture's client died"
        return Verdict(client, self.origin.finish(), self.killed_ports)
