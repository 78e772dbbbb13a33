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
# Of each process of clients: the kinds whose progress is waited for.
KINDS = {
    "client.py": ["busy", "idle", "fresh", "pipelined", "upload", "download", "continue"],
    "client_h2.py": ["h2 busy", "h2 idle", "h2 fresh", "h2 upload", "h2 download"],
    "tunnels.py": ["tunnel", "h2 tunnel"],
}


class Child:
    """A process that speaks JSON lines and ends when its standard input does. `before`: what goes before its command."""

    def __init__(self, script, *arguments, before=()):
        self.process = subprocess.Popen([*before, sys.executable, str(HERE / script), *map(str, arguments)],
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

    def stop(self):
        """Tells it to end."""
        if self.process.poll() is None and not self.process.stdin.closed:
            self.process.stdin.close()

    def finish(self, seconds=60):
        """Ends it and returns all that it said."""
        self.stop()
        if self.process.poll() is None:
            try:
                self.process.wait(seconds * PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise AssertionError("a process of the torture did not end: clients wait for answers") from None
        self._reader.join(10 * PATIENCE)
        return self.latest


class Verdict:
    """What became of every request, after asking the origin which it saw."""

    def __init__(self, clients, origin, killed_ports):
        self.rows = {kind: Counter(row) for client in clients for kind, row in client["rows"].items()}
        self.failures = [failure for client in clients for failure in client["failures"]]
        self.answers = Counter()
        for client in clients:
            self.answers.update({int(key): value for key, value in client["answers"].items()})
        self.counts = sum((Counter(client["counts"]) for client in clients), Counter())
        self.handshakes = [one for client in clients for one in client["handshakes"]]
        self.tunnels = [one for client in clients for one in client["tunnels"]]
        self.slowest = max(client["slowest"] for client in clients)
        seen = origin["seen"]
        for failure in self.failures:
            self._settle(failure, seen, killed_ports)
        failed = {str(failure["number"]) for failure in self.failures}
        # A retry after a stale connection may show the origin a request twice only if it never answered the first. What a
        # GOAWAY has declined must not have been seen at all.
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
                f"connections {self.counts['connections']}, closed while idle {self.counts['idle_closed']}, "
                f"told to close {self.counts['told_to_close']}; slowest {self.slowest:.2f} s", *self.lines_of_h2()]

    def lines_of_h2(self):
        if not self.counts["h2_connections"]:
            return []
        return [f"  HTTP/2: connections {self.counts['h2_connections']}, told to go away {self.counts['goaways']} (of those "
                f"waited for until the proxy ended them: {self.counts['ended_by_proxy']}), requests declined by GOAWAY and "
                f"asked again {self.counts['declined']}"]

    def resumption(self, phases):
        """{phase: Counter of handshakes, first, offered and resumed}. `phases`: (when it began, name), in order."""
        table_of = {name: Counter() for _, name in phases}
        for when, first, offered, resumed in self.handshakes:
            row = table_of[[name for began, name in phases if began <= when][-1]]
            row.update(handshakes=1, first=int(first), offered=int(offered), resumed=int(resumed))
        return table_of


class Torture:
    """`with Torture() as torture: tidegate = launch(... torture.origin_address ...); torture.begin(port); ...`"""

    def __enter__(self):
        self.origin = Child("origin.py")
        self.origin_address = f"127.0.0.1:{self.origin.first()['port']}"
        self.clients = {}
        self.killed_ports = set()
        return self

    def __exit__(self, *_):
        for child in (*self.clients.values(), self.origin):
            if child.process.poll() is None:
                child.process.kill()
            child.process.wait()

    def begin(self, port, *certificate, more=()):
        """Starts the clients of HTTP/1.1 and those of the scripts `more`, over TLS if a certificate is given; returns when
        every kind has had an answer."""
        for script in ("client.py", *more):
            self.clients[script] = Child(script, port, *certificate)
        self.progress("the first answers")

    def so_far(self):
        """Answers of each kind."""
        found = {}
        for script, child in self.clients.items():
            assert child.process.poll() is None, f"the torture's {script} ended by itself"
            found.update(child.latest.get("progress", {}))
        return found

    def progress(self, what="answers of every kind", more=1):
        """Until every kind of client got `more` further answers."""
        before = self.so_far()
        kinds = [kind for script in self.clients for kind in KINDS[script]]

        def moved():
            now = self.so_far()
            return all(now.get(kind, 0) >= before.get(kind, 0) + more for kind in kinds)
        until(moved, lambda: f"{what}; before {before}, now {self.so_far()}", 40)

    def end(self):
        """Stops the clients in good order and returns the Verdict."""
        for child in self.clients.values():
            child.stop()
        clients = [child.finish() for child in self.clients.values()]
        for script, client in zip(self.clients, clients):
            assert "rows" in client, f"the torture's {script} died"
        return Verdict(clients, self.origin.finish(), self.killed_ports)
