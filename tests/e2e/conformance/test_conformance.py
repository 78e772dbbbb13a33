"""The conformance table, played on Tidegate as it stands and octet by octet; and played on a relay that only copies
octets, to see that it bites."""

import dataclasses
import re
import threading

import pytest

from conformance import answers, bounds, fields, forwarding, framing, interim, retries, targets, tunnels  # noqa: F401
from conformance.case import ROWS
from conformance.relay import Relay
from conformance.stage import CONFIGURATIONS, Stage, configuration, relayed_stage
from conformance.steps import Dribble
from support import report
from support.daemon import Tidegate
from support.errors import TABLE, expect_line
from support.origin import Origin
from support.wait import until
from support.wire import Ended

FEWEST_ROWS = 250
LONGEST_CUT = 2100
FEWEST_FAILURES_OF_RELAY = 0.6


def in_single_octets(row):
    """`row` with every octet of either side in a segment of its own, but for what would take too long."""
    def cut(steps):
        return [Dribble(one) if isinstance(one, bytes) and len(one) <= LONGEST_CUT else one for one in steps]
    return dataclasses.replace(row, client=cut(row.client), origin=[cut(steps) for steps in row.origin])


class Stages:
    """`stages(name)`: the stage with that configuration, started when it is first asked for."""

    def __init__(self):
        self.made = {}

    def __call__(self, name):
        if name not in self.made:
            origin = Origin()
            tidegate = Tidegate(configuration(name, origin))
            self.made[name] = Stage(origin, tidegate.connect, tidegate)
        return self.made[name]

    def close(self):
        """Ends everything; returns the faults."""
        faults = []
        for stage in self.made.values():
            faults += stage.log.close()
            stage.log.remove()
            stage.origin.close()
        return faults


@pytest.fixture(scope="module")
def stages():
    made = Stages()
    yield made
    faults = made.close()
    assert not faults, "\n".join(faults)


def named(row):
    return f"{row.family}: {row.name}".replace(" ", "-")


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_row(stages, row):
    stages(row.on).play(row)


@pytest.mark.parametrize("row", [row for row in ROWS if not row.together], ids=named)
def test_row_in_single_octets(stages, row):
    """What is acceptable does not depend on how the octets were cut into segments (CVE-2019-16785, CVE-2023-30589)."""
    stages(row.on).play(in_single_octets(row))


def test_the_log_has_one_line_for_each_error_that_the_table_met(stages):
    for stage in stages.made.values():
        def all_there(stage=stage):
            lines = {}
            for line in stage.log.access_lines():
                lines.setdefault(line["id"], []).append(line)
            return lines if all(known in lines for _, known, _ in stage.owed) else None
        lines = until(all_there, "a line in the access log for each error")
        for row, known, reason in stage.owed:
            assert len(lines[known]) == 1, f"{row}: {lines[known]}"
            expect_line(lines[known][0], reason, status=TABLE[reason].status)


def test_the_table_is_large_and_each_row_has_its_source():
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names), sorted({name for name in names if names.count(name) > 1})
    assert len(ROWS) >= FEWEST_ROWS
    for row in ROWS:
        assert re.match(r"RFC \d{4} section \d|CVE-\d{4}-\d{4,5}", row.source), f"{row.name}: {row.source}"
        assert row.on in CONFIGURATIONS and row.name.isprintable(), row.name


def test_a_relay_that_copies_octets_fails_most_of_the_table():
    """What passes here are the rows about what a proxy must leave as it is."""
    lock, waiting, passed, failed = threading.Lock(), list(ROWS), [], []

    def play_some():
        origin = Origin()
        relay = Relay(origin.address)
        stage = relayed_stage(relay, origin, seconds=0.3)
        while True:
            with lock:
                if not waiting:
                    break
                row = waiting.pop()
            try:
                stage.play(row)
                passed.append(row)
            except (AssertionError, Ended, OSError):
                failed.append(row)
        relay.close()
        origin.close()
    threads = [threading.Thread(target=play_some) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) + len(failed) == len(ROWS)
    share = len(failed) / len(ROWS)
    report.add([f"conformance: {len(ROWS)} rows; a relay that copies octets fails {len(failed)} ({share:.0%})"])
    assert share >= FEWEST_FAILURES_OF_RELAY, [row.name for row in passed]
