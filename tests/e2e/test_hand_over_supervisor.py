"""The supervisor's part of a hand-over: it connects old and new workers, and tells what they say of it.

The old workers are played (support/fake_worker.py): what is tested here is what they are told and what becomes of what they
say. The new ones are real."""

import contextlib
import json
import os
import signal
import threading
from pathlib import Path

import pytest

from support.daemon import BIN, basic, copied_binaries
from support.wait import until

FAKE_WORKER = (Path(__file__).parent / "support/fake_worker.py").read_text()
NEW = BIN / "tidegate"


class Played:
    """A Tidegate whose first generation is played."""

    def __init__(self, launch, tmp_path, origin, *, workers=1, env=None, **changes):
        binary = copied_binaries(tmp_path / "old", worker=FAKE_WORKER)
        tmp_path.chmod(0o755)
        settings = {"drain": "60s", "drain_tunnels": "60s", "probation": "50ms", **changes.pop("upgrade", {})}
        self.tidegate = launch(basic(origin.address, workers=workers, upgrade=settings, **changes), binary=binary, env=env)

    def heard(self, slot=0, kind=None, generation=1):
        """What the worker was told, in order; of one type, if `kind` says so."""
        lines = (self.tidegate.directory / f"heard.{generation}.{slot}").read_text().split("\n")[:-1]
        return [one for one in map(json.loads, lines) if kind in (None, one["type"])]

    def says(self, *said, slot=0, generation=1):
        with open(self.tidegate.directory / f"say.{generation}.{slot}", "a", encoding="utf-8") as script:
            script.write("".join(json.dumps(one) + "\n" for one in said))

    def upgrade(self, *more, binary=NEW):
        return self.tidegate.ok("upgrade", "--binary", binary, "--force", *more)


@pytest.fixture
def played(launch, tmp_path, origin):
    return lambda **options: Played(launch, tmp_path, origin, **options)


def draining(left=0, **fields):
    return {"type": "draining", "left": left, "tunnels": 0, "oldest_seconds": 1, "cut": 0, **fields}


def moved(idle=0, tunnel=0, upstream=0, *, left=0, declined=None, handing_over=False, **fields):
    return draining(left, handing_over=handing_over, declined=declined or {},
                    moved={"idle": idle, "tunnel": tunnel, "upstream": upstream}, **fields)


EXIT = {"type": "exit"}
DIE = {"type": "die"}


def phases(outcome):
    """(phase, state, text) of what ended, in order."""
    return [(line["phase"], line["state"], line["text"]) for line in outcome.json_lines
            if line["type"] == "progress" and line["state"] != "running"]


def text_of(outcome, phase):
    return [text for name, state, text in phases(outcome) if name == phase and state == "ok"]


def test_an_old_worker_is_connected_with_a_new_one_before_it_drains(played):
    play = played()
    play.says(moved(381, 18, 12, declined={"route": 2, "limits": 1}), EXIT)
    outcome = play.upgrade("--json")
    kinds = [one["type"] for one in play.heard()]
    assert kinds.index("hand_over") < kinds.index("drain")
    [told] = play.heard(kind="hand_over")
    assert told["to"] == "2.0" and told["kinds"] == ["socket", "pipe"]
    names = [name for name, _, _ in phases(outcome)]
    assert names.index("probation") < names.index("hand over") < names.index("drain")
    assert text_of(outcome, "hand over") == [
        "381 idle connections, 18 tunnels moved, 12 upstream connections; 3 declined (route 2, limits 1)"]
    result = outcome.json_lines[-1]
    assert result["handed_over"] == {"idle": 381, "tunnels": 18, "upstream": 12}
    assert result["declined"] == {"route": 2, "limits": 1}
    assert (result["drained"], result["forced"]) == (0, 0), "what has moved is neither"


def test_the_hand_over_is_a_line_of_its_own(played):
    play = played()
    play.says(moved(381, 18), EXIT)
    said = play.upgrade().text
    assert "hand over   381 idle connections, 18 tunnels moved " in said, said


def test_more_old_workers_than_new_ones_share_them(played):
    play = played(workers=3)
    play.tidegate.change(workers=2)
    for slot in range(3):
        play.says(moved(1 + slot), EXIT, slot=slot)
    outcome = play.upgrade("--json")
    assert [play.heard(slot, "hand_over")[0]["to"] for slot in range(3)] == ["2.0", "2.1", "2.0"]
    assert text_of(outcome, "hand over") == ["6 idle connections, 0 tunnels moved"], "all have been waited for"


def test_hand_over_false_lets_everything_drain(played):
    play = played(upgrade={"hand_over": False})
    play.says(draining(), EXIT)
    outcome = play.upgrade("--json")
    assert not play.heard(kind="hand_over")
    assert not text_of(outcome, "hand over") and text_of(outcome, "drain")


def test_the_new_configuration_decides_and_a_reload_is_enough(played):
    play = played(upgrade={"hand_over": False})
    play.tidegate.change(upgrade={"hand_over": True})
    assert "upgrade.hand_over" in play.tidegate.ok("reload").text
    assert play.tidegate.generation == 1, "no upgrade"
    play.tidegate.change(upgrade={"hand_over": False})
    play.says(draining(), EXIT)
    play.upgrade()
    assert not play.heard(kind="hand_over")


def test_a_worker_that_knows_of_no_hand_over_drains_as_before(played):
    play = played()
    play.says(draining(2), draining(0), EXIT)
    outcome = play.upgrade("--json")
    assert play.heard(kind="hand_over"), "it is told, and takes no notice"
    assert not text_of(outcome, "hand over") and text_of(outcome, "drain")
    result = outcome.json_lines[-1]
    assert result["handed_over"] == {"idle": 0, "tunnels": 0, "upstream": 0} and result["declined"] == {}


def test_a_hand_over_that_takes_long_is_told_so_far(played):
    play = played()
    play.says(moved(7, left=3, handing_over=True))
    play.upgrade("--detach")
    until(lambda: "hand over: 7 idle connections, 0 tunnels moved" in play.tidegate.stderr, "the phase to end", 10)
    assert "drain:" not in play.tidegate.stderr, "the drain goes on"
    play.says(moved(9, 1), EXIT)
    play.tidegate.wait_generations(1)


def test_status_says_what_a_draining_worker_has_moved(played):
    play = played(workers=2)
    play.says(moved(363, 18, 5, left=13, tunnels=2, declined={"route": 2, "limits": 1, "nonsense": 4}))
    play.says(moved(1), EXIT, slot=1)
    play.upgrade("--detach")

    def told():
        status = play.tidegate.status()
        old = next((one for one in status["generations"] if one["number"] == 1), {})
        return old if len(old.get("workers", [])) == 1 and "draining" in old["workers"][0] else None
    old = until(told, "one worker to be left, with its report")
    [worker] = old["workers"]
    assert worker["draining"] == {"left": 13, "tunnels": 2, "oldest_seconds": 1,
                                  "moved": {"idle": 363, "tunnels": 18, "upstream": 5},
                                  "declined": {"route": 2, "limits": 1}}
    assert old["draining"]["moved"]["idle"] == 364, "also of the worker that is gone"
    text = play.tidegate.cli("status").out
    assert "13 left, 2 tunnels, oldest 1.00s; 381 moved, 3 declined (route 2, limits 1)" in text, text
    play.says(EXIT)
    play.tidegate.wait_generations(1)


def test_who_replaces_a_dead_heir_is_connected_with_its_old_workers(played):
    play = played(workers=2)
    for slot in range(2):
        play.says(moved(left=1), slot=slot)
    play.upgrade("--detach")
    until(lambda: play.heard(1, "drain"), "the drain")
    os.kill(play.tidegate.workers(2)[1], signal.SIGKILL)
    until(lambda: len(play.heard(1, "hand_over")) == 2, "the second channel")
    assert [one["to"] for one in play.heard(1, "hand_over")] == ["2.1", "2.1"]
    assert len(play.heard(0, "hand_over")) == 1, "its heir lives"
    for slot in range(2):
        play.says(EXIT, slot=slot)
    play.tidegate.wait_generations(1)


def test_without_hand_over_nobody_is_connected_later(played):
    play = played(upgrade={"hand_over": False})
    play.says(draining(1))
    play.upgrade("--detach")
    until(lambda: play.heard(0, "drain"), "the drain")
    [worker] = play.tidegate.workers(2)
    os.kill(worker, signal.SIGKILL)
    until(lambda: [pid for pid in play.tidegate.workers(2) if pid != worker], "the worker to be replaced")
    until(lambda: play.tidegate.status()["generations"][-1]["workers"][0]["state"] == "serving", "it to serve")
    assert not play.heard(0, "hand_over")
    play.says(EXIT)
    play.tidegate.wait_generations(1)


def test_the_next_upgrade_gives_a_draining_worker_another_heir_and_forgets_nothing(played):
    """The supervisor is another image then."""
    play = played()
    play.says(moved(5, 1, left=2, declined={"limits": 1}))
    play.upgrade("--detach")
    until(lambda: play.heard(0, "drain"), "the drain")
    until(lambda: "moved" in play.tidegate.status()["generations"][0].get("draining", {}), "the report")
    play.upgrade()
    # It is told before the answer, and reads when it comes to it.
    until(lambda: len(play.heard(0, "hand_over")) == 2, "the second channel")
    assert [one["to"] for one in play.heard(0, "hand_over")] == ["2.0", "3.0"]
    assert play.tidegate.status()["generations"][0]["draining"]["moved"] == {"idle": 5, "tunnels": 1, "upstream": 0}
    os.kill(play.tidegate.workers(3)[0], signal.SIGKILL)
    until(lambda: len(play.heard(0, "hand_over")) == 3, "the channel to who replaces it")
    assert play.heard(0, "hand_over")[-1]["to"] == "3.0"
    play.says(EXIT)
    play.tidegate.wait_generations(1)


def test_an_answer_that_another_image_gives_has_the_right_sums(played):
    play = played(workers=2)
    play.says(moved(5, left=2), slot=0)
    play.says(moved(3, 1), EXIT, slot=1)
    outcomes = []
    first = threading.Thread(target=lambda: outcomes.append(play.upgrade("--json")))
    first.start()
    until(lambda: "hand over: 8 idle connections, 1 tunnel moved" in play.tidegate.stderr, "the first hand-over")
    play.upgrade()
    play.says(moved(6, 1), EXIT, slot=0)
    first.join()
    result = outcomes[0].json_lines[-1]
    assert result["generation"] == 2 and result["handed_over"] == {"idle": 9, "tunnels": 2, "upstream": 0}
    assert (result["drained"], result["forced"]) == (0, 0)


def test_a_worker_that_dies_has_lost_only_what_it_had_left(played):
    play = played()
    play.says(moved(5, 1, left=3), DIE)
    result = play.upgrade("--json").json_lines[-1]
    assert result["forced"] == 3 and result["handed_over"] == {"idle": 5, "tunnels": 1, "upstream": 0}


def test_nonsense_of_a_worker_is_not_believed(played):
    play = played()
    play.says({"type": "draining", "left": -1, "handing_over": False, "moved": ["x"], "declined": {"limits": "many"}},
              moved(1 << 70, left="?", declined={"x" * 100: 1}), EXIT)
    result = play.upgrade("--json").json_lines[-1]
    assert result["declined"] == {} and result["handed_over"]["tunnels"] == 0


def test_a_pair_that_cannot_be_made_is_logged_and_drains(played):
    play = played(env={"TIDEGATE_TEST_FAULTS": "1"})
    binary = copied_binaries(play.tidegate.directory / "next")
    (binary.parent / "tidegate.fault").write_text("pair:fail")
    play.says(draining(), EXIT)
    assert text_of(play.upgrade("--json", binary=binary), "drain")
    assert not play.heard(kind="hand_over")
    assert "worker 0 of generation 1" in play.tidegate.stderr and "they drain" in play.tidegate.stderr


def test_a_roll_back_hands_nothing_over(played):
    play = played(env={"TIDEGATE_TEST_FAULTS": "1"})
    binary = copied_binaries(play.tidegate.directory / "next")
    (binary.parent / "tidegate.fault").write_text("probation:fail")
    assert play.tidegate.cli("upgrade", "--binary", binary).code == 8
    until(lambda: play.heard(kind="accept") and play.heard(kind="accept")[-1]["slots"] == [0], "it to accept again")
    assert not play.heard(kind="hand_over") and not play.heard(kind="drain")
    play.says(EXIT)


def test_a_stop_hands_nothing_over(played):
    play = played()
    play.says(draining(), EXIT)
    assert play.tidegate.stop() == 0
    assert play.heard(kind="drain")[0]["close_idle"] and not play.heard(kind="hand_over")


def test_the_supervisor_keeps_no_end_of_a_channel(played):
    """It would hide the death of a worker from the other one."""
    play = played(workers=3)
    before = open_of(play.tidegate.pid)
    for slot in range(3):
        play.says(moved(1, left=1), slot=slot)
    play.upgrade("--detach")
    until(lambda: "hand over: 3 idle connections" in play.tidegate.stderr, "the hand-over")
    # A channel and the output of each new worker.
    until(lambda: open_of(play.tidegate.pid) == {kind: count + 3 for kind, count in before.items()},
          lambda: f"three more of each than {before}; there are {open_of(play.tidegate.pid)}")
    for slot in range(3):
        play.says(EXIT, slot=slot)
    play.tidegate.wait_generations(1)


def open_of(pid):
    """How many sockets and pipes a process has open."""
    links = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # Closed meanwhile.
            links.append(os.readlink(f"/proc/{pid}/fd/{number}"))
    return {kind: sum(link.startswith(kind) for link in links) for kind in ("socket:", "pipe:")}


def test_a_worker_that_has_ended_gives_no_commands(played):
    """As the daemon's own user it could have it execute any program: it asks often and is gone before it is looked at."""
    one = played(user="root") if os.geteuid() == 0 else played()
    one.upgrade("--detach")
    tidegate = one.tidegate
    until(lambda: one.heard(kind="drain"), "the drain")
    one.says({"type": "usurp", "socket": str(tidegate.socket_path), "binary": str(NEW)})
    assert tidegate.wait_generations(1)["generation"] == 2
    tidegate.ok("upgrade", "--force")
    assert tidegate.wait_generations(1)["generation"] == 3, "nobody else has upgraded"
    assert tidegate.stderr.count("the control socket refused") == 1
