"""The load beside what is done to a machine, and what of it was lost: per kind, for Tidegate and for its peers."""

import dataclasses
import json
import time
from pathlib import Path

from support.wait import until
from torture.exchange import IDLE_RACE, LOST, OK
from torture.run import Child, Verdict

LOAD = Path(__file__).resolve().parent / "load.py"
QUICK = ("fresh", "busy", "idle", "messages")
SLOW = ("download", "upload", "websocket")
# What a peer's row counts, in the order of the table.
LOSSES = ("new connections refused or reset", "requests lost on kept connections", "kept connections closed", "downloads cut",
          "uploads broken", "WebSockets broken")


@dataclasses.dataclass
class Result:
    """Of one load."""
    verdict: Verdict
    spans: list  # [kind, began, ended]
    lost: dict  # {one of LOSSES: number}
    served: dict  # {kind: exchanges that went well}

    def of(self, *kinds):
        return sum(self.served.get(kind, 0) for kind in kinds)

    def expect_nothing_lost(self):
        lost = {what: count for what, count in self.lost.items() if count}
        assert not lost, f"lost: {lost}; {json.dumps(self.verdict.failures[:4])}"
        assert not self.verdict.twice, f"the origin saw twice: {self.verdict.twice[:5]}"

    def over(self, first, last):
        """How many downloads and uploads began before `first` and ended after `last`."""
        return {kind: sum(began < first and last < ended for one, began, ended in self.spans if one == kind) for kind in SLOW[:2]}

    def figures(self):
        return (f"{self.of('fresh'):,} new connections, {self.of('busy', 'idle'):,} requests on {24} kept ones, "
                f"{self.of('download')} downloads, {self.of('upload')} uploads, {self.of('messages'):,} echoes of 8 WebSockets: "
                + (", ".join(f"{count} {what}" for what, count in self.lost.items() if count) or "0 errors"))


class Traffic:
    """`with Traffic(machine, configure) as traffic:` when every kind has had its first answer and what is slow is under way.

    `configure(port)` puts the proxy in front of an origin on that port and returns when it serves."""

    def __init__(self, machine, configure, port=80):
        self.machine = machine
        self.configure = configure
        self.port = port
        self.children = []

    def __enter__(self):
        try:
            self.origin = self.child("origin.py")
            self.configure(self.origin.first()["port"])
            self.load = self.child(LOAD, self.port)
            until(lambda: all(self.load.latest.get("under way", {}).get(kind, 0) >= 3 for kind in SLOW),
                  lambda: f"downloads, uploads and WebSockets to be under way: {self.load.latest}", 20)
            self.progress("the first answers")
        except BaseException:
            self.__exit__()
            raise
        return self

    def child(self, script, *arguments):
        # The host's program, in the network of the machine.
        one = Child(script, *arguments, before=self.machine.network())
        self.children.append(one)
        return one

    def __exit__(self, *_):
        for one in self.children:
            if one.process.poll() is None:
                one.process.kill()
            one.process.wait()

    def progress(self, what="answers of every kind", more=3):
        """Until every quick kind got further answers."""
        def now():
            assert self.load.process.poll() is None, "the load ended by itself"
            return {kind: self.load.latest.get("progress", {}).get(kind, 0) for kind in QUICK}
        before = now()
        until(lambda: all(count >= before[kind] + more for kind, count in now().items()),
              lambda: f"{what}; before {before}, now {now()}", 30)

    def during(self, what, *arguments):
        """(what it returned, when it began, when it ended): something that is done in the middle of the load."""
        began = time.time()
        result = what(*arguments)
        ended = time.time()
        self.progress("answers of every kind afterwards")
        return result, began, ended

    def end(self):
        """Stops in good order: what is under way comes to its end."""
        self.load.stop()
        load = self.load.finish(90)
        assert "rows" in load, "the load died"
        verdict = Verdict([load], self.origin.finish(), set())
        bad = {kind: sum(row[outcome] for outcome in (*LOST, IDLE_RACE)) for kind, row in verdict.rows.items()}
        on_kept = bad.get("busy", 0) + bad.get("idle", 0)
        closed = on_kept + verdict.counts["idle_closed"] + verdict.counts["kept_told_to_close"]
        lost = dict(zip(LOSSES, (bad.get("fresh", 0), on_kept, closed,
                                 bad.get("download", 0), bad.get("upload", 0), bad.get("websocket", 0))))
        return Result(verdict, load["spans"], lost, {kind: row[OK] for kind, row in verdict.rows.items()})
