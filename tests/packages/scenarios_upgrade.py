"""A new version under load: a good one, bad ones, an older one, one whose conffile has changed."""

import json
import os
import re
import time
from pathlib import Path

import repack
from bed import PROBATION, dpkg_install, installed_version, ours, package_state, scenario, status, wait_active
from support.wait import until


class Before:
    """What an upgrade must leave as it is."""

    def __init__(self, machine):
        self.machine = machine
        self.pid = machine.pid()
        self.state = status(machine)

    def check(self, version, generations):
        """The same supervisor serves, as `version`, `generations` later; systemd has started nothing."""
        now = status(self.machine)
        assert self.machine.pid() == self.pid == now["pid"], f"MainPID {self.pid} became {self.machine.pid()}"
        assert now["version"] == version, f"status says {now['version']}, not {version}"
        assert now["generation"] == self.state["generation"] + generations, f"generation {now['generation']}"
        restarts = self.machine.property("NRestarts")
        assert restarts == "0", f"NRestarts {restarts}"
        assert self.machine.active() == "active"


def no_error_in_the_journal(machine):
    bad = machine.journal(more="-p err")
    bad += "\n".join(line for line in machine.journal().splitlines() if re.match(r"\S+Z error ", line))
    assert not bad, f"errors in the journal: {bad[:1500]}"


def slow_ones_lasted(result, started):
    """Of the slow ones some began before the new workers, and ended when the old ones had to drain."""
    over = result.over(started, started + PROBATION + 0.1)
    assert all(over.values()), f"no download or no upload lasted over the upgrade: {over}"
    return f"{over['download']} downloads and {over['upload']} uploads lasted over it"


def newest_worker(machine):
    """When the newest worker was started, as time.time()."""
    now, up = time.time(), float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    ticks = [int(Path(f"/proc/{pid}/stat").read_text(encoding="latin-1").rsplit(")", 1)[1].split()[19])
             for pid in machine.processes("tidegate-worker")]
    return now - up + max(ticks) / os.sysconf("SC_CLK_TCK")


@scenario
def upgrade_under_load(bed):
    with bed.machine() as machine, bed.traffic(machine) as traffic:
        before = Before(machine)
        done, began, ended = traffic.during(dpkg_install, machine, bed.next())
        assert done.code == 0, done.text
        started = newest_worker(machine)
        before.check(bed.next_version, 1)
        result = traffic.end()
        result.expect_nothing_lost()
        lasted = slow_ones_lasted(result, started)
        no_error_in_the_journal(machine)
        assert package_state(machine) == "ii"
        return (f"{bed.package} -> {bed.next_package}, MainPID {before.pid} as before, dpkg took {ended - began:.1f} s\n"
                f"{result.figures()}\n{lasted}; dpkg's output: {ours(done)}")


# What the journal says of each: that the fault is the one that was made.
WHY = dict(zip(repack.BAD, ("upgrade failed in prepare", "upgrade failed in probation", "error while loading shared libraries")))


def bad_version(bed, bad):
    with bed.machine() as machine, bed.traffic(machine) as traffic:
        before = Before(machine)
        done, _, _ = traffic.during(dpkg_install, machine, bed.next(bad))
        assert done.code == 0, f"dpkg ended with {done.code}: {done.text}"
        assert package_state(machine) == "ii", package_state(machine)
        assert WHY[bad] in machine.journal(), f"the journal does not say {WHY[bad]!r}: {machine.journal()[-1500:]}"
        lines = ours(done)
        assert len(lines) == 1, f"not one line of ours but {len(lines)}: {lines}"
        assert machine.pid() == before.pid, f"MainPID {before.pid} became {machine.pid()}"
        running = running_status(machine)
        assert running["version"] == bed.version, f"{running['version']} is running"
        assert machine.property("NRestarts") == "0" and machine.active() == "active"
        traffic.progress("answers of the old version")
        # The repaired one goes over it.
        again, _, _ = traffic.during(dpkg_install, machine, bed.next())
        assert again.code == 0, again.text
        now = status(machine)
        assert (now["version"], now["pid"]) == (bed.next_version, before.pid), f"after the good one: {now['version']}, {now['pid']}"
        result = traffic.end()
        result.expect_nothing_lost()
        return f"dpkg returned 0 and said: {lines[0]}\n{result.figures()}"


def running_status(machine):
    """The status, also when the program on the disk cannot run: the running one is asked by itself."""
    done = machine.try_(f"/proc/{machine.pid()}/exe status --json")
    assert done.code in (0, 3), f"status ended with {done.code}: {done.text}"
    return json.loads(done.out)


@scenario
def bad_version_that_crashes_at_start(bed):
    return bad_version(bed, repack.BAD[0])


@scenario
def bad_version_that_crashes_in_the_probation(bed):
    return bad_version(bed, repack.BAD[1])


@scenario
def bad_version_whose_supervisor_cannot_run(bed):
    return bad_version(bed, repack.BAD[2])


@scenario
def downgrade_under_load(bed):
    with bed.machine() as machine:
        machine.do(f"dpkg -i {machine.put(bed.next())}")
        with bed.traffic(machine) as traffic:
            before = Before(machine)
            assert before.state["version"] == bed.next_version
            done, _, _ = traffic.during(dpkg_install, machine, bed.deb)
            assert done.code == 0, done.text
            before.check(bed.version, 1)
            result = traffic.end()
            result.expect_nothing_lost()
        assert installed_version(machine) == bed.package
        return f"{bed.next_package} -> {bed.package}\n{result.figures()}"


@scenario
def upgrades_one_after_the_other(bed):
    """Nothing may add up."""
    with bed.machine() as machine, bed.traffic(machine) as traffic:
        before = Before(machine)
        turns = 3
        for turn in range(turns):
            done, _, _ = traffic.during(dpkg_install, machine, bed.deb if turn % 2 else bed.next())
            assert done.code == 0, done.text
            # An upgrade that is answered may drain yet, and only so many generations may exist: over it the oldest is cut short.
            until(lambda: len(status(machine)["generations"]) < 3, "one generation at most to drain", 30)
        before.check(bed.next_version, turns)
        result = traffic.end()
        result.expect_nothing_lost()
        until(lambda: len(machine.processes("tidegate-worker")) == 2, "only the workers of one generation", 30)
        wait_active(machine)
        return f"{turns} upgrades and downgrades, MainPID {before.pid} as before\n{result.figures()}"


EDITED = "// edited by the administrator\n"


@scenario
def edited_conffile_is_kept(bed):
    """By either answer to dpkg's question, which it asks as the package has another conffile, too."""
    lines = []
    for option in ("--force-confold", "--force-confdef"):
        with bed.machine() as machine:
            text = EDITED + machine.do("cat /etc/tidegate/tidegate.json") + "\n"
            bed.put_config(machine, text)
            machine.do("tidegate reload --force")
            before = Before(machine)
            done = dpkg_install(machine, bed.next(conffile_line="// of the next version"), option)
            assert done.code == 0, done.text
            assert machine.path("/etc/tidegate/tidegate.json").read_text() == text, "the edited file was touched"
            before.check(bed.next_version, 1)
            beside = machine.do("ls /etc/tidegate")
            lines.append(f"{option}: {' '.join(beside.split())}")
    return "kept; " + "; ".join(lines)
