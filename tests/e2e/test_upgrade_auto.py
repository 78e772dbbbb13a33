"""`tidegate upgrade --auto`: what a package and `systemctl reload` ask for, and what `status` tells of the last operation."""

import os
import threading

import pytest

from support.client import request
from support.daemon import basic, copied_binaries
from support.steady import Steady
from support.wait import PATIENCE, duration, until

FAULTS = {"TIDEGATE_TEST_FAULTS": "1"}


def executable(pid):
    return os.readlink(f"/proc/{pid}/exe")


class Installed:
    """A Tidegate that runs from where a package would put it."""

    def __init__(self, launch, origin):
        self.tidegate = launch(basic(origin.address, workers=2), before=self.place, env=FAULTS)
        self.workers = self.tidegate.workers()

    def place(self, tidegate):
        # Where a worker that runs as nobody can read a fault.
        self.package = tidegate.directory / "package"
        self.binary = copied_binaries(tidegate.directory / "installed")
        tidegate.bin_dir, tidegate.binary = self.binary.parent, self.binary

    def install(self, *names):
        """As dpkg does it: new files, renamed over the old ones."""
        copied_binaries(self.package)
        for name in names:
            (self.package / name).replace(self.binary.parent / name)

    def fault(self, fault):
        (self.binary.parent / "tidegate.fault").write_text(fault)

    def auto(self, *more):
        outcome = self.tidegate.cli("upgrade", "--auto", *more, "--json", seconds=60)
        return outcome.code, outcome.json_lines[-1]

    def last(self):
        return self.tidegate.status()["last_operation"]


@pytest.fixture
def installed(launch, origin):
    return Installed(launch, origin)


def test_a_changed_configuration_is_reloaded_in_place(installed):
    tidegate = installed.tidegate
    tidegate.change(routes=[{"name": "new", "respond": {"status": 200, "body": "new\n"}}])
    said = tidegate.ok("upgrade", "--auto").out
    assert "have not changed: the configuration was reloaded" in said and "routes" in said, said
    with tidegate.connect() as client:
        assert client.get("/").text == "new\n"
    assert tidegate.workers() == installed.workers and tidegate.generation == 1
    assert tidegate.counters()["reloads_ok"] == 1 and tidegate.counters()["upgrades_ok"] == 0
    last = installed.last()
    assert (last["operation"], last["result"], last["exit_code"]) == ("reload", "done", 0)


@pytest.mark.parametrize("names", [["tidegate"], ["tidegate-worker"], ["tidegate", "tidegate-worker"]], ids=" ".join)
def test_a_changed_binary_is_an_upgrade(installed, names):
    installed.install(*names)
    with Steady(installed.tidegate, strict=False) as steady:
        code, answer = installed.auto()
        installed.tidegate.wait_generations(1)
        steady.more()
    assert (code, answer["became"], answer["generation"], answer["changed"]) == (0, "upgrade", 2, True)
    assert not steady.failures
    assert executable(installed.tidegate.pid) == str(installed.binary)
    assert [executable(pid) for pid in installed.tidegate.workers()] == [f"{installed.binary}-worker"] * 2
    last = installed.last()
    assert (last["operation"], last["result"]) == ("upgrade", "done")
    code, answer = installed.auto()
    assert (code, answer["became"]) == (0, "nothing"), "it has changed no more"


def test_nothing_changed_is_nothing_to_do(installed):
    code, answer = installed.auto()
    assert (code, answer["became"], answer["changed"], answer["message"]) == (0, "nothing", False, "nothing to do")
    assert installed.tidegate.workers() == installed.workers
    assert "nothing to do" in installed.tidegate.ok("upgrade", "--auto").out
    assert installed.last()["result"] == "nothing_to_do"


def test_with_force_it_is_an_upgrade_in_any_case(installed):
    """A library has changed, say."""
    code, answer = installed.auto("--force")
    assert (code, answer["generation"], answer["changed"]) == (0, 2, True), answer
    assert not set(installed.tidegate.workers()) & set(installed.workers)
    assert installed.last()["operation"] == "upgrade"


@pytest.mark.parametrize("names", [[], ["tidegate"]], ids=["reload", "upgrade"])
def test_an_invalid_configuration_changes_nothing(installed, names):
    tidegate = installed.tidegate
    installed.install(*names)
    tidegate.write('{ "upsteam": 1 }')
    outcome = tidegate.cli("upgrade", "--auto")
    assert outcome.code == 78 and "upsteam" in outcome.text, outcome.text
    assert tidegate.workers() == installed.workers
    said = tidegate.cli("status").out
    kind = "upgrade" if names else "reload"
    assert f"last {kind}" in said and "tidegate.json:1:1: error: no listener; " in said and "serves on" in said, said
    assert (installed.last()["exit_code"], installed.last()["result"]) == (78, "failed")


def test_a_new_binary_that_refuses_leaves_the_old_one_and_status_says_why(installed):
    installed.install("tidegate", "tidegate-worker")
    installed.fault("worker.prepare:fail")
    code, answer = installed.auto()
    assert (code, answer["became"], answer["phase"]) == (1, "upgrade", "prepare")
    assert installed.tidegate.workers() == installed.workers
    last = installed.last()
    assert (last["operation"], last["result"], last["exit_code"], last["phase"]) == ("upgrade", "failed", 1, "prepare")
    assert last["reason"].startswith(answer["reason"]) and "a test asked for this fault" in last["reason"]


def test_a_crash_in_probation_is_rolled_back_and_the_record_survives_the_ways_there_and_back(installed):
    tidegate = installed.tidegate
    installed.install("tidegate", "tidegate-worker")
    installed.fault("worker.commit:die")
    code, answer = installed.auto()
    assert (code, answer["became"]) == (8, "upgrade"), answer
    assert tidegate.workers() == installed.workers
    version = tidegate.status()["version"]
    lines = [line for line in tidegate.cli("status").out.splitlines() if line.startswith("  last upgrade")]
    assert len(lines) == 1 and "rolled back" in lines[0] and f"{version} serves on" in lines[0], lines
    first = installed.last()
    assert first["result"] == "rolled_back"
    # Another image shows it, while it has nothing newer to tell.
    (installed.binary.parent / "tidegate.fault").unlink()
    tidegate.change(upgrade={"probation": "1h"})
    tidegate.ok("upgrade", "--auto", "--detach")
    assert installed.last() == first
    tidegate.stop()


@pytest.mark.parametrize("more, generation", [([], 2), ([["upgrade", "--force"]], 3)], ids=["reload", "upgrade"])
def test_who_joins_a_waiting_operation_gets_at_least_what_it_wanted(installed, more, generation):
    """One runs, the others wait as one: only who wants an upgrade in any case makes it one."""
    tidegate = installed.tidegate
    tidegate.change(upgrade={"probation": duration(2)})
    outcomes = []

    def ask(*words):
        outcomes.append(tidegate.cli(*words, "--json"))
    threads = [threading.Thread(target=ask, args=words) for words in (["upgrade", "--force"], ["reload"], ["upgrade", "--auto"],
                                                                      *more)]
    threads[0].start()
    until(lambda: tidegate.generation == 2, "generation 2")
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.code for one in outcomes] == [0] * len(threads), [one.text for one in outcomes]
    assert tidegate.wait_generations(1)["generation"] == generation


def test_it_answers_when_the_new_generation_is_stable_and_does_not_wait_for_the_drain(installed, origin):
    answered = threading.Event()

    def answer_later(peer, _):
        answered.wait(30 * PATIENCE)
        peer.answer()
    origin.handler = answer_later
    tidegate = installed.tidegate
    tidegate.change(upgrade={"drain": "1h"})
    with tidegate.connect() as stuck:
        stuck.send(request("GET", "/stuck"))
        origin.wait_requests(1)
        installed.install("tidegate", "tidegate-worker")
        code, answer = installed.auto()
        assert (code, answer["became"]) == (0, "upgrade"), answer
        states = {entry["number"]: entry["state"] for entry in tidegate.status()["generations"]}
        assert states == {1: "draining", 2: "serving"}
        answered.set()
        assert stuck.response().status == 200
    tidegate.wait_generations(1)


def test_what_contradicts_itself_is_a_usage_error(installed):
    outcome = installed.tidegate.cli("upgrade", "--auto", "--binary", installed.binary)
    assert outcome.code == 2 and "contradict" in outcome.text, outcome.text
