"""kill -9, or a hang, at each step of a hand-over: every connection has one owner, and dies with it and with nobody else.

The steps, and whose a connection of the batch is:

    old    offer        the old worker's: it has stopped reading and said nothing yet
    old    offered      the old worker's; if that dies, the new one's (the kernel gives it what was sent)
    new    taking       the old worker's: it takes it back when the new one dies, or does not answer for 2 s
    new    answer       the same; the new one holds it and does not read
    new    answered     the same, until the old one commits
    old    hand_over    the new one's as soon as the old one is dead
    old    handed_over  the new one's
    new    taken        the new one's

What is not in the batch, as what is inside an exchange, is the old worker's all the time. A fault is a line of a file beside
the binary (common/test_fault.h): the old and the new generation come from two directories."""

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path

import pytest

from support import processes
from support.daemon import basic, copied_binaries
from support.live import Live, LiveOrigin, kernel_holds
from support.wait import PATIENCE, duration, stays, steady, until

LOAD = {"asking": 2, "pipelining": 1, "idle": 3, "tunnels": 2, "held": 3}
BATCH = ("idle", "tunnel")  # certainly in the first one
ASKING = ("asking", "pipelining")  # in it, in the next one, or inside an exchange, as it happens
OLD_GIVES_UP = "the newer worker does not answer"


@pytest.fixture(scope="module")
def programs():
    """Where the old and the new binaries are: readable for workers that run as nobody."""
    directory = Path(tempfile.mkdtemp(prefix="tg-"))
    directory.chmod(0o755)
    for name in ("old", "new"):
        copied_binaries(directory / name)
    yield directory
    shutil.rmtree(directory)


class Case:
    """One old worker, then one new one, and the connections that live meanwhile."""

    def __init__(self, launch, make_origin, programs):
        self.make = launch
        self.origin = LiveOrigin(make_origin)
        self.programs = programs
        self.outcomes = []
        self.thread = None

    def start(self, old="", new="", load=None, workers=1, **upgrade):
        self.fault("old", old)
        self.fault("new", new)
        # Within the probation `upgrade` finds the new worker and takes its fault away.
        settings = {"probation": duration(0.2), "drain": duration(20), "drain_tunnels": duration(20), **upgrade}
        self.tidegate = self.make(basic(self.origin.address, upgrade=settings, workers=workers), bin_dir=self.programs / "old",
                                  env={"TIDEGATE_TEST_FAULTS": "1"})
        self.port = self.tidegate.port()
        self.olds = self.tidegate.workers()
        self.old = self.olds[0]
        return Live(self.tidegate, self.origin, **(load or LOAD))

    def fault(self, which, fault):
        (self.programs / which / "tidegate.fault").write_text(fault)

    def upgrade(self):
        """Begins an upgrade; returns when the new worker has read its fault. Who replaces it has none."""
        def run():
            self.outcomes.append(self.tidegate.cli("upgrade", "--binary", self.programs / "new/tidegate", "--force", "--json"))
        self.thread = threading.Thread(target=run)
        self.thread.start()
        # From here to the end of the probation all workers live.
        self.logged("prepare: generation 2: ")
        [self.new] = [pid for pid in self.tidegate.worker_processes() if pid not in self.olds]
        self.fault("new", "")
        self.logged("generation 2 serves and is watched")

    def logged(self, text, count=1):
        until(lambda: self.tidegate.stderr.count(text) >= count, f"{text!r} in the log")

    def gone(self, pid):
        """Until that process has died; returns when."""
        until(lambda: not processes.alive(pid), "a worker to die")
        return time.monotonic()

    def hangs(self, pid):
        """Until that process waits in pause() for ever."""
        def paused():
            return Path(f"/proc/{pid}/syscall").read_text(encoding="ascii").split()[0] == "34"
        until(paused, "a worker to hang")

    def takes_over(self):
        """Another supervisor comes; its workers are the third generation."""
        self.thread.join()
        self.thread = None
        self.tidegate.start().wait_ready()

    def result(self):
        self.thread.join()
        assert self.outcomes[0].code == 0, self.outcomes[0].text
        return self.outcomes[0].json_lines[-1]

    def over(self, live, died=()):
        """The upgrade ends, exactly `died` have ended, the others are served and nobody else holds a connection."""
        self.origin.release.set()
        until(lambda: all(one.answers or one.ended for one in live.of("held")), "the answers that were kept back")
        if self.thread:
            self.thread.join()
        self.tidegate.wait_generations(1)
        live.more()
        assert set(live.ended()) == set(died), (live.ended(), died)
        live.settle()
        [worker] = self.tidegate.workers()
        mine = {one.port for one in live.all if not one.ended}
        until(lambda: set(kernel_holds(self.port)) == mine, lambda: f"only {mine} to be open: {kernel_holds(self.port)}", 5)
        assert processes.client_ports(worker, self.port) - {0} == mine
        counters = self.tidegate.counters()
        tunnels = len([one for one in live.of("tunnel") if not one.ended])
        assert (counters["connections_active"], counters["tunnels_active"]) == (len(mine), tunnels)


def lost_with(live, since):
    """Who ended with a worker that died at `since`: at once, and nobody else. Those who ask may be among them or not."""
    assert all(one.ended[0] - since < 1 * PATIENCE for one in live.ended()), (since, live.ended())
    return live.ended(*ASKING)


def nobody_reads(live):
    """What came back before may still wait for a client's thread; then nothing comes, and nobody ends."""
    def echoed():
        return [one.echoed for one in live.of("tunnel")]

    before = steady(echoed, "tunnels that nobody reads", seconds=3)
    stays(lambda: not live.ended() and echoed() == before, "two have read", 0.3)


@pytest.fixture
def case(launch, make_origin, programs):
    one = Case(launch, make_origin, programs)
    yield one
    one.origin.release.set()
    if one.thread:
        one.thread.join()


# The old worker.

def test_the_old_worker_dies_before_it_has_offered_anything(case):
    """All are its own, and go with it."""
    with case.start(old="offer:die") as live:
        case.upgrade()
        died = case.gone(case.old)
        until(lambda: len(live.ended()) == len(live.all), "all to end", 5)
        lost_with(live, died)
        case.over(live, died=live.all)


@pytest.mark.parametrize("step", ["offered", "hand_over", "handed_over"])
def test_the_old_worker_dies_when_the_new_one_has_been_offered_the_batch(case, step):
    """The batch is the new one's then, committed or not; what was inside an exchange dies."""
    with case.start(old=f"{step}:die") as live:
        case.upgrade()
        died = case.gone(case.old)
        live.more()
        lost = live.of("held") + lost_with(live, died)
        case.over(live, died=lost)
        assert not live.ended(*BATCH)


def test_the_old_worker_hangs_before_it_has_offered_anything(case):
    """Nobody has a reader until it is killed at the deadline; then all go with it."""
    with case.start(old="offer:hang", drain=duration(1), drain_tunnels=duration(1)) as live:
        case.upgrade()
        case.hangs(case.old)
        died = case.gone(case.old)
        until(lambda: len(live.ended()) == len(live.all), "all to end", 5)
        lost_with(live, died)
        case.over(live, died=live.all)
        assert case.result()["killed_workers"] == 1


@pytest.mark.parametrize("step", ["offered", "hand_over"])
def test_the_old_worker_hangs_while_both_hold_the_batch(case, step):
    """Nobody reads it until the old one is killed at the deadline; then it is the new one's."""
    with case.start(old=f"{step}:hang", drain=duration(1), drain_tunnels=duration(1)) as live:
        case.upgrade()
        case.hangs(case.old)
        nobody_reads(live)
        died = case.gone(case.old)
        live.more()
        case.over(live, died=live.of("held") + lost_with(live, died))
        assert not live.ended(*BATCH)
        assert case.result()["killed_workers"] == 1


def test_the_old_worker_hangs_when_it_has_committed_the_batch(case):
    """It is the new one's, which serves it at once."""
    with case.start(old="handed_over:hang", drain=duration(2), drain_tunnels=duration(2)) as live:
        case.upgrade()
        case.hangs(case.old)
        live.more(*live.of(*BATCH))
        assert processes.alive(case.old) and not live.ended()
        died = case.gone(case.old)
        live.more()
        case.over(live, died=live.of("held") + lost_with(live, died))


# The new worker.

@pytest.mark.parametrize("step", ["taking", "answer"])
def test_the_new_worker_dies_before_it_has_answered(case, step):
    """The old one takes everything back, and gives it to who replaces the dead one: nobody dies."""
    with case.start(new=f"{step}:die") as live:
        case.upgrade()
        case.gone(case.new)
        case.over(live)
        live.expect_all_alive()
        assert case.result()["forced"] == 0


def test_the_new_worker_dies_when_it_has_answered(case):
    """The commit comes before its end or after it: the whole batch dies with it, or nobody does."""
    with case.start(new="answered:die") as live:
        case.upgrade()
        died = case.gone(case.new)
        # Those who were told so know it by now, and those who live are served.
        live.more(*[one for one in live.all if one.kind != "held"])
        assert len(live.ended(*BATCH)) in (0, len(live.of(*BATCH))) and not live.ended("held")
        case.over(live, died=live.ended(*BATCH) + lost_with(live, died))


def test_the_new_worker_dies_when_it_has_been_given_the_batch(case):
    """What was committed dies with it. The old one has the rest, which goes to who replaces it."""
    with case.start(new="taken:die") as live:
        case.upgrade()
        died = case.gone(case.new)
        until(lambda: len(live.ended(*BATCH)) == len(live.of(*BATCH)), lambda: f"the batch to end: {live.all}", 5)
        lost = live.ended()
        assert not [one for one in lost if one.kind == "held"]
        assert all(one.ended[0] - died < 1 * PATIENCE for one in lost)
        case.over(live, died=lost)


@pytest.mark.parametrize("step", ["taking", "answered"])
def test_the_one_new_worker_of_three_old_ones_dies(case, step):
    """Each of them takes back what was its own; who replaces it gets it all."""
    with case.start(new=f"{step}:die", load={"asking": 9, "idle": 20, "tunnels": 12}, workers=3) as live:
        case.tidegate.change(workers=1)
        case.upgrade()
        died = case.gone(case.new)
        live.more()
        lost = live.ended() if step == "answered" else []
        assert all(one.ended[0] - died < 1 * PATIENCE for one in lost)
        case.over(live, died=lost)


def test_the_new_worker_hangs_before_it_has_answered(case):
    """The old one waits for 2 s, takes everything back and serves it; when the hanging one is killed, its successor gets it."""
    with case.start(new="taking:hang") as live:
        case.upgrade()
        case.hangs(case.new)
        case.logged(OLD_GIVES_UP)
        live.more(*[one for one in live.all if one.kind != "held"])
        os.kill(case.new, signal.SIGKILL)
        case.over(live)
        live.expect_all_alive()


def test_the_new_worker_hangs_with_what_it_has_been_given(case):
    """The batch is its own: nobody else reads it, and it dies with it."""
    with case.start(new="taken:hang") as live:
        case.upgrade()
        case.hangs(case.new)
        nobody_reads(live)
        os.kill(case.new, signal.SIGKILL)
        until(lambda: len(live.ended(*BATCH)) == len(live.of(*BATCH)), lambda: f"the batch to end: {live.all}", 5)
        lost = live.ended()
        assert not [one for one in lost if one.kind == "held"]
        case.over(live, died=lost)


# The supervisor.

@pytest.mark.parametrize("step", ["pair", "supervisor.drain"])
def test_the_supervisor_dies_when_it_connects_the_two(case, step):
    """It owns no connection. Old and new worker serve on; what takes over moves all of both to workers of its own."""
    with case.start(new=f"{step}:die") as live:
        case.upgrade()
        case.tidegate.process.wait()
        live.more(*[one for one in live.all if one.kind != "held"])
        case.takes_over()
        case.over(live)
        live.expect_all_alive()


@pytest.mark.parametrize("old, new", [("offer:hang", ""), ("offered:hang", ""), ("", "taking:hang"), ("", "taken:hang")])
def test_the_supervisor_is_killed_while_a_worker_hangs_in_the_hand_over(case, old, new):
    """Who hangs keeps what is its own until it is killed, which nobody else has read meanwhile; the rest moves on."""
    with case.start(old=old, new=new) as live:
        case.upgrade()
        hanging = case.old if old else case.new
        case.hangs(hanging)
        case.tidegate.process.kill()
        case.tidegate.process.wait()
        case.takes_over()
        assert not live.ended() and processes.alive(hanging)
        if new == "taking:hang":
            # The old worker gives the hanging one up, and has another successor.
            live.more(*[one for one in live.all if one.kind != "held"])
        os.kill(hanging, signal.SIGKILL)
        died = case.gone(hanging)
        if old == "offer:hang":
            until(lambda: len(live.ended()) == len(live.all), "all to end", 5)  # they were the old worker's
            lost = live.all
        elif old == "offered:hang":
            until(lambda: live.ended("held"), "what was inside an exchange to end", 5)
            lost = live.of("held") + live.ended(*ASKING)  # the batch was the new one's as soon as the old one was dead
        elif new == "taking:hang":
            lost = []  # the old worker had them all
        else:
            until(lambda: len(live.ended(*BATCH)) == len(live.of(*BATCH)), "the batch to end", 5)  # it was the new one's
            lost = live.of(*BATCH) + live.ended(*ASKING)
        assert all(one.ended[0] - died < 1 * PATIENCE for one in live.ended())
        case.over(live, died=lost)


# Not dead, only late: for longer than the other one waits.

@pytest.mark.parametrize("step", ["taking", "answer"])
def test_a_new_worker_that_was_given_up_comes_back(case, step):
    """The old one has taken the batch back, and said so before it read: who comes back drops it. All goes on with the old
    one, which drains in the ordinary way: an answer says Connection: close, a tunnel lives."""
    with case.start(new=f"{step}:stop") as live:
        case.upgrade()
        until(lambda: processes.stopped(case.new), "a worker to stop")
        case.logged(OLD_GIVES_UP)
        live.more(*live.of("tunnel"))
        os.kill(case.new, signal.SIGCONT)
        live.more(*live.of("tunnel"))
        until(lambda: all(one.ended for one in live.of(*ASKING)), "those who ask to be told that it ends", 10)
        live.more()
        case.origin.release.set()
        until(lambda: all(one.ended for one in live.of("held")), "those who were inside an exchange to be told", 10)
        assert all(one.closes == 1 and not one.waiting for one in live.ended(*ASKING, "idle", "held")), live.ended()
        live.more(*live.of("tunnel"))
        assert not live.ended("tunnel")
    case.thread.join()
    case.tidegate.wait_generations(1)
    until(lambda: not kernel_holds(case.port), "nobody to hold what has left", 5)
    until(lambda: [case.tidegate.counters()[name] for name in ("connections_active", "tunnels_active")] == [0, 0],
          "nobody to be counted any more")


@pytest.mark.parametrize("old, new", [("offer", ""), ("offered", ""), ("hand_over", ""), ("handed_over", ""),
                                      ("", "answered"), ("", "taken")])
def test_a_worker_that_comes_back_goes_on_where_it_was(case, old, new):
    """Nobody has given anybody up, or what was committed before counts: all moves, late."""
    with case.start(old=old and f"{old}:stop", new=new and f"{new}:stop") as live:
        case.upgrade()
        late = case.old if old else case.new
        until(lambda: processes.stopped(late), "a worker to stop")
        stays(lambda: not live.ended(), lambda: f"these have ended: {live.ended()}", 0.5)
        os.kill(late, signal.SIGCONT)
        case.over(live)
        live.expect_all_alive()


@pytest.mark.parametrize("fault", ["", "offered:hang", "taking:stop"])
def test_a_stop_in_the_middle_of_a_hand_over(case, fault):
    """Both generations end, whoever holds what; also if one of the two does not play along."""
    which = "old" if "offered" in fault else "new"
    with case.start(load={"asking": 5, "idle": 100, "tunnels": 10}, **{which: fault}) as live:
        case.tidegate.change(shutdown={"timeout": "500ms"})
        case.upgrade()
        case.logged("probation: generation 2 is stable")
        assert case.tidegate.stop() == 0
        until(lambda: len(live.ended()) == len(live.all), lambda: f"all to end: {live.all}", 5)
        assert not kernel_holds(case.port)


# kill -9 from outside, at any moment.

@pytest.mark.parametrize("who", ["old", "new"])
@pytest.mark.parametrize("after", [0.0, 0.003, 0.008, 0.02])
def test_a_worker_killed_at_any_moment_of_a_hand_over(case, who, after):
    """Several batches are under way. Who dies takes along what was its own then; the rest is served, and nothing came twice."""
    with case.start(load={"asking": 10, "idle": 150, "tunnels": 30, "held": 3}, probation="60ms") as live:
        case.upgrade()
        case.logged("probation: generation 2 is stable")
        threading.Event().wait(after)
        killed = case.old if who == "old" else case.new
        with contextlib.suppress(ProcessLookupError):  # The old one has given everything away but for what is held.
            os.kill(killed, signal.SIGKILL)
        died = case.gone(killed)
        live.more(*[one for one in live.all if one.kind != "held"])
        lost = live.ended()
        assert all(one.ended[0] - died < 1 * PATIENCE for one in lost)
        assert len(live.ended("held")) == (3 if who == "old" else 0), "the old worker's all the time"
        case.over(live, died=lost)


def test_a_drain_that_ends_while_the_new_worker_hangs_ends(case):
    """What was offered comes back at the deadline and ends by it: nobody has to be killed."""
    with case.start(new="taking:stop", load={"asking": 0, "idle": 20, "tunnels": 5}, drain="1s", drain_tunnels="1s") as live:
        case.upgrade()
        until(lambda: len(live.ended()) == len(live.all), lambda: f"all to end: {live.all}", 10)
        until(lambda: "generation 1 is gone" in case.tidegate.stderr, "the old worker to end", 10)
        assert "outlived" not in case.tidegate.stderr
        os.kill(case.new, signal.SIGCONT)
    case.thread.join()


def test_what_comes_to_a_worker_that_stops_does_not_hold_it_up(case):
    """The old worker dies before it commits: idle connections become those of a new one that has been told to stop."""
    with case.start(old="hand_over:stop", load={"asking": 0, "idle": 20, "tunnels": 0}, drain="1m") as live:
        case.upgrade()
        until(lambda: processes.stopped(case.old), "the old worker to stop")
        new = case.new
        os.kill(new, signal.SIGTERM)
        os.kill(case.old, signal.SIGKILL)
        until(lambda: not processes.alive(new), "the new worker to end", 4)
        until(lambda: len(live.ended()) == len(live.all), lambda: f"all to end: {live.all}", 5)
