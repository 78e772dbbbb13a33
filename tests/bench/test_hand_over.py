"""What tests/bench/hand_over concludes, and how it follows an upgrade."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import hand_over_table  # noqa: E402
import torture  # noqa: E402
from processes import Fault  # noqa: E402


def latency(p999_us, count=100000):
    return {"count": count, "p50_us": 100, "p99_us": 1000, "p999_us": p999_us, "most_us": p999_us}


def counted(quiet=10000, upgrade=10000, calm_quiet=1000, calm_upgrade=1000, **more):
    counts = {key: 0 for key, _ in hand_over_table.ZEROES}
    return counts | {
        "requests": 5000, "messages": 700, "upgrades": 20, "to_commit_seconds": [0.03] * 20,
        "busy_percent": 50.0, "foreign_percent": 0.0, "stolen_percent": 0.0,
        "quiet_all": latency(quiet), "quiet_calm": latency(calm_quiet), "upgrade_all": latency(upgrade),
        "upgrade_calm": latency(calm_upgrade), "between_all": latency(1), "between_calm": latency(1)} | more


def bulk(**more):
    return {"survived": True, "fault": "", "upgrades": 50, "mib_in": 200.0, "mib_out": 200.0} | more


def faults(counts=None, bulk_counts=None, must_hold=True, note=None, upgrades=20, bulk_upgrades=50):
    return hand_over_table.judge([("Tidegate", must_hold, note, counts, bulk_counts)], upgrades, bulk_upgrades, 100)


def test_a_run_without_a_fault_is_met():
    assert faults(counted(), bulk()) == []


@pytest.mark.parametrize("key", [key for key, _ in hand_over_table.ZEROES])
def test_one_of_anything_is_too_many(key):
    assert len(faults(counted(**{key: 1}))) == 1


def test_what_peers_lose_is_a_finding_and_no_fault():
    assert faults(counted(lost=100, upgrade=900000), bulk(survived=False, fault="closed", upgrades=3), must_hold=False) == []


def test_without_upgrades_nobody_may_lose_anything():
    assert len(faults(counted(lost=1), must_hold=False, upgrades=0)) == 1
    assert len(faults(None, bulk(survived=False), must_hold=False, upgrades=0, bulk_upgrades=0)) == 1


@pytest.mark.parametrize("upgrade,met", [(20000, True), (20100, False)])
def test_the_latency_may_double(upgrade, met):
    assert (faults(counted(upgrade=upgrade)) == []) is met


def test_what_is_away_from_wake_ups_is_shown_and_not_judged():
    assert not faults(counted(calm_upgrade=2100))


def test_a_run_without_upgrades_has_no_ratio():
    assert hand_over_table.ratio(counted() | {"upgrade_all": latency(0, count=0)}, "all") is None


def test_a_row_that_was_not_measured_is_not_met():
    assert faults(note="upgrade.hand_over: this build does not know it")
    assert faults(note="FAILED: it does not listen", must_hold=False)
    assert faults(note="not installed", must_hold=False) == []


def test_fewer_upgrades_than_asked_for_are_a_fault():
    assert faults(counted(upgrades=19)) == ["Tidegate: 19 of 20 upgrades"]


@pytest.mark.parametrize("what", [{"upgrades": 49}, {"mib_in": 99.0}, {"mib_out": 99.0}, {"survived": False, "fault": "closed"}])
def test_the_bulk_tunnel_must_live_to_the_end(what):
    assert len(faults(counted(), bulk(**what))) == 1


def test_the_table_has_a_column_a_proxy_and_says_what_is_missing():
    lines = list(hand_over_table.table([("Tidegate", True, "not there", None, None), ("nginx", False, None, counted(lost=7), bulk())]))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["", "Tidegate", "nginx"]
    assert ["requests lost: no answer behind a written request", "-", "7"] in cells
    assert len({len(line) for line in lines}) == 1


# --- following an upgrade

def phase(name, state, text=""):
    return '{"type": "progress", "phase": "%s", "state": "%s", "text": "%s"}' % (name, state, text)


def upgrade_that_says(*lines, code=0):
    script = "import sys; print(sys.argv[1]); sys.exit(int(sys.argv[2]))"
    return torture.WatchedUpgrade(SimpleNamespace(replace=lambda _how: subprocess.Popen(
        [sys.executable, "-c", script, "\n".join(lines), str(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)))


def test_an_upgrade_is_followed_to_its_hand_over():
    upgrade = upgrade_that_says(phase("commit", "running"), phase("commit", "ok"), phase("probation", "ok"),
                                phase("hand over", "ok", "3 idle connections moved"), phase("drain", "running"))
    assert upgrade.begun < upgrade.wait_for_commit() <= upgrade.wait_for_hand_over()
    assert upgrade.end() is None
    assert upgrade.moved == "3 idle connections moved"


def test_an_upgrade_that_is_refused_is_a_fault():
    with pytest.raises(Fault, match="ended with 1"):
        upgrade_that_says(phase("preflight", "failed"), code=1).wait_for_commit()


def test_an_upgrade_that_is_rolled_back_is_a_fault():
    upgrade = upgrade_that_says(phase("commit", "ok"), phase("probation", "failed"), code=8)
    with pytest.raises(Fault, match="ended with 8"):
        upgrade.wait_for_hand_over()
    assert "ended with 8" in upgrade.end()
