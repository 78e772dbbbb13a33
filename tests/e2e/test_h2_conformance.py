"""The HTTP/2 table, played on Tidegate: over a plain connection as it stands and octet by octet, and over TLS."""

import dataclasses
import re
import threading
from collections import Counter

import pytest

from conformance.steps import Dribble
from conformance_h2 import (answers, compression, control, frames, generic, messages, streams,  # noqa: F401
                            translation)
from conformance_h2.case import ROWS
from conformance_h2.naive import Naive
from conformance_h2.stage import CONFIGURATIONS, configuration, naive_stage, stage_of
from support import report
from support.certificates import make_pair, trusting
from support.daemon import Tidegate
from support.errors import TABLE, expect_line
from support.origin import Origin
from support.wait import until
from support.wire import Ended

FEWEST_ROWS = 300
LONGEST_CUT = 1500
FEWEST_FAILURES_OF_NAIVE = 0.6

# The sections of h2spec 2.6, with the number of its cases in each.
H2SPEC = {
    "generic/1": 1, "generic/2": 5, "generic/3.1": 3, "generic/3.2": 3, "generic/3.3": 5, "generic/3.4": 1,
    "generic/3.5": 1, "generic/3.7": 1, "generic/3.8": 1, "generic/3.9": 2, "generic/3.10": 2, "generic/4": 4,
    "generic/5": 15, "http2/3.5": 2, "http2/4.1": 3, "http2/4.2": 3, "http2/4.3": 3, "http2/5.1": 13, "http2/5.1.1": 2,
    "http2/5.1.2": 1, "http2/5.3.1": 2, "http2/5.4.1": 2, "http2/5.5": 2, "http2/6.1": 3, "http2/6.2": 4, "http2/6.3": 2,
    "http2/6.4": 3, "http2/6.5": 3, "http2/6.5.2": 5, "http2/6.5.3": 2, "http2/6.7": 4, "http2/6.8": 1, "http2/6.9": 3,
    "http2/6.9.1": 3, "http2/6.9.2": 3, "http2/6.10": 6, "http2/7": 2, "http2/8.1": 1, "http2/8.1.2": 1,
    "http2/8.1.2.1": 4, "http2/8.1.2.2": 2, "http2/8.1.2.3": 7, "http2/8.1.2.6": 2, "http2/8.2": 1, "hpack/2.3.3": 2,
    "hpack/4.2": 1, "hpack/5.2": 3, "hpack/6.1": 1, "hpack/6.3": 1}


def in_single_octets(row):
    """`row` with every octet of either side in a segment of its own, but for what would take too long."""
    def cut(steps):
        return [Dribble(one) if isinstance(one, bytes) and len(one) <= LONGEST_CUT else one for one in steps]
    return dataclasses.replace(row, client=cut(row.client), origin=[cut(steps) for steps in row.origin])


class Stages:
    """`stages(name, tls)`: the stage with that configuration, started when it is first asked for."""

    def __init__(self, folder):
        self.pair = make_pair(folder, "a.example")
        self.made = {}

    def __call__(self, name, tls=False):
        if (name, tls) not in self.made:
            origin = Origin()
            tidegate = Tidegate(configuration(name, origin, self.pair if tls else None))
            context = trusting(self.pair, alpn=["h2"]) if tls else None
            self.made[name, tls] = stage_of(tidegate, origin, context)
        return self.made[name, tls]

    def close(self):
        """Ends everything; returns the faults."""
        faults = []
        for stage in self.made.values():
            faults += stage.log.close()
            stage.log.remove()
            stage.origin.close()
        return faults


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    made = Stages(tmp_path_factory.mktemp("certificates"))
    yield made
    faults = made.close()
    assert not faults, "\n".join(faults)


def named(row):
    return f"{row.family}: {row.name}".replace(" ", "-")


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_row(stages, row):
    stages(row.on).play(row)


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("row", [row for row in ROWS if not row.together], ids=named)
def test_row_in_single_octets(stages, row, tls):
    """What is acceptable does not depend on how the octets were cut into segments or records."""
    stages(row.on, tls).play(in_single_octets(row))


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_row_over_tls(stages, row):
    stages(row.on, tls=True).play(row)


def test_the_log_has_one_line_for_each_error_that_the_table_met(stages):
    for stage in stages.made.values():
        def all_there(stage=stage):
            lines = {}
            for line in stage.log.access_lines():
                lines.setdefault(line.get("id"), []).append(line)
            return lines if all(known in lines for _, known, _ in stage.owed) else None
        lines = until(all_there, "a line in the access log for each error")
        for row, known, reason in stage.owed:
            assert len(lines[known]) == 1, f"{row}: {lines[known]}"
            expect_line(lines[known][0], reason, status=TABLE[reason].status)


def test_a_server_without_a_rule_fails_most_of_the_table():
    """What passes here are the rows about what must simply work."""
    lock, waiting, passed, failed = threading.Lock(), list(ROWS), [], []

    def play_some():
        origin = Origin()
        naive = Naive(origin.address, seconds=0.4)
        stage = naive_stage(naive, origin, seconds=0.4)
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
        naive.close()
        origin.close()
    threads = [threading.Thread(target=play_some) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) + len(failed) == len(ROWS)
    share = len(failed) / len(ROWS)
    report.add([f"HTTP/2: a server without a rule fails {len(failed)} of the {len(ROWS)} rows ({share:.0%})"])
    assert share >= FEWEST_FAILURES_OF_NAIVE, [row.name for row in passed]


def test_the_table_is_large_and_each_row_has_its_source():
    names = [(row.family, row.name) for row in ROWS]
    assert len(set(names)) == len(names), sorted({name for name in names if names.count(name) > 1})
    assert len(ROWS) >= FEWEST_ROWS
    for row in ROWS:
        assert re.match(r"RFC \d{4} section \d|CVE-\d{4}-\d{4,5}", row.source), f"{row.name}: {row.source}"
        assert row.on in CONFIGURATIONS and row.name.isprintable(), row.name


def test_each_section_of_h2spec_has_at_least_as_many_rows_as_h2spec_has_cases():
    rows = Counter(row.h2spec for row in ROWS if row.h2spec)
    assert set(rows) == set(H2SPEC), set(rows) ^ set(H2SPEC)
    few = {section: (rows[section], cases) for section, cases in H2SPEC.items() if rows[section] < cases}
    assert not few, f"(rows, cases): {few}"
    report.add([f"HTTP/2: {len(ROWS)} rows, {sum(rows.values())} of them for the {len(H2SPEC)} sections of h2spec"])
