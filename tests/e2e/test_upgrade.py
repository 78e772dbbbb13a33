"""`tidegate upgrade`: new binaries, the same PID, nothing lost, the old generation drained."""

import os
import signal
import threading

import pytest

from support import processes
from support.client import request
from support.daemon import BIN, basic, copied_binaries
from support.errors import expect_line
from support.steady import Steady
from support.wait import duration, until


@pytest.fixture
def next_binary(tmp_path):
    return copied_binaries(tmp_path / "next")


def executable(pid):
    return os.readlink(f"/proc/{pid}/exe")


def test_an_upgrade_replaces_both_binaries_and_keeps_the_pid(tidegate, next_binary):
    old_workers = tidegate.workers()
    with Steady(tidegate, strict=False) as steady:
        tidegate.ok("upgrade", "--binary", next_binary)
        status = tidegate.wait_generations(1)
        steady.more()
    assert not steady.failures
    assert status["pid"] == tidegate.pid and status["generation"] == 2
    assert executable(tidegate.pid) == str(next_binary)
    assert [executable(pid) for pid in tidegate.workers()] == [f"{next_binary}-worker"]
    assert not any(processes.alive(pid) for pid in old_workers)


def test_an_upgrade_shows_its_phases(tidegate, next_binary):
    said = tidegate.ok("upgrade", "--binary", next_binary).text
    places = [said.find(word) for word in ("preflight", "prepare", "commit", "drain")]
    assert -1 not in places and places == sorted(places), said
    assert "\r" not in said and "\x1b" not in said, "one line a phase where there is no terminal"


def test_an_upgrade_as_json_is_json_lines(tidegate, next_binary):
    lines = tidegate.ok("upgrade", "--binary", next_binary, "--json").json_lines
    assert lines[-1]["schema_version"] >= 1
    assert lines[-1].get("generation") == 2


def test_an_upgrade_to_another_version_says_from_what_to_what(launch, origin, tmp_path):
    tidegate = launch(basic(origin.address))
    version = tidegate.status()["version"]
    fresh = version[:-1] + ("9" if version[-1] != "9" else "8")
    binary = copied_binaries(tmp_path / "fresh", version=(version, fresh))
    said = tidegate.ok("upgrade", "--binary", binary).text
    tidegate.wait_generations(1)
    assert tidegate.status()["version"] == fresh
    assert f"{version} -> {fresh}" in said, said


def test_an_upgrade_with_nothing_new_has_nothing_to_do(tidegate):
    said = tidegate.ok("upgrade").text
    assert "nothing to do" in said.lower(), said
    assert tidegate.generation == 1
    tidegate.ok("upgrade", "--force")
    assert tidegate.generation == 2


def test_an_upgrade_puts_a_changed_configuration_in_force(tidegate, next_binary):
    tidegate.change(routes=[{"name": "new", "respond": {"status": 200, "body": "new\n"}}])
    tidegate.ok("upgrade", "--binary", next_binary)
    with tidegate.connect() as client:
        assert client.get("/").text == "new\n"


def test_an_upgrade_with_a_broken_configuration_changes_nothing(tidegate, next_binary):
    workers = tidegate.workers()
    tidegate.write('{ "upsteam": 1 }')
    outcome = tidegate.cli("upgrade", "--binary", next_binary)
    assert outcome.code in (1, 78) and "upsteam" in outcome.text, outcome.text
    assert tidegate.workers() == workers and executable(tidegate.pid) == str(BIN / "tidegate")


def test_an_upgrade_from_the_same_path_takes_what_is_on_disk_now(launch, origin, tmp_path):
    """As a package does it: the files are replaced by rename, the running ones keep their old inode."""
    binary = copied_binaries(tmp_path / "installed")
    tidegate = launch(basic(origin.address), bin_dir=binary.parent)
    copied_binaries(tmp_path / "package")
    for name in ("tidegate", "tidegate-worker"):
        (tmp_path / "package" / name).replace(tmp_path / "installed" / name)
    assert "(deleted)" in executable(tidegate.pid)
    tidegate.ok("upgrade")
    tidegate.wait_generations(1)
    assert executable(tidegate.pid) == str(binary) and tidegate.generation == 2


def test_sigusr2_is_an_upgrade(launch, origin, tmp_path):
    binary = copied_binaries(tmp_path / "installed")
    tidegate = launch(basic(origin.address), bin_dir=binary.parent)
    copied_binaries(tmp_path / "package")
    for name in ("tidegate", "tidegate-worker"):
        (tmp_path / "package" / name).replace(tmp_path / "installed" / name)
    tidegate.signal(signal.SIGUSR2)
    until(lambda: tidegate.generation == 2, "generation 2")
    tidegate.wait_generations(1)
    assert executable(tidegate.pid) == str(binary)


def test_counters_survive_an_upgrade(tidegate, next_binary):
    with tidegate.connect() as client:
        for _ in range(5):
            client.get("/")
    until(lambda: tidegate.counters()["requests_total"] == 5, "five requests counted")
    tidegate.ok("upgrade", "--binary", next_binary)
    tidegate.wait_generations(1)
    assert tidegate.counters()["requests_total"] == 5
    assert tidegate.counters()["connections_accepted"] == 1
    with tidegate.connect() as client:
        client.get("/")
        until(lambda: tidegate.counters()["requests_total"] == 6, "six requests counted")


def test_a_request_in_progress_is_finished_by_the_old_generation(launch, origin, next_binary):
    go = threading.Event()
    origin.handler = lambda peer, got: (peer.wait(go) if got.target == "/slow" else None, peer.answer())
    tidegate = launch(basic(origin.address, upgrade={"hand_over": False, "drain": duration(5)}))
    with tidegate.connect() as client:
        client.send(request("GET", "/slow"))
        origin.wait_requests(1)
        upgrading = threading.Thread(target=lambda: tidegate.ok("upgrade", "--binary", next_binary))
        upgrading.start()
        until(lambda: drains(tidegate), "generation 1 to drain")
        # Its worker accepts until it hears that it should not: what conns asks it comes after that on its channel.
        tidegate.ok("conns")
        with tidegate.connect() as other:
            assert other.get("/fast").status == 200
        go.set()
        response = client.response()
        assert (response.status, response.get("connection")) == (200, "close")
        client.expect_end()
        upgrading.join()
    lines = {line["path"]: line["generation"] for line in [tidegate.logged(path="/slow"), tidegate.logged(path="/fast")]}
    assert lines == {"/slow": 1, "/fast": 2}


def test_pipelined_requests_that_were_read_are_answered_before_the_close(launch, origin, next_binary):
    go = threading.Event()
    origin.handler = lambda peer, got: (peer.wait(go) if got.target == "/0" else None, peer.answer(200, got.target))
    tidegate = launch(basic(origin.address, upgrade={"hand_over": False}))
    with tidegate.connect() as client:
        client.send(b"".join(request("GET", f"/{number}") for number in range(4)))
        origin.wait_requests(1)
        upgrading = threading.Thread(target=lambda: tidegate.ok("upgrade", "--binary", next_binary))
        upgrading.start()
        until(lambda: tidegate.generation == 2, "generation 2")
        until(lambda: drains(tidegate), "generation 1 to drain")
        go.set()
        answers = [client.response() for _ in range(4)]
        upgrading.join()
    assert [one.text for one in answers] == ["/0", "/1", "/2", "/3"]
    assert answers[-1].get("connection") == "close"


def drains(tidegate):
    return any(entry["number"] == 1 and "drain" in entry["state"].lower() for entry in tidegate.status()["generations"])


def test_detach_answers_at_commit(launch, origin, next_binary):
    go = threading.Event()
    origin.handler = lambda peer, _: (peer.wait(go), peer.answer())
    tidegate = launch(basic(origin.address, upgrade={"drain": "30s"}))
    with tidegate.connect() as client:
        client.send(request())
        origin.wait_requests(1)
        tidegate.ok("upgrade", "--binary", next_binary, "--detach")
        status = tidegate.status()
        assert status["generation"] == 2 and len(status["generations"]) == 2
        go.set()
        assert client.response().status == 200
    tidegate.wait_generations(1)


def test_what_does_not_end_by_the_drain_deadline_is_cut_and_reported(launch, origin, next_binary):
    origin.handler = lambda peer, _: peer.expect_gone()
    tidegate = launch(basic(origin.address))
    with tidegate.connect() as client:
        client.send(request("GET", "/stuck"))
        origin.wait_requests(1)
        said = tidegate.ok("upgrade", "--binary", next_binary, "--drain", "300ms").text
        got = client.expect_gone()
        assert got == b"" or got.startswith(b"HTTP/1.1 503 ")
    expect_line(tidegate.logged(path="/stuck"), "drain_deadline")
    assert "1" in said
    tidegate.wait_generations(1)


def test_at_most_max_generations_exist(launch, origin):
    origin.handler = lambda peer, got: peer.expect_gone() if got.target == "/stuck" else peer.answer()
    tidegate = launch(basic(origin.address, upgrade={"drain": "1h", "max_generations": 2, "probation": "50ms"}))
    stuck = []
    for number in range(3):
        stuck.append(tidegate.connect())
        stuck[-1].send(request("GET", "/stuck"))
        origin.wait_requests(number + 1)
        tidegate.ok("upgrade", "--force", "--detach")
        # Right after the commit the old worker may still take a connection: it stops when it hears of it.
        until(lambda: {entry["state"] for entry in tidegate.status()["generations"]} == {"serving", "draining"},
              "the end of the probation")
    status = tidegate.wait_generations(2)
    assert [entry["number"] for entry in status["generations"]] == [3, 4] or \
           [entry["number"] for entry in status["generations"]] == [4, 3]
    for client in stuck[:2]:
        client.expect_gone()
    assert stuck[2].silent()
    assert "generation" in tidegate.stderr and "max_generations" in tidegate.stderr, "the log says why"
    for client in stuck:
        client.close()


def test_what_a_drain_cut_is_not_called_drained(launch, origin):
    origin.handler = lambda peer, got: peer.expect_gone() if got.target == "/stuck" else peer.answer()
    tidegate = launch(basic(origin.address, upgrade={"hand_over": False}))
    with tidegate.connect() as stuck, tidegate.connect() as idle:
        assert idle.get("/").status == 200
        stuck.send(request("GET", "/stuck"))
        origin.wait_requests(2)
        outcome = tidegate.ok("upgrade", "--force", "--drain", "300ms", "--json")
        stuck.expect_gone()
        idle.expect_end()
    data = outcome.json_lines[-1]
    assert (data["drained"], data["forced"], data["killed_workers"]) == (1, 1, 0), data
    assert "1 connection cut" in outcome.out


def test_detach_answers_at_the_commit(launch, origin):
    tidegate = launch(basic(origin.address, upgrade={"probation": "1h"}))
    outcome = tidegate.ok("upgrade", "--force", "--detach", seconds=10)
    assert "generation 2 serves" in outcome.out
    states = {entry["number"]: entry["state"] for entry in tidegate.status()["generations"]}
    assert states == {1: "probation", 2: "serving"}


def test_a_log_level_set_by_hand_survives_an_upgrade(launch, origin):
    tidegate = launch(basic(origin.address, workers=1))
    tidegate.ok("loglevel", "error")
    said = len(tidegate.stderr)
    tidegate.ok("upgrade", "--force")
    tidegate.wait_generations(1)
    tidegate.ok("reload", "--force")
    os.kill(tidegate.workers()[0], signal.SIGKILL)
    until(lambda: "Killed" in tidegate.stderr[said:], "the error in the log")
    until(lambda: len(tidegate.workers()) == 1, "the next worker")
    assert " info " not in tidegate.stderr[said:], tidegate.stderr[said:]
    tidegate.change(logging={"level": "debug"})
    tidegate.ok("reload")
    tidegate.ok("reload", "--force")
    assert " info " in tidegate.stderr[said:], "a configuration that names another level ends it"


def test_a_status_that_is_asked_in_an_upgrade_is_answered(launch, origin, next_binary):
    """It waits for workers: the image that was asked answers before another takes its place, forwards and back."""
    tidegate = launch(basic(origin.address, workers=2, upgrade={"probation": "50ms"}), env={"TIDEGATE_TEST_FAULTS": "1"})
    fault = next_binary.parent / "tidegate.fault"
    stop = threading.Event()
    outcomes = []

    def ask():
        while not stop.is_set():
            outcomes.append(tidegate.cli("status", "--json"))
    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(6):
        fault.write_text("worker.prepare:fail" if number % 2 else "")
        tidegate.cli("upgrade", "--force", "--binary", next_binary)
    stop.set()
    for thread in threads:
        thread.join()
    assert {outcome.code for outcome in outcomes} <= {0, 3}, [one.text for one in outcomes if one.code not in (0, 3)][:3]


def test_upgrades_that_come_together_wait_and_join(launch, origin):
    # All have come when the first is done.
    tidegate = launch(basic(origin.address, upgrade={"probation": duration(0.5)}))
    outcomes = []
    threads = [threading.Thread(target=lambda: outcomes.append(tidegate.cli("upgrade", "--force"))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.code for one in outcomes] == [0] * 5, [one.text for one in outcomes]
    assert tidegate.wait_generations(1)["generation"] in (2, 3), "one runs, one waits, the others join the waiting one"


def test_a_stop_during_an_upgrade_ends_everything(launch, origin):
    tidegate = launch(basic(origin.address, upgrade={"probation": "30s"}))
    threading.Thread(target=lambda: tidegate.cli("upgrade", "--force"), daemon=True).start()
    until(lambda: tidegate.generation == 2, "generation 2")
    assert tidegate.stop() == 0


def test_rollback_brings_back_binary_and_configuration(launch, origin, next_binary):
    tidegate = launch(basic(origin.address, routes=[{"name": "r", "respond": {"status": 200, "body": "old\n"}}]))
    tidegate.change(routes=[{"name": "r", "respond": {"status": 200, "body": "new\n"}}])
    tidegate.ok("upgrade", "--binary", next_binary)
    tidegate.wait_generations(1)
    with Steady(tidegate, strict=False) as steady:
        tidegate.ok("rollback")
        tidegate.wait_generations(1)
        steady.more()
    assert not steady.failures
    assert executable(tidegate.pid) == str(BIN / "tidegate")
    assert [executable(pid) for pid in tidegate.workers()] == [str(BIN / "tidegate-worker")]
    with tidegate.connect() as client:
        assert client.get("/").text == "old\n"


def test_rollback_with_nothing_to_go_back_to_is_an_error(tidegate):
    outcome = tidegate.cli("rollback")
    assert outcome.code in (1, 6), outcome.text
    with tidegate.connect() as client:
        assert client.get("/").status == 200


# Accept queues.

@pytest.mark.parametrize("after", [4, 1, 2])
@pytest.mark.parametrize("accept", ["reuseport", "shared"])
def test_connections_parked_in_the_accept_queues_are_all_answered(launch, origin, after, accept):
    """All workers are stopped, so nobody accepts; then an upgrade, in which the worker count shrinks too."""
    listeners = [{"name": "web", "bind": "127.0.0.1:0", "accept": accept}]
    tidegate = launch(basic(origin.address, workers=4, listeners=listeners, upgrade={"drain": "300ms", "drain_tunnels": "300ms"}))
    tidegate.port()
    workers = tidegate.workers()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    for pid in workers:
        until(lambda p=pid: processes.stopped(p), "the worker to stop")
    parked = [tidegate.connect(seconds=30) for _ in range(100)]
    for number, client in enumerate(parked):
        client.send(request("GET", f"/{number}"))
    assert not origin.requests
    tidegate.change(workers=after)
    outcome = tidegate.cli("upgrade", "--force", seconds=60)
    assert outcome.code == 0, outcome.text
    answers = [client.response().status for client in parked]
    assert answers == [200] * 100
    assert sorted(int(one.target[1:]) for one in origin.requests) == list(range(100)), "each exactly once"
    for client in parked:
        client.close()
    assert len(tidegate.workers()) == after
    tidegate.wait_generations(1)
    assert not any(processes.alive(pid) for pid in workers), "who does not drain is killed"


def test_connections_parked_during_a_shrink_by_reload_are_answered(launch, origin):
    tidegate = launch(basic(origin.address, workers=4))
    tidegate.port()
    with Steady(tidegate, strict=False) as steady:
        for count in (1, 3, 2):
            tidegate.change(workers=count)
            tidegate.ok("reload")
            tidegate.wait_generations(1)
            clients = [tidegate.connect() for _ in range(40)]
            assert [client.get("/").status for client in clients] == [200] * 40
            for client in clients:
                client.close()
            steady.more()
    assert not steady.failures
