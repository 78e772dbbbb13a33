"""One proxy that replaces itself again and again under load: bench_torture (connections and tunnels) and bench_bulk (one tunnel
that is hardly ever silent) beside it."""

import json
import random
import select
import signal
import subprocess
import threading
import time

from peers import Place
from processes import CORES, CoreTimes, Fault, Process, Usage, own_seconds

# Nothing is waited for longer: a proxy that takes so long has failed.
PATIENCE = 30
PROBATION = 0.5
# How long an upgrade counts as one at least; it does so until a while behind its hand-over, too.
WINDOW, BEHIND = 1.0, 0.3
# Before the first upgrade, and again when the last has drained.
QUIET = 8
# Aligned wake-ups a second: as often during upgrades as without, or the latencies could not be compared.
WAKE_UPS = 4


class EveryCore:
    """Proxy, origin and load share the machine: pinned, a new generation would start on the core of the old one alone."""
    proxy = load = used = CORES


# --- one upgrade

class WatchedUpgrade:
    """Of a Tidegate: its phases are read while it goes on."""
    drains_after = PROBATION

    def __init__(self, running):
        self.begun = time.monotonic()
        self.committed_at = self.handed_over_at = None
        self.moved, self.fault = None, None
        self.changed = threading.Condition()
        self.popen = running.replace("watched upgrade")
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        last = {}
        for line in self.popen.stdout:
            with self.changed:
                last = json.loads(line)
                phase, state = last.get("phase", ""), last.get("state")
                if phase == "commit" and state == "ok":
                    self.committed_at = time.monotonic()
                if phase.startswith("hand") and last.get("text"):
                    self.moved = last["text"]
                if phase == "drain" and not self.handed_over_at:
                    self.handed_over_at = time.monotonic()
                self.changed.notify_all()
        said = self.popen.stderr.read().strip()
        code = self.popen.wait()
        with self.changed:
            if code != 0 or not self.handed_over_at:
                self.fault = f"the upgrade ended with {code}: {(said or last.get('message') or '')[-300:]}"
            self.changed.notify_all()

    def wait(self, name):
        with self.changed:
            if not self.changed.wait_for(lambda: getattr(self, name) or self.fault, PATIENCE):
                raise Fault(f"an upgrade is not {name[:-3].replace('_', ' ')} after {PATIENCE} s")
            if self.fault:
                raise Fault(self.fault)
            return getattr(self, name)

    def wait_for_commit(self):
        return self.wait("committed_at")

    def wait_for_hand_over(self):
        return self.wait("handed_over_at")

    def is_over(self):
        return not self.reader.is_alive()

    def end(self):
        """The fault of one that ended badly after its hand-over; one that does not end is killed."""
        self.reader.join(PATIENCE)
        if self.reader.is_alive():
            self.popen.kill()
            self.reader.join()
            return f"an upgrade did not end within {PATIENCE} s"
        return self.fault


class SignalledReload:
    """Of a peer, which says nothing: committed is when as many new workers are there as it had. The signal is repeated when
    nothing comes of it: HAProxy's master can miss one that comes while it starts anew."""
    moved = None
    REPEATED_AFTER = 3

    def __init__(self, running, workers, drains_after):
        self.running, self.workers, self.drains_after = running, workers, drains_after
        self.before = set(running.serving())
        self.begun = self.signalled = time.monotonic()
        running.replace("upgrade")

    def wait_for_commit(self):
        while len(set(self.running.serving()) - self.before) < self.workers:
            now = time.monotonic()
            if now > self.begun + PATIENCE:
                raise Fault(f"{PATIENCE} s after the signal there are no {self.workers} new workers")
            if now > self.signalled + self.REPEATED_AFTER:
                self.signalled = now
                self.running.replace("upgrade")
            time.sleep(0.002)
        self.committed_at = time.monotonic()
        return self.committed_at

    def wait_for_hand_over(self):
        return self.committed_at + self.drains_after

    def is_over(self):
        return True

    def end(self):
        return None


class Upgrader:
    """Begins upgrades of one proxy, and keeps those that still drain."""
    # When old workers begin to close, after the new ones are there: nginx tells them 0.1 s later, HAProxy's new worker tells
    # them when it has started.
    DRAINS_AFTER = {"nginx": 0.1, "haproxy": 0.03}

    def __init__(self, peer, running):
        self.peer, self.running = peer, running
        self.workers = len(running.serving())
        self.all, self.open = [], []

    def begin(self):
        for one in [one for one in self.open if one.is_over()]:
            self.finish(one)
        if self.peer.kind == "tidegate":
            upgrade = WatchedUpgrade(self.running)
        else:
            upgrade = SignalledReload(self.running, self.workers, self.DRAINS_AFTER[self.peer.name])
        self.all.append(upgrade)
        self.open.append(upgrade)
        return upgrade

    def finish(self, upgrade):
        self.open.remove(upgrade)
        fault = upgrade.end()
        if fault:
            raise Fault(fault)

    def finish_all(self):
        for one in list(self.open):
            self.finish(one)


# --- the programs beside it

class Client:
    """bench_torture or bench_bulk: obeys lines, ends with one JSON object."""

    def __init__(self, name, command, directory):
        self.name = name
        with open(directory / f"{name}.log", "ab") as log:
            self.popen = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                          stderr=log, text=True, bufsize=1)
        self.log = directory / f"{name}.log"
        # What comes before it is ready comes on one line, so that nothing else is read ahead.
        if not select.select([self.popen.stdout], [], [], 2 * PATIENCE)[0] or self.popen.stdout.readline() != "ready\n":
            self.kill()
            raise Fault(f"{name} did not get ready: {self.log.read_text().strip()[-300:]}")

    def tell(self, word):
        try:
            self.popen.stdin.write(word + "\n")
        except BrokenPipeError:
            raise Fault(f"{self.name} ended: {self.log.read_text().strip()[-300:]}") from None

    def has_ended(self):
        return self.popen.poll() is not None

    def result(self, word, seconds):
        try:
            out, _ = self.popen.communicate(None if self.has_ended() else word + "\n", timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Fault(f"{self.name} did not end within {seconds} s") from None
        lines = out.strip().splitlines()
        if not lines:
            raise Fault(f"{self.name} said nothing: {self.log.read_text().strip()[-300:]}")
        return json.loads(lines[-1])

    def kill(self):
        if not self.has_ended():
            self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()


class Stage:
    """A proxy between an origin and whoever loads it; everything on it is stopped at the end."""

    def __init__(self, row, origin_command, directory):
        self.row, self.directory = row, directory
        directory.mkdir()
        directory.chmod(0o755)
        self.origin = Process("origin", origin_command, directory, CORES, reads_output=True)
        self.running, self.clients = None, []

    def __enter__(self):
        try:
            port = int(self.origin.popen.stdout.readline())
            self.running = self.row.peer.start(self.row.setup, Place(self.directory, EveryCore, [port]))
            self.upgrader = Upgrader(self.row.peer, self.running)
        except BaseException:
            self.__exit__()
            raise
        return self

    def client(self, name, *command):
        client = Client(name, command, self.directory)
        self.clients.append(client)
        return client

    def __exit__(self, *_):
        for client in self.clients:
            client.kill()
        if self.running:
            self.running.stop()
        self.origin.stop()


class Noise:
    """What else ran on the machine."""

    def __init__(self, stage):
        self.stage = stage
        self.before = self.now()

    def now(self):
        return CoreTimes(), own_seconds(), Usage(self.stage.origin.pid), Usage(self.stage.running.pid)

    def percent(self):
        """To be asked when the client has ended."""
        cores, own, origin, proxy = self.now()
        wall, busy, stolen = cores.since(self.before[0], CORES)
        ours = own - self.before[1] + origin.since(self.before[2])[0] + proxy.since(self.before[3])[0]
        return {"busy_percent": 100 * busy / (wall * len(CORES)), "stolen_percent": 100 * stolen / (wall * len(CORES)),
                "foreign_percent": 100 * max(0.0, busy - ours) / (wall * len(CORES))}


# --- the two tortures

def sleep_until(moment):
    time.sleep(max(0.0, moment - time.monotonic()))


def play(client, words):
    """Says each at its time; `words`: (time, word)."""
    for moment, word in sorted(words):
        sleep_until(moment)
        client.tell(word)


def at_random(draw, begin, end):
    return [(draw.uniform(begin, end), "wake") for _ in range(round(WAKE_UPS * (end - begin)))]


def wake_in_upgrade(upgrade, draw):
    """Right behind the commit, about when old workers begin to close, and at random."""
    committed = upgrade.committed_at
    aimed = [draw.uniform(0, 0.03), upgrade.drains_after + draw.uniform(-0.02, 0.03)]
    return [(committed + one, "wake") for one in aimed] + at_random(draw, committed, committed + WINDOW)[len(aimed):]


def wake_at_deadline(upgrade, drain, draw):
    """Those that said nothing while the old workers drained say it when these give up waiting."""
    return upgrade.committed_at + upgrade.drains_after + drain + draw.uniform(-0.02, 0.03), "wake late"


def quiet(client, draw):
    client.tell("quiet")
    begin = time.monotonic()
    play(client, at_random(draw, begin, begin + QUIET) + [(draw.uniform(begin, begin + QUIET), "wake late")])
    sleep_until(begin + QUIET)


def upgrade_once(client, upgrader, options, draw):
    client.tell("upgrade")
    upgrade = upgrader.begin()
    upgrade.wait_for_commit()
    play(client, wake_in_upgrade(upgrade, draw))
    sleep_until(max(upgrade.wait_for_hand_over() + BEHIND, upgrade.begun + WINDOW))
    client.tell("between")
    late = wake_at_deadline(upgrade, options.drain, draw)
    # Nothing of this upgrade is left when the next begins.
    begin, end = time.monotonic(), late[0] + 1
    play(client, at_random(draw, begin, end) + [late])
    sleep_until(end)


def handed_over(running):
    """What a Tidegate itself counted of its hand-overs, by the names of its counters."""
    if "status" not in running.commands:
        return {}
    done = subprocess.run(running.commands["status"], capture_output=True, text=True, timeout=PATIENCE, check=True)
    counters = json.loads(done.stdout.splitlines()[-1]).get("counters", {})
    return {name: value for name, value in counters.items() if "hand" in name and "handshake" not in name and value}


def many_connections(row, options, programs, directory):
    """Keep-alive connections and tunnels through upgrades: what bench_torture counted, and what the upgrades took."""
    draw = random.Random(6)
    with Stage(row, [programs / "bench_origin", 1], directory) as stage:
        noise = Noise(stage)
        client = stage.client("torture", programs / "bench_torture", stage.running.port, options.connections, options.rate,
                              options.tunnels, options.messages)
        quiet(client, draw)
        for _ in range(options.upgrades):
            upgrade_once(client, stage.upgrader, options, draw)
        if options.upgrades:
            quiet(client, draw)
        counts = client.result("stop", 2 * PATIENCE)
        stage.upgrader.finish_all()
        took = [upgrade.committed_at - upgrade.begun for upgrade in stage.upgrader.all]
        moved = [upgrade.moved for upgrade in stage.upgrader.all if upgrade.moved]
        return counts | noise.percent() | {"upgrades": len(took), "to_commit_seconds": took, "moved": moved,
                                           "handed_over": handed_over(stage.running)}


def bulk(row, options, programs, directory):
    """A tunnel that is hardly ever silent: whether it lived through all upgrades and how many there were meanwhile."""
    with Stage(row, [programs / "bench_bulk", "origin"], directory) as stage:
        client = stage.client("bulk", programs / "bench_bulk", "client", stage.running.port, options.bulk_mib,
                              options.bulk_rate)
        lived = 0
        while lived < options.bulk_upgrades and not client.has_ended():
            upgrade = stage.upgrader.begin()
            upgrade.wait_for_commit()
            sleep_until(max(upgrade.wait_for_hand_over(), upgrade.begun + 1))
            lived += 0 if client.has_ended() else 1
        if not client.has_ended() and options.bulk_upgrades:
            # What the last upgrade left to drain has its deadline, too.
            end = time.monotonic() + options.drain + 1
            while time.monotonic() < end and not client.has_ended():
                time.sleep(0.05)
        result = client.result("stop", options.bulk_mib / options.bulk_rate + 2 * PATIENCE)
        stage.upgrader.finish_all()
        return result | {"upgrades": lived}
