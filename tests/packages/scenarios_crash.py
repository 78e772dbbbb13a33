"""The supervisor dies, hangs or is restarted under load: systemd starts another one, and nobody who connects is sent away."""

import os
import signal
import time

from bed import page, scenario, status, wait_active
from support import processes
from support.client import Client, request
from support.wait import until
from support.wire import Ended
from torture.exchange import IDLE_RACE, LOST, REFUSED, body_for

FIRST = 900_000_000  # of the numbers of requests that are not the load's
WATCHDOG = 2  # seconds; the package has more, and a test less patience


def family(machine):
    return [*machine.processes("tidegate"), *machine.processes("tidegate-worker")]


def gone(pids):
    return not any(os.path.exists(f"/proc/{pid}") for pid in pids)


class Crash:
    """What was before, and what must go on."""

    def __init__(self, machine, traffic):
        self.machine = machine
        self.traffic = traffic
        self.pid = machine.pid()
        self.processes = family(machine)
        self.before = status(machine)
        self.began = time.time()

    def wait_for_the_end_of_the_old(self, seconds=15):
        until(lambda: gone(self.processes), "the old processes to end", seconds)
        self.over = time.time()

    def wait_for_the_new(self):
        wait_active(self.machine, seconds=20)
        until(lambda: self.machine.pid() not in (0, self.pid), "another supervisor", 20)
        self.traffic.progress("answers of the new processes")
        self.after = status(self.machine)

    def check_counters(self):
        """The counters and the generation go on where they were."""
        counted = [found["counters"]["requests_total"] for found in (self.before, self.after)]
        assert counted[1] >= counted[0] > 0, f"requests counted: {counted[0]}, afterwards {counted[1]}"
        generations = [found["generation"] for found in (self.before, self.after)]
        assert generations[1] > generations[0], f"generation {generations[0]}, afterwards {generations[1]}"
        return f"counters go on ({counted[0]:,} -> {counted[1]:,} requests), generation {generations[0]} -> {generations[1]}"

    def check_connections(self, result):
        """No connection was refused; whoever came when the old ones were gone was served."""
        failures = result.verdict.failures
        refused = [one for one in failures if one["outcome"] == REFUSED]
        late = [one for one in failures if one["opened"] and one["opened"] > self.over]
        # A connection that was opened before and lost a request after: it was in the queue, or nobody ended it.
        held = [one for one in failures if one["opened"] and one["opened"] <= self.over and one["at"] > self.over + 3]
        assert not refused, f"{len(refused)} connections refused: {refused[:2]}"
        assert not late, f"{len(late)} connections lost that came after the old processes were gone: {late[:2]}"
        assert not held, f"{len(held)} connections lost long after: {held[:2]}"
        way = {kind: sum(row[outcome] for outcome in (*LOST, IDLE_RACE)) for kind, row in result.verdict.rows.items()}
        lost = ", ".join(f"{count} {kind}" for kind, count in way.items() if count)
        return (f"0 connections refused, 0 lost of those that came afterwards ({result.of('fresh'):,} new ones served)\n"
                f"under way in the processes that died, and lost with them: {lost or 'nothing'}")


@scenario
def killed_supervisor(bed):
    with bed.machine() as machine, bed.traffic(machine) as traffic:
        crash = Crash(machine, traffic)
        machine.kill(crash.pid)
        crash.wait_for_the_end_of_the_old()
        crash.wait_for_the_new()
        again = time.time() - crash.began
        assert machine.property("NRestarts") == "1", machine.property("NRestarts")
        result = traffic.end()
        connections = crash.check_connections(result)
        return (f"workers gone {1000 * (crash.over - crash.began):.0f} ms after the kill, everything served by {again:.1f} s\n"
                f"{connections}\n{crash.check_counters()}")


QUEUE = 200


@scenario
def connections_that_nobody_has_accepted(bed):
    """Workers stand still, so these wait in the accept queues. Then all processes die, and the next ones answer each."""
    with bed.machine() as machine, bed.traffic(machine) as traffic:
        crash = Crash(machine, traffic)
        workers = machine.processes("tidegate-worker")
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        until(lambda: all(processes.stopped(pid) for pid in workers), "the workers to stand still")

        def connect():
            clients = [Client(("127.0.0.1", 80), 30) for _ in range(QUEUE)]
            for number, client in enumerate(clients):
                client.send(request("GET", f"/{FIRST + number}/queued/20"))
            return clients
        clients = machine.in_network(connect)
        machine.kill(crash.pid)
        crash.wait_for_the_end_of_the_old()
        crash.wait_for_the_new()
        answered, lost = 0, []
        for number, client in enumerate(clients):
            try:
                answer = client.response()
                assert answer.status == 200 and answer.body == body_for(FIRST + number, 20), answer.raw
                answered += 1
            except Ended as ended:
                lost.append(str(ended))
            client.close()
        assert not lost, f"{len(lost)} of {QUEUE} connections lost: {lost[:2]}"
        result = traffic.end()
        refused = result.verdict.total(REFUSED)
        assert refused == 0, f"{refused} connections refused"
        return f"{answered} of {QUEUE} connections that waited in the queues were answered by the next processes"


@scenario
def killed_supervisor_again_and_again(bed):
    """Each life gets the descriptors of the one before, also after an upgrade."""
    with bed.machine() as machine, bed.traffic(machine) as traffic:
        machine.do(f"dpkg -i {machine.put(bed.next())}")
        first = None
        for _ in range(4):
            crash = Crash(machine, traffic)
            first = first or crash
            assert crash.before["version"] == bed.next_version, f"{crash.before['version']} is running"
            machine.kill(crash.pid)
            crash.wait_for_the_end_of_the_old()
            crash.wait_for_the_new()
        first.after, first.over = crash.after, crash.over
        result = traffic.end()
        refused = result.verdict.total(REFUSED)
        assert refused == 0, f"{refused} connections refused"
        late = [one for one in result.verdict.failures if one["opened"] and one["opened"] > crash.over]
        assert not late, late[:2]
        restarts = machine.property("NRestarts")
        assert restarts == "4", f"NRestarts {restarts}"
        stored = machine.property("NFileDescriptorStore")
        return (f"4 times after an upgrade: 0 connections refused; {stored} descriptors in the store\n"
                f"{first.check_counters()}")


@scenario
def systemctl_restart(bed):
    with bed.machine() as machine, bed.traffic(machine) as traffic:
        crash = Crash(machine, traffic)
        machine.do("systemctl restart tidegate")
        crash.wait_for_the_end_of_the_old()
        crash.wait_for_the_new()
        result = traffic.end()
        connections = crash.check_connections(result)
        fresh = result.lost["new connections refused or reset"]
        assert fresh == 0, f"a restart in good order lost {fresh} new connections"
        return f"{connections}\n{crash.check_counters()}"


@scenario
def hanging_supervisor(bed):
    """The watchdog's time is shortened to 2 s here."""
    with bed.machine() as machine:
        limit = machine.property("WatchdogUSec")
        assert limit not in ("0", "infinity", ""), f"the unit has no watchdog: {limit}"
        machine.write("/etc/systemd/system/tidegate.service.d/watchdog.conf", f"[Service]\nWatchdogSec={WATCHDOG}\n")
        machine.do("systemctl daemon-reload && systemctl restart tidegate")
        with bed.traffic(machine) as traffic:
            crash = Crash(machine, traffic)
            machine.kill(crash.pid, signal.SIGSTOP)
            traffic.progress("answers of workers whose supervisor hangs")
            crash.wait_for_the_end_of_the_old(WATCHDOG + 10)
            took = crash.over - crash.began
            crash.wait_for_the_new()
            result = traffic.end()
            assert machine.property("NRestarts") == "1", machine.property("NRestarts")
            assert "Watchdog timeout" in machine.journal(), "systemd says nothing of a watchdog"
            return (f"the package's limit is {limit}; with {WATCHDOG} s: noticed after {took:.1f} s, the workers served until then\n"
                    f"{crash.check_connections(result)}\n{crash.check_counters()}")


@scenario
def killed_worker(bed):
    with bed.machine() as machine, bed.traffic(machine) as traffic:
        crash = Crash(machine, traffic)
        victim = machine.processes("tidegate-worker")[-1]
        os.kill(victim, signal.SIGKILL)
        until(lambda: gone([victim]), "the worker to end")
        crash.over = time.time()
        until(lambda: len(machine.processes("tidegate-worker")) == 2, "another worker")
        traffic.progress("answers of the new worker")
        assert machine.pid() == crash.pid and machine.property("NRestarts") == "0"
        result = traffic.end()
        return crash.check_connections(result)


@scenario
def invalid_configuration(bed):
    """A reload of it changes nothing, after a crash what was in force serves, and a restart is not tried again and again."""
    with bed.machine() as machine:
        with bed.traffic(machine) as traffic:
            pid = machine.pid()
            good = machine.do("cat /etc/tidegate/tidegate.json")
            bed.put_config(machine, good.replace('"workers"', '"wrokers"'))
            done = machine.try_("systemctl reload tidegate")
            assert done.code != 0, "systemctl reload says that all is well"
            said = machine.journal()
            assert 'unknown key "wrokers"' in said, f"the journal does not name the fault: {said[-600:]}"
            assert machine.pid() == pid and machine.active() == "active"
            result = traffic.end()
            result.expect_nothing_lost()
        with bed.traffic(machine) as traffic:
            # It has an origin of its own.
            good = machine.do("cat /etc/tidegate/tidegate.json")
            bed.put_config(machine, good.replace('"workers"', '"wrokers"'))
            crash = Crash(machine, traffic)
            machine.kill(crash.pid)
            crash.wait_for_the_end_of_the_old()
            wait_active(machine, seconds=20)
            until(lambda: machine.pid() not in (0, crash.pid), "another supervisor", 20)
            traffic.progress("answers of the new processes")
            crashed = traffic.end()
            connections = crash.check_connections(crashed)
        told = machine.try_("tidegate status")
        assert told.code == 3 and "wrokers" in told.text and "before the crash serves" in told.text, told.text
        assert "before the crash serves" in machine.journal(), "the journal has no warning"
        bed.put_config(machine, good)
        machine.do("tidegate reload && tidegate status")
        bed.put_config(machine, good.replace('"workers"', '"wrokers"'))
        done = machine.try_("systemctl restart tidegate")
        assert done.code != 0
        wait_active(machine, "failed")
        # A restart would come 100 ms later: systemd would be in auto-restart now.
        assert machine.property("SubState") == "failed", machine.property("SubState")
        assert machine.property("ExecMainStatus") == "78", machine.property("ExecMainStatus")
        bed.put_config(machine, good)
        machine.do("systemctl start tidegate")
        assert machine.active() == "active" and page(machine).code == 0
        fault = next(line for line in said.splitlines() if "wrokers" in line)
        return f"reload: {fault.strip()}\ncrash: what was in force serves, status ends with 3\n{connections}\nrestart: exit status 78, failed, no restart; with a valid one it starts\n{result.figures()}"
