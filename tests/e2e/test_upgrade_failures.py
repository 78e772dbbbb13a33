"""Failures at every step of an upgrade, injected: each ends as DESIGN section 4 says, and no steady client notices.

A file `tidegate.fault` beside the new binary says where and how it fails: point:action (common/test_fault.h)."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

from support import processes
from support.client import request
from support.daemon import basic, copied_binaries
from support.processes import executable
from support.steady import Steady
from support.upgrades import Upgrade
from support.wait import PATIENCE, until


@pytest.fixture
def upgrade(launch, origin):
    return lambda **changes: Upgrade(launch, origin, **changes)


# Steps 1 to 6: before the commit nothing visible has changed; the command ends with 1 and says what is still serving.

BEFORE_COMMIT = [
    "preflight:die", "preflight:hang", "preflight:garbage", "preflight:fail",
    "exec:fail",
    "adopt:fail", "adopt:garbage",
    "bind:fail",
    "spawn:fail",
    "supervisor.prepare:fail",
    "worker.check:die", "worker.check:hang", "worker.check:garbage", "worker.check:fail",
    "start:die", "start:hang", "start:garbage", "start:fail",
    "worker.prepare:die", "worker.prepare:hang", "worker.prepare:garbage", "worker.prepare:fail",
]


@pytest.mark.parametrize("fault", BEFORE_COMMIT)
def test_a_fault_before_the_commit_changes_nothing(upgrade, fault):
    case = upgrade()
    case.fault(fault)
    with Steady(case.tidegate) as steady:
        outcome = case.run()
        assert outcome.code == 1, f"{fault}: {outcome.code}\n{outcome.text}"
        assert "Still serving" in outcome.text and "generation 1" in outcome.text, outcome.text
        steady.more()
        case.unchanged()
    assert steady.reconnects == 0, "no connection was touched"
    case.works_afterwards()


@pytest.mark.parametrize("point", ["exec", "adopt", "bind", "spawn", "supervisor.prepare", "supervisor.commit"])
def test_a_new_supervisor_that_crashes_before_the_commit_gives_way_to_the_old_one(upgrade, point):
    case = upgrade()
    case.fault(f"{point}:abort")
    with Steady(case.tidegate) as steady:
        outcome = case.run()
        assert outcome.code == 1, f"{point}: {outcome.code}\n{outcome.text}"
        assert "the new supervisor crashed by signal 6 (Aborted)" in outcome.text, outcome.text
        assert "Still serving" in outcome.text and "generation 1" in outcome.text, outcome.text
        steady.more()
        case.unchanged()
    assert steady.reconnects == 0, "no connection was touched"
    case.works_afterwards()


def test_a_stop_counts_though_the_new_supervisor_crashes_then(upgrade, origin):
    """The old image would know nothing of it, and serve on until somebody kills it."""
    release = threading.Event()
    origin.handler = lambda peer, _: (release.wait(20), peer.answer())
    case = upgrade(upgrade={"ready_timeout": "10m"}, shutdown={"timeout": "1h"})
    tidegate = case.tidegate
    case.fault("worker.prepare:hang")
    with tidegate.connect() as client:
        client.send(request())
        origin.wait_requests(1)
        asking = threading.Thread(target=case.run)
        asking.start()
        until(lambda: executable(tidegate.pid) == str(case.binary), "the new image")
        tidegate.signal(signal.SIGTERM)
        until(lambda: "STOPPING=1" in tidegate.notify.lines(), "STOPPING=1")
        os.kill(tidegate.pid, signal.SIGABRT)
        assert tidegate.process.wait(10 * PATIENCE) == -signal.SIGABRT
        release.set()
        asking.join()
    # Orphans, if the word of the stop had not come to them yet.
    for pid in tidegate.worker_processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# A supervisor that dies in the middle: the workers serve on, and a new supervisor takes over.

@pytest.mark.parametrize("point", ["adopt", "bind", "spawn", "supervisor.prepare", "supervisor.commit", "probation",
                                   "supervisor.drain", "retire"])
def test_a_supervisor_that_dies_in_an_upgrade_leaves_serving_workers(upgrade, point):
    case = upgrade()
    tidegate = case.tidegate
    case.fault(f"{point}:die")
    with Steady(tidegate, strict=False) as steady:
        outcome = case.run()
        try:
            tidegate.process.wait(2 * PATIENCE)
            died = True
        except subprocess.TimeoutExpired:
            died = False
        if not died:
            # It had a way back to the old image; better still.
            assert outcome.code in (1, 8), outcome.text
            case.unchanged()
        else:
            assert outcome.code != 0 or point in ("supervisor.drain", "retire"), outcome.text
            steady.more("answers without a supervisor")
            tidegate.start().wait_ready()
            until(lambda: len(tidegate.workers()) == 2, "two workers")
            case.only_current_processes()
        steady.more()
    assert not steady.failures


@pytest.mark.parametrize("fault", ["adopt:hang", "bind:hang", "spawn:hang", "supervisor.prepare:hang", "supervisor.commit:hang"])
def test_a_supervisor_that_hangs_in_an_upgrade_does_not_disturb_traffic(upgrade, fault):
    case = upgrade()
    tidegate = case.tidegate
    case.fault(fault)
    with Steady(tidegate, strict=False) as steady:
        outcome = case.run("--timeout", "6s")
        assert outcome.code in (1, 7, 8), outcome.text
        steady.more()
        if tidegate.cli("status", "--timeout", "2s").code == 0:
            case.unchanged()
        else:
            tidegate.process.kill()
            tidegate.process.wait()
            steady.more("answers without a supervisor")
            tidegate.start().wait_ready()
            case.only_current_processes()
        steady.more()
    assert not steady.failures


# Step 7 and 8: at the commit and in probation; rolled back, exit 8.

@pytest.mark.parametrize("fault", ["worker.commit:die", "worker.commit:hang", "worker.commit:garbage", "worker.commit:fail",
                                   "serving:die", "serving:hang", "serving:garbage", "serving:fail",
                                   "supervisor.commit:fail", "probation:fail"])
def test_a_generation_that_fails_in_probation_is_rolled_back(upgrade, fault):
    case = upgrade()
    case.fault(fault)
    with Steady(case.tidegate) as steady:
        outcome = case.run()
        assert outcome.code == 8 or (outcome.code == 1 and "commit" in fault), f"{fault}: {outcome.code}\n{outcome.text}"
        assert "Still serving" in outcome.text and "generation 1" in outcome.text, outcome.text
        steady.more()
        case.unchanged()
        clients = [case.tidegate.connect() for _ in range(20)]
        assert [client.get("/").status for client in clients] == [200] * 20, "the old generation accepts again"
        for client in clients:
            client.close()
    assert steady.reconnects == 0, "the kept connections never left the old generation"
    case.works_afterwards()


def test_a_worker_killed_in_probation_rolls_the_upgrade_back(upgrade):
    case = upgrade(upgrade={"probation": "20s"})
    outcomes = []
    with Steady(case.tidegate) as steady:
        thread = threading.Thread(target=lambda: outcomes.append(case.run()))
        thread.start()
        until(lambda: case.tidegate.generation == 2 and case.tidegate.workers(2), "generation 2")
        steady.more()
        for pid in case.tidegate.workers(2):
            with contextlib.suppress(ProcessLookupError):  # the roll-back may be faster
                os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        thread.join()
        assert outcomes[0].code == 8, outcomes[0].text
        assert time.monotonic() - began < 10 * PATIENCE, "at once, not at the end of the probation"
        steady.more()
        case.unchanged()
    assert steady.reconnects == 0
    case.tidegate.change(upgrade={"probation": "300ms"})
    case.works_afterwards()


def test_a_worker_that_hangs_early_in_probation_is_not_waited_for(upgrade):
    case = upgrade(upgrade={"probation": "1h"})
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(case.run()))
    thread.start()
    until(lambda: case.tidegate.generation == 2 and len(case.tidegate.workers(2)) == 2, "generation 2")
    os.kill(case.tidegate.workers(2)[0], signal.SIGSTOP)
    thread.join()
    assert outcomes[0].code == 8 and "do not answer" in outcomes[0].text, outcomes[0].text
    case.unchanged()


def test_an_upgrade_that_fails_does_not_cut_a_draining_generation_short(upgrade, origin):
    """The oldest has to make room for a generation that is ready, not for one that is only tried."""
    go = threading.Event()
    origin.handler = lambda peer, got: (peer.wait(go) if got.target == "/slow" else None, peer.answer())
    case = upgrade(upgrade={"drain": "1h", "max_generations": 2})
    tidegate = case.tidegate
    with tidegate.connect() as client:
        client.send(request("GET", "/slow"))
        origin.wait_requests(1)
        tidegate.ok("upgrade", "--force", "--detach")
        case.fault("worker.prepare:fail")
        assert case.run().code == 1
        assert {entry["number"] for entry in tidegate.status()["generations"]} == {1, 2}
        go.set()
        assert client.response().status == 200
    tidegate.wait_generations(1)


# Step 9 and 10: the old generation does not end by itself.

def test_an_old_worker_that_hangs_in_its_drain_is_killed_and_reported(upgrade):
    case = upgrade(upgrade={"drain": "500ms", "drain_tunnels": "500ms"})
    for pid in case.workers:
        os.kill(pid, signal.SIGSTOP)
    outcome = case.run()
    assert outcome.code == 0, outcome.text
    assert "forced" in outcome.text or "killed" in outcome.text, outcome.text
    until(lambda: not any(processes.alive(pid) for pid in case.workers), "the old workers to go")
    with case.tidegate.connect() as client:
        assert client.get("/").status == 200


def test_an_old_worker_that_dies_in_its_drain_does_not_spoil_the_upgrade(upgrade, origin):
    go = threading.Event()
    case = upgrade(upgrade={"drain": "20s"})
    origin.handler = lambda peer, got: (peer.wait(go) if got.target == "/slow" else None, peer.answer())
    outcomes = []
    clients = [case.tidegate.connect() for _ in range(8)]
    for client in clients:
        client.send(request("GET", "/slow"))
    origin.wait_requests(8)
    thread = threading.Thread(target=lambda: outcomes.append(case.run()))
    thread.start()
    until(lambda: any("drain" in entry["state"].lower() for entry in case.tidegate.status()["generations"]), "the drain")
    for pid in case.workers:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # all eight connections fell to the other one
    thread.join()
    assert outcomes[0].code == 0, outcomes[0].text
    go.set()
    with case.tidegate.connect() as client:
        assert client.get("/").status == 200
    for client in clients:
        client.close()
    case.tidegate.wait_generations(1)


@pytest.mark.parametrize("fault", ["supervisor.drain:fail", "retire:fail"])
def test_a_fault_after_probation_does_not_undo_the_upgrade(upgrade, fault):
    case = upgrade()
    case.fault(fault)
    with Steady(case.tidegate, strict=False) as steady:
        outcome = case.run()
        assert outcome.code in (0, 1), outcome.text
        steady.more()
    assert not steady.failures
    assert case.tidegate.wait_generations(1)["generation"] == 2


# Binaries that are none.

@pytest.mark.parametrize("worker", ["#!/bin/sh\nexit 3\n", "#!/bin/sh\necho nonsense; echo 'cannot go on: no such thing' >&2; exit 1\n",
                                    "#!/bin/sh\n[ \"$1\" = --check ] && exit 0\nprintf '\\377 is no text\\n' >&2\nexit 1\n",
                                    "#!/usr/bin/python3\nimport time\ntime.sleep(1000)\n", "", "not a program", None])
def test_a_bad_worker_binary_is_refused(launch, origin, worker):
    case = Upgrade(launch, origin)
    if worker is None:
        (case.binary.parent / "tidegate-worker").unlink()
    else:
        (case.binary.parent / "tidegate-worker").write_text(worker)
    with Steady(case.tidegate) as steady:
        outcome = case.run()
        assert outcome.code == 1, outcome.text
        assert "Still serving" in outcome.text
        if worker and "cannot go on" in worker:
            assert "no such thing" in outcome.text, "the last lines that the new process wrote"
        if worker and "no text" in worker:
            assert "\ufffd is no text" in outcome.text, outcome.text
        steady.more()
        case.unchanged()
    copied_binaries(case.binary.parent)
    case.works_afterwards()


@pytest.mark.parametrize("kind", ["script", "garbage", "missing", "directory", "not-executable", "hangs"])
def test_a_bad_supervisor_binary_is_refused(launch, origin, kind):
    case = Upgrade(launch, origin)
    good = case.binary.read_bytes()
    case.binary.unlink()
    if kind == "script":
        case.binary.write_text("#!/bin/sh\nexit 0\n")
    elif kind == "garbage":
        case.binary.write_bytes(b"\x7fELF nonsense")
    elif kind == "directory":
        case.binary.mkdir()
    elif kind == "not-executable":
        case.binary.write_bytes(good)
    elif kind == "hangs":
        case.binary.write_text("#!/usr/bin/python3\nimport time\ntime.sleep(1000)\n")
    if kind in ("script", "garbage", "hangs"):
        case.binary.chmod(0o755)
    elif kind == "not-executable":
        case.binary.chmod(0o644)
    with Steady(case.tidegate) as steady:
        outcome = case.run()
        assert outcome.code == 1, outcome.text
        steady.more()
        case.unchanged()
    assert steady.reconnects == 0


def test_an_address_in_use_refuses_the_upgrade_and_names_it(upgrade):
    case = upgrade()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = "127.0.0.1:%d" % holder.getsockname()[1]
        case.tidegate.change(listeners=case.tidegate.config["listeners"] + [{"name": "second", "bind": taken}])
        with Steady(case.tidegate):
            outcome = case.run()
            assert outcome.code == 1 and taken in outcome.text and "in use" in outcome.text, outcome.text
            case.unchanged()
    case.works_afterwards()


def test_the_faults_are_inert_unless_the_environment_allows_them(launch, origin):
    tidegate = launch(basic(origin.address))
    binary = copied_binaries(tidegate.directory / "next")
    (binary.parent / "tidegate.fault").write_text("prepare:die")
    tidegate.ok("upgrade", "--binary", binary)


# kill -9 from outside, at any moment.

def test_a_supervisor_killed_at_any_moment_of_an_upgrade_loses_no_traffic(upgrade):
    for number in range(6):
        case = upgrade(upgrade={"probation": "300ms"})
        tidegate = case.tidegate
        with Steady(tidegate, strict=False) as steady:
            thread = threading.Thread(target=case.run)
            thread.start()
            # A different moment each round; the state is what it is.
            threading.Event().wait(0.05 + 0.12 * number)
            tidegate.process.kill()
            tidegate.process.wait()
            thread.join()
            steady.more("answers without a supervisor")
            tidegate.start().wait_ready()
            case.only_current_processes()
            steady.more()
        assert not steady.failures, (number, steady.failures[:3])
