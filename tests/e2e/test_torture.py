"""The upgrade torture: clients of every kind under full load, each octet accounted for, while the operator works.

The promise: no request is lost to a reload; to an upgrade none but those that raced the close of an idle kept
connection; to a killed worker none but those inside it."""

import os
import signal
import threading
import time
from collections import Counter

import pytest

from support import processes, report
from support.certificates import make_pair
from support.daemon import CLEAR, basic, copied_binaries
from support.wait import PATIENCE, SMALL, deadline, duration, until
from torture.endings import check_tunnels
from torture.run import Torture

ROUNDS = {"reloads": 8, "upgrades": 4, "kills": 5, "storm": 30, "tls": 3} if SMALL else \
         {"reloads": 50, "upgrades": 20, "kills": 20, "storm": 100, "tls": 10}


@pytest.fixture
def torture():
    with Torture() as running:
        yield running


def configured(torture, **changes):
    """As an operator would have it; drain is longer than the slowest request of the torture."""
    return basic(torture.origin_address, workers=4, logging={"access": None},
                 upgrade={"probation": "200ms", "drain": duration(10)}, **changes)


def alternate(tidegate, number):
    """The configuration of round `number`: each differs from the one before in something that a reload must carry out."""
    tidegate.change(timeouts={"keepalive": f"{70 + number}s"},
                    routes=[{"name": f"round{number}", "upstream": "app"}])


class Before:
    """What must be the same after the rounds."""

    def __init__(self, tidegate, warm=()):
        # The first reload or upgrade ties the supervisor to what it could go back to; from then on nothing may grow.
        if warm:
            tidegate.ok(*warm)
            tidegate.wait_generations(1)
        self.tidegate = tidegate
        self.pid = tidegate.status()["pid"]
        self.descriptors = processes.descriptors(self.pid)

    def check(self, verdict, title, exact=True):
        """No descriptor leaked, nobody left, PID unchanged, counters equal to what the clients saw. Reports the table."""
        tidegate = self.tidegate
        lines = verdict.lines(title)
        status = until(lambda: quiet(tidegate), lambda: f"no connection left: {tidegate.counters()}", 20)
        assert status["pid"] == self.pid == tidegate.pid
        # The commands that asked for the status are gone a moment later.
        after = settled(lambda: processes.descriptors(self.pid), lambda held: len(held) <= len(self.descriptors))
        lines.append(f"  descriptors of the supervisor: {len(self.descriptors)} before, {len(after)} after")
        counters = status["counters"]
        answered = sum(verdict.answers.values())
        lines.append(f"  answers: clients saw {answered}, counted {counters['requests_total']} requests, "
                     f"{counters['responses_2xx']} 2xx; connections: made {verdict.counts['connections']}, "
                     f"counted {counters['connections_accepted']}")
        report.add(lines)
        print("\n".join(lines))
        for failure in verdict.lost_details:
            print("lost:", failure)
        assert verdict.lost == 0, "\n".join(map(str, verdict.lost_details))
        grown = Counter(map(kind, after.values())) - Counter(map(kind, self.descriptors.values()))
        assert len(after) <= len(self.descriptors), f"descriptors leaked: {grown}"
        expected = {pid for entry in status["generations"] for pid in (worker["pid"] for worker in entry["workers"])}
        assert set(tidegate.processes()) == {self.pid} | expected, "a process is left"
        if exact:
            assert counters["requests_total"] == answered
            assert counters["responses_2xx"] == verdict.answers.get(2, 0)
            assert counters["connections_accepted"] == verdict.counts["connections"]
            assert counters["h2_connections"] == verdict.counts["h2_connections"]


def settled(look, good):
    """What `look()` says when it is good, or after a second."""
    end = deadline(1)
    while not good(found := look()) and time.monotonic() < end:
        time.sleep(0.01)
    return found


def kind(target):
    """socket:[123] is a socket, whatever its number; files keep their names."""
    return target.split(":[")[0] if ":[" in target else os.path.basename(target)


def quiet(tidegate):
    status = tidegate.status()
    if len(status["generations"]) == 1 and status["counters"]["connections_active"] == 0:
        return status
    return None


def test_no_request_is_lost_to_reloads(launch, torture):
    tidegate = launch(configured(torture, listeners=[CLEAR]))
    before = Before(tidegate, warm=("reload", "--force"))
    workers = tidegate.workers()
    torture.begin(tidegate.port(), more=["client_h2.py"])
    for number in range(ROUNDS["reloads"]):
        alternate(tidegate, number)
        tidegate.ok("reload")
        if number % 5 == 0:
            torture.progress()
    torture.progress("answers of every kind after the last reload")
    verdict = torture.end()
    assert tidegate.workers() == workers, "a reload starts no process"
    before.check(verdict, f"(a) {ROUNDS['reloads']} reloads")
    assert verdict.counts["idle_closed"] == verdict.counts["goaways"] == 0, "a reload touches no connection"


def test_no_request_is_lost_to_a_storm_of_reloads(launch, torture):
    tidegate = launch(configured(torture))
    before = Before(tidegate, warm=("reload", "--force"))
    torture.begin(tidegate.port())
    outcomes, threads = [], []
    began = time.monotonic()
    for number in range(ROUNDS["storm"]):
        alternate(tidegate, number)
        threads.append(threading.Thread(target=lambda: outcomes.append(tidegate.cli("reload"))))
        threads[-1].start()
        # 100 in 10 s: wait for the tenth of a second that belongs to this one.
        until(lambda n=number: time.monotonic() - began >= (n + 1) * 0.1, "the next request's time")
    for thread in threads:
        thread.join()
    assert [one.code for one in outcomes] == [0] * ROUNDS["storm"], [one.text for one in outcomes if one.code][:3]
    torture.progress("answers of every kind after the storm")
    before.check(torture.end(), f"(d) {ROUNDS['storm']} reload requests in {ROUNDS['storm'] / 10:g} s")


def test_no_request_is_lost_to_upgrades_of_both_binaries(launch, torture, tmp_path):
    binaries = [copied_binaries(tmp_path / name) for name in ("a", "b")]
    tidegate = launch(configured(torture, listeners=[CLEAR]))
    pid = tidegate.pid
    before = Before(tidegate, warm=("upgrade", "--binary", binaries[1]))
    generation = tidegate.generation
    torture.begin(tidegate.port(), more=["client_h2.py"])
    for number in range(ROUNDS["upgrades"]):
        tidegate.ok("upgrade", "--binary", binaries[number % 2], seconds=60)
        assert os.readlink(f"/proc/{pid}/exe") == str(binaries[number % 2]), "the supervisor runs the new binary"
        for worker in tidegate.workers():
            assert os.readlink(f"/proc/{worker}/exe") == str(binaries[number % 2]) + "-worker"
        if number % 5 == 0:
            torture.progress()
    torture.progress("answers of every kind after the last upgrade")
    verdict = torture.end()
    assert tidegate.generation == generation + ROUNDS["upgrades"]
    before.check(verdict, f"(b) {ROUNDS['upgrades']} upgrades of worker and supervisor, PID {pid} unchanged")


def test_no_request_over_tls_is_lost_to_upgrades_and_reloads(launch, torture, tmp_path):
    """HTTP/1.1 and HTTP/2 in one run; every client comes back with its session; tunnels outlive the drain of all else.

    The upgrades do not wait for each other's drains."""
    pair = make_pair(tmp_path, "torture")
    binaries = [copied_binaries(tmp_path / name) for name in ("a", "b")]
    config = configured(torture, certificates=[pair.entry()])
    config["listeners"][0]["tls"] = {}
    config["logging"]["access"] = {"path": "@DIR@/access.log"}
    # Tunnels have longer than exchanges, whose slowest has to fit; no generation is cut short for the number of them.
    drain = 2 + 2 * PATIENCE
    drain_tunnels = drain + 2
    config["upgrade"].update(drain=f"{drain:g}s", drain_tunnels=f"{drain_tunnels:g}s", max_generations=ROUNDS["tls"] + 2)
    tidegate = launch(config)
    before = Before(tidegate, warm=("upgrade", "--binary", binaries[1]))
    phases = [(time.monotonic(), "before the first upgrade")]
    torture.begin(tidegate.port(), pair.cert, more=("client_h2.py", "tunnels.py"))
    torture.progress("answers to clients that come back")
    commits = []
    phases.append((time.monotonic(), "during upgrades"))
    for number in range(ROUNDS["tls"]):
        tidegate.ok("upgrade", "--detach", "--binary", binaries[number % 2], seconds=60)
        commits.append(time.monotonic())
        alternate(tidegate, number)
        tidegate.ok("reload")
        torture.progress(more=3)
    tidegate.wait_generations(1, 30)
    phases.append((time.monotonic(), "after the last upgrade"))
    torture.progress("answers of every kind after the last upgrade", 3)
    verdict = torture.end()
    before.check(verdict, f"(e) {ROUNDS['tls']} upgrades and reloads over TLS")
    check_resumption(verdict, phases, tidegate.counters())
    logged = until(lambda: logged_tunnels(tidegate, len(verdict.tunnels)), "a line of the access log for each tunnel")
    show(check_tunnels(verdict.tunnels, commits, drain_tunnels, logged))
    ended = Counter(one["kind"] for one in verdict.tunnels if one["how"] != "ours")
    assert ended["tunnel"] >= 1 and ended["h2 tunnel"] >= 1, f"the first tunnels were ended: {ended}"
    assert verdict.counts["goaways"] > 0 and verdict.counts["idle_closed"] == 0


def logged_tunnels(tidegate, count):
    lines = [line for line in tidegate.access_lines() if line.get("path", "").endswith("/tunnel/0")]
    return lines if len(lines) >= count else None


def show(lines):
    report.add(lines)
    print("\n".join(lines))


def check_resumption(verdict, phases, counters):
    """Every client but a new one has offered a session, and each was resumed; the proxy has counted the same."""
    rows = verdict.resumption(phases)
    rates = ", ".join(f"{row['resumed']} of {row['offered']} {name}" for name, row in rows.items())
    show([f"  resumed of offered sessions: {rates}; {sum(row['first'] for row in rows.values())} handshakes of new clients"])
    for name, row in rows.items():
        assert 0 < row["resumed"] == row["offered"] == row["handshakes"] - row["first"], f"{name}: {row}"
    total = sum(rows.values(), Counter())
    assert (counters["tls_handshakes"], counters["tls_resumed"]) == (total["handshakes"], total["resumed"])


def test_no_request_is_lost_to_killed_workers_but_those_inside(launch, torture):
    tidegate = launch(configured(torture))
    before = Before(tidegate)
    port = tidegate.port()
    torture.begin(port)
    for number in range(ROUNDS["kills"]):
        workers = tidegate.workers()
        victim = workers[number % len(workers)]
        # Stopped first: so what it holds at its death is known exactly.
        os.kill(victim, signal.SIGSTOP)
        until(lambda v=victim: processes.stopped(v), "the worker to stop")
        torture.killed_ports |= processes.client_ports(victim, port)
        os.kill(victim, signal.SIGKILL)
        until(lambda v=victim: replaced(tidegate, v), f"a new worker instead of {victim}", 20)
        if number % 5 == 0:
            torture.progress()
    torture.progress("answers of every kind after the last kill")
    verdict = torture.end()
    # What was answered and not yet counted died with its worker: the counters may differ by what was inside.
    before.check(verdict, f"(c) {ROUNDS['kills']} kill -9 of workers", exact=False)
    counters = tidegate.counters()
    answered = sum(verdict.answers.values())
    inside = len(torture.killed_ports)
    assert abs(counters["requests_total"] - answered) <= inside
    assert abs(counters["connections_accepted"] - verdict.counts["connections"]) <= inside


def replaced(tidegate, victim):
    workers = tidegate.workers()
    return victim not in workers and len(workers) == 4
