"""What the benchmark concludes from its rounds."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import load  # noqa: E402
import table  # noqa: E402
from cases import CASES, Case, Target  # noqa: E402
from processes import Usage  # noqa: E402


def one_round(cpu_us, failed=0, **more):
    return {"cpu_us": cpu_us, "failed": failed} | more


def row(label, kind, *rounds, note=None, **counts):
    return SimpleNamespace(label=label, kind=kind, rounds=list(rounds), counts=counts, calls=None, note=note)


def summarize(*rows, targets=(Target("cpu_us", 0.8),)):
    return table.summarize(Case("one", "a case", None, targets=targets), rows)


def test_medians_and_spread_are_of_all_rounds():
    entry = summarize(row("tidegate", "tidegate", one_round(9), one_round(7), one_round(30)))["rows"]["tidegate"]
    assert (entry["median"], entry["min"], entry["max"]) == (9, 7, 30)


def test_the_best_peer_is_no_floor_and_no_tidegate():
    summary = summarize(row("tidegate", "tidegate", one_round(8)), row("nginx", "peer", one_round(20)),
                        row("haproxy", "peer", one_round(10)), row("haproxy/splice", "beside", one_round(5)),
                        row("relay", "floor", one_round(4)))
    assert summary["best_peer"] == "haproxy"
    assert summary["rows"]["tidegate"]["to_best_peer"] == pytest.approx(0.8)


@pytest.mark.parametrize("cpu_us,met", [(8, True), (8.04, True), (8.1, False)])
def test_a_target_is_met_at_its_limit(cpu_us, met):
    summary = summarize(row("tidegate", "tidegate", one_round(cpu_us)), row("nginx", "peer", one_round(10)))
    assert [verdict["met"] for verdict in summary["targets"]] == [met]


def test_a_target_of_one_peer_does_not_look_at_the_best():
    summary = summarize(row("tidegate", "tidegate", one_round(8)), row("nginx", "peer", one_round(10)),
                        row("haproxy", "peer", one_round(5)), targets=(Target("cpu_us", 0.8, "nginx"),))
    assert [(verdict["to"], verdict["met"]) for verdict in summary["targets"]] == [("nginx", True)]


def test_what_grows_is_held_against_the_small_row_above_it():
    summary = summarize(row("small", "base", one_round(10)), row("1,000 routes", "tidegate", one_round(10.5)),
                        row("1,000 endpoints", "tidegate", one_round(12)), targets=(Target("cpu_us", 1.1, "first"),))
    assert [verdict["met"] for verdict in summary["targets"]] == [True, False]


def test_a_count_is_held_against_its_own_limit():
    summary = summarize(row("tidegate", "tidegate", one_round(1), system_calls=4.1),
                        targets=(Target("system_calls", 4.1, None),))
    assert [verdict["met"] for verdict in summary["targets"]] == [True]


def test_what_is_not_there_yet_is_neither_met_nor_missed():
    summary = summarize(row("tidegate", "tidegate", note="TLS: not there yet"), row("nginx", "peer", one_round(10)))
    assert [verdict["met"] for verdict in summary["targets"]] == [None]
    assert "not measured" in table.verdict_line(summary["targets"][0])


def test_failures_of_all_rounds_are_added():
    entry = summarize(row("tidegate", "tidegate", one_round(1, 2), one_round(1, 3), one_round(1, 0)))["rows"]["tidegate"]
    assert entry["medians"]["failed"] == 5


@pytest.mark.parametrize("now,word", [(11, "tie"), (12, "MORE"), (8, "less")])
def test_small_differences_to_an_earlier_run_are_ties(now, word):
    before = {"cases": {"one": summarize(row("tidegate", "tidegate", one_round(10)))}}
    after = {"one": summarize(row("tidegate", "tidegate", one_round(now)))}
    assert [f", {word})" in line for line in table.compare(after, before)] == [True]


def test_the_output_of_strace_is_read_with_and_without_errors():
    text = ("strace: Process 7 attached\n% time     seconds  usecs/call     calls    errors syscall\n"
            "------ ----------- ----------- --------- --------- ----------------\n"
            " 60.00    0.020000          10      2000           read\n"
            " 40.00    0.010000          10      1000        30 writev\n"
            "------ ----------- ----------- --------- --------- ----------------\n"
            "100.00    0.030000          10      3000        30 total\n")
    assert load.read_strace(text) == {"read": 2000, "writev": 1000}


def test_perf_that_cannot_count_gives_nothing():
    assert load.read_perf("<not supported>,,instructions:u,0,100.00,,\n") == {}
    assert load.read_perf("1234567,,instructions:u,1000,100.00,,\n") == {"instructions": 1234567}


def test_time_is_split_by_ticks_and_summed_by_nanoseconds():
    before, after = Usage.__new__(Usage), Usage.__new__(Usage)
    before.seconds, before.user_ticks, before.system_ticks = 1.0, 10, 10
    after.seconds, after.user_ticks, after.system_ticks = 3.0, 15, 25
    assert after.since(before) == (2.0, 0.5)


def test_the_names_of_cases_are_distinct():
    assert len({case.name for case in CASES}) == len(CASES)
