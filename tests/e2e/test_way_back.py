"""From one image of the supervisor to the next, and back: what comes in between is neither lost nor owned twice."""

import os
import signal
import threading

import pytest

from support import processes
from support.client import request
from support.processes import executable
from support.upgrades import Upgrade
from support.wait import until


class Held(Upgrade):
    """An upgrade whose new image waits for its workers, and nothing ends that but a test."""

    def __init__(self, launch, origin, **changes):
        changes.setdefault("upgrade", {})["ready_timeout"] = "10m"
        super().__init__(launch, origin, **changes)
        self.outcomes = []
        self.asking = threading.Thread(target=lambda: self.outcomes.append(self.run()))

    def __enter__(self):
        self.fault("worker.prepare:hang")
        self.asking.start()
        until(lambda: executable(self.tidegate.pid) == str(self.binary), "the new image")
        until(lambda: len(self.new_workers()) == 2, "its workers")
        return self

    def __exit__(self, *_):
        self.asking.join()

    def new_workers(self):
        worker = str(self.binary.parent / "tidegate-worker")
        # One may end meanwhile, and another not execute its program yet.
        return [pid for pid in self.tidegate.processes() if executable(pid) == worker]

    def crash(self):
        """The new image crashes; the answer of the old one."""
        os.kill(self.tidegate.pid, signal.SIGABRT)
        self.asking.join()
        assert "the new supervisor crashed by signal 6" in self.outcomes[0].text, self.outcomes[0].text
        return self.outcomes[0]


def ask(case):
    asking = threading.Thread(target=case.run)
    asking.start()
    return asking


def leaving(launch, origin, **changes):
    """An upgrade whose old image has read for the last time, and stops."""
    case = Upgrade(launch, origin, env={"TIDEGATE_TEST_FAULT": "leave:stop"}, **changes)
    asking = ask(case)
    until(lambda: processes.stopped(case.tidegate.pid), "the old image to be about to leave")
    return case, asking


def test_a_stop_between_two_images_is_obeyed_by_the_second(launch, origin):
    case, asking = leaving(launch, origin)
    case.tidegate.signal(signal.SIGTERM)
    case.tidegate.signal(signal.SIGCONT)
    assert case.tidegate.wait_exit() == 0
    asking.join()


def test_logs_are_opened_again_though_the_signal_comes_between_two_images(launch, origin):
    case, asking = leaving(launch, origin)
    tidegate = case.tidegate
    tidegate.access_path.rename(tidegate.access_path.with_suffix(".1"))
    tidegate.signal(signal.SIGUSR1)
    tidegate.signal(signal.SIGCONT)
    asking.join()
    until(tidegate.access_path.exists, "the log to be open again")
    assert tidegate.wait_generations(1)["generations"][0]["number"] == 2


def test_a_reload_between_two_images_is_done_after_the_upgrade(launch, origin):
    case, asking = leaving(launch, origin)
    case.tidegate.signal(signal.SIGHUP)
    case.tidegate.signal(signal.SIGCONT)
    asking.join()
    until(lambda: case.tidegate.counters()["reloads_ok"] == 1, "the reload")
    assert case.tidegate.counters()["upgrades_ok"] == 1


@pytest.mark.parametrize("point", ["adopt", "bind", "spawn"])
def test_a_stop_that_a_new_image_does_not_hear_is_obeyed_by_the_old_one(launch, origin, point):
    case = Upgrade(launch, origin)
    case.fault(f"{point}:hang")
    asking = ask(case)
    until(lambda: executable(case.tidegate.pid) == str(case.binary), "the new image")
    case.tidegate.signal(signal.SIGTERM)
    assert case.tidegate.wait_exit(30) == 0
    assert "back in the old program: the new supervisor did not answer" in case.tidegate.stderr
    asking.join()


def test_workers_that_hang_end_with_the_image_that_crashed(launch, origin):
    with Held(launch, origin) as case:
        workers = case.new_workers()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        until(lambda: all(map(processes.stopped, workers)), "workers that do not hear of it")
        case.crash()
    case.unchanged()
    for pid in workers:
        assert f"worker {pid} of the program that has gone is killed" in case.tidegate.stderr
    case.works_afterwards()


def test_a_worker_that_a_crashed_image_has_replaced_leaves_nobody_behind(launch, origin):
    with Held(launch, origin) as case:
        lost = case.tidegate.workers(1)[0]
        os.kill(lost, signal.SIGKILL)
        until(lambda: len(now := case.tidegate.workers(1)) == 2 and lost not in now, "another worker")
        case.crash()
    tidegate = case.tidegate
    until(lambda: set(tidegate.processes()) == {tidegate.pid, *tidegate.workers()} and len(tidegate.workers()) == 2,
          "two workers, and nobody else")
    with tidegate.connect() as client:
        assert client.get("/").status == 200
    case.works_afterwards()


@pytest.mark.parametrize("how", ["command", "signal"])
def test_a_crash_after_logs_were_opened_again_is_survived(launch, origin, how):
    with Held(launch, origin) as case:
        tidegate = case.tidegate
        error = tidegate.directory / "error.log"
        for log in (tidegate.access_path, error):
            if log.exists():
                log.rename(log.with_suffix(".1"))
        if how == "command":
            tidegate.ok("reopen")
        else:
            tidegate.signal(signal.SIGUSR1)
        until(tidegate.access_path.exists, "the log to be open again")
        case.crash()
    case.unchanged()
    # The new image may have crashed before it gave them the file.
    until(lambda: all(str(tidegate.access_path) in processes.descriptors(pid).values() for pid in case.workers),
          "the log to be open again for who serves")
    with tidegate.connect() as client:
        assert client.get("/after").status == 200
    until(lambda: "/after" in tidegate.access_path.read_text(), "the request in the new file")
    assert str(tidegate.access_path) in processes.descriptors(tidegate.pid).values()
    case.works_afterwards()


def test_a_reload_that_a_crashed_image_has_not_begun_is_done(launch, origin):
    with Held(launch, origin) as case:
        case.tidegate.signal(signal.SIGHUP)
        case.tidegate.ok("status")
        case.crash()
    until(lambda: case.tidegate.counters()["reloads_ok"] == 1, "the reload")


def test_a_log_that_nobody_reads_does_not_keep_the_old_image(launch, origin, tmp_path):
    fifo = tmp_path / "access"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with Held(launch, origin, logging={"access": {"path": str(fifo)}}) as case:
        case.tidegate.ok("reopen")
        os.close(reader)
        case.crash()
    until(lambda: f"open the log {fifo}: No such device or address" in case.tidegate.stderr, "the log to tell of it")
    case.unchanged()


def new_log_is_everybodys(tidegate):
    def held(pid):
        links = processes.descriptors(pid).values()
        return str(tidegate.access_path) in links and str(tidegate.access_path.with_suffix(".1")) not in links
    until(lambda: all(map(held, [tidegate.pid, *tidegate.workers()])), "the new file to be everybody's")


def test_logs_that_are_rotated_while_a_lost_worker_is_replaced_are_its_own_too(launch, origin):
    case = Upgrade(launch, origin, upgrade={"ready_timeout": "10m"})
    tidegate = case.tidegate
    case.works_afterwards()
    case.fault("worker.prepare:stop")
    os.kill(tidegate.workers()[0], signal.SIGKILL)
    late, = until(lambda: [pid for pid in tidegate.processes() if processes.stopped(pid)], "its successor to prepare")
    tidegate.access_path.rename(tidegate.access_path.with_suffix(".1"))
    tidegate.ok("reopen")
    os.kill(late, signal.SIGCONT)
    until(lambda: late in tidegate.workers() and len(tidegate.workers()) == 2, "two workers")
    new_log_is_everybodys(tidegate)


@pytest.mark.parametrize("operation", ["upgrade", "reload"])
def test_logs_that_are_rotated_while_workers_prepare_are_those_in_force(launch, origin, operation):
    case = Upgrade(launch, origin, upgrade={"ready_timeout": "10m"})
    tidegate = case.tidegate
    if operation == "upgrade":
        case.fault("worker.prepare:stop")
        asking = ask(case)
        worker = str(case.binary.parent / "tidegate-worker")
        stopped = until(lambda: [pid for pid in tidegate.processes() if executable(pid) == worker and processes.stopped(pid)],
                        "a worker of the new generation to prepare")
    else:
        stopped = tidegate.workers()[:1]
        os.kill(stopped[0], signal.SIGSTOP)
        tidegate.change(routes=[{"name": "other", "respond": {"status": 200, "body": "other"}}])
        asking = threading.Thread(target=lambda: tidegate.ok("reload"))
        asking.start()
        until(lambda: "bind: 1 listener" in tidegate.stderr, "the other worker to prepare")
    tidegate.access_path.rename(tidegate.access_path.with_suffix(".1"))
    tidegate.ok("reopen")
    while asking.is_alive():
        for pid in [pid for pid in tidegate.processes() if processes.stopped(pid)]:
            os.kill(pid, signal.SIGCONT)
        asking.join(0.05)
    counters = tidegate.counters()
    assert counters["upgrades_ok" if operation == "upgrade" else "reloads_ok"] == 1
    new_log_is_everybodys(tidegate)


def test_what_a_crashed_image_has_closed_is_nobody_s(launch, origin):
    """A generation ends while the new image waits: its numbers are free, and the old image takes them for others."""
    go = threading.Event()
    origin.handler = lambda peer, got: (peer.wait(go) if got.target == "/slow" else None, peer.answer())
    case = Held(launch, origin, upgrade={"drain": "1h", "hand_over": False})
    tidegate = case.tidegate
    with tidegate.connect() as client:
        client.send(request(target="/slow"))
        origin.wait_requests(1)
        tidegate.ok("upgrade", "--force", "--detach")
        until(lambda: tidegate.generation == 2 and len(tidegate.status()["generations"]) == 2, "a generation that drains")
        case.workers = tidegate.workers(2)
        before = sorted(processes.descriptors(tidegate.pid))
        with case:
            go.set()
            assert client.response().status == 200
            until(lambda: len(tidegate.status()["generations"]) == 2, "the old generation to have gone")
            case.crash()
    case.unchanged()
    after = sorted(processes.descriptors(tidegate.pid))
    assert len(after) < len(before), f"{before}\n{after}"
    case.works_afterwards()
