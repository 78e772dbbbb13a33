"""The system around the service: logs that are rotated, libraries that are replaced, hardening, sockets of systemd."""

import gzip
import json
import re

import repack
from bed import dpkg_install, ours, page, proxy, scenario, status, wait_active
from rig import FETCHED_AGAIN
from support import processes
from support.wait import until
from traffic import Traffic

LIBRARY = "libssl.so.3"
LIMIT = 2.0  # of the exposure that systemd-analyze finds


@scenario
def log_rotation(bed):
    with bed.machine() as machine, bed.traffic(machine) as traffic:
        logs = machine.path("/var/log/tidegate")
        for _ in range(2):
            machine.do("logrotate -f /etc/logrotate.d/tidegate")
            traffic.progress("answers after a rotation")
            until(lambda: (logs / "access.log").stat().st_size > 0, "lines in the new file")
        owner = machine.do("stat -c '%U:%G %a' /var/log/tidegate/access.log")
        assert owner == "tidegate:tidegate 640", owner
        result = traffic.end()
        result.expect_nothing_lost()
        exchanges = ("fresh", "busy", "idle", "download", "upload", "websocket")
        expected = result.of(*exchanges)

        def lines():
            found = []
            for file in sorted(logs.iterdir()):
                octets = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
                found += [json.loads(line) for line in octets.decode().splitlines()]
            return found
        until(lambda: len(lines()) >= expected, lambda: f"{expected} lines in the logs; there are {len(lines())}", 10)
        numbers = [line["path"].split("/")[1] for line in lines()]
        found = (len(numbers), len(set(numbers)))
        assert found == (expected, expected), f"{expected} exchanges, {found[0]} lines, {found[1]} different"
        files = sorted(file.name for file in logs.iterdir())
        return f"2 rotations under load: {expected:,} exchanges, {len(numbers):,} lines in {', '.join(files)}; new file {owner}"


@scenario
def log_rotation_without_an_answer(bed):
    """The program on the disk does not run, then the daemon does not."""
    rotate = "logrotate -f /etc/logrotate.d/tidegate"
    with bed.machine() as machine:
        log = machine.path("/var/log/tidegate/access.log")
        assert dpkg_install(machine, bed.next(repack.BAD[2])).code == 0
        assert machine.try_("tidegate version").code != 0, "the program runs"
        pid = machine.pid()
        machine.do(rotate)
        assert page(machine).out.endswith("\n200")
        until(lambda: log.stat().st_size > 0, "a line in the new file")
        assert machine.pid() == pid and machine.active() == "active"
        machine.do("systemctl stop tidegate")
        machine.do(rotate)
        assert log.stat().st_size == 0
        return "the daemon took the signal; without a daemon nothing complains"


# It replaces no library and no program that runs.
UNRELATED = "NEEDRESTART_MODE=a apt-get install -y --reinstall needrestart 2>&1"
HOOK = "restart.d/tidegate.service"


@scenario
def library_update_through_needrestart(bed):
    library = FETCHED_AGAIN[bed.suite]
    with bed.machine() as machine:
        machine.do("apt-get install -y --no-install-recommends needrestart", 300)
        with bed.traffic(machine) as traffic:
            before = status(machine)
            assert libraries(machine) == {"in place"}, libraries(machine)
            # What an update of it does to those that run: the file that they have mapped is deleted.
            done, _, _ = traffic.during(machine.try_, f"NEEDRESTART_MODE=a apt-get install -y --reinstall {library} 2>&1")
            assert done.code == 0, done.text
            after = status(machine)
            said = [line.strip() for line in done.text.splitlines() if "tidegate" in line]
            assert machine.pid() == before["pid"] == after["pid"], f"it was restarted: {done.text[-1500:]}"
            assert machine.property("NRestarts") == "0"
            assert after["generation"] == before["generation"] + 1, f"generation {after['generation']}: {done.text[-1500:]}"
            # The old workers go; until then needrestart asks again.
            machine.do(UNRELATED, 300)
            assert status(machine)["generation"] == after["generation"], "another run of apt made another generation"
            until(lambda: libraries(machine) == {"in place"}, lambda: f"workers with the new file: {libraries(machine)}", 20)
            result = traffic.end()
            result.expect_nothing_lost()
            return (f"{library} was replaced; needrestart said: {said}; generation {before['generation']} -> {after['generation']}, "
                    f"MainPID {before['pid']} as before, workers have mapped the new file\n{result.figures()}")


@scenario
def needrestart_and_upgrades(bed):
    """It asks at every run of apt, for a version that was refused, and for workers that drain. Once was enough."""
    with bed.machine() as machine:
        machine.do("apt-get install -y --no-install-recommends needrestart", 300)
        # Tunnels stay with the old workers until the end of the load.
        limits = {"probation": "1500ms", "drain": "5m", "drain_tunnels": "5m", "hand_over": False}
        with bed.traffic(machine, upgrade=limits) as traffic:
            before = status(machine)

            def asked(what):
                done, _, _ = traffic.during(machine.try_, UNRELATED, 300)
                assert done.code == 0 and HOOK in done.text, f"needrestart did not ask {what}: {done.text[-1500:]}"
                return [line for line in ours(done) if line.startswith("tidegate: ")]

            done, _, _ = traffic.during(dpkg_install, machine, bed.next(repack.BAD[0]))
            assert done.code == 0, done.text
            refused = status(machine)["counters"]["upgrades_failed"]
            said = [asked("about a version that was refused") for _ in range(2)]
            now = status(machine)
            assert (now["version"], now["generation"]) == (bed.version, before["generation"]), now
            assert now["counters"]["upgrades_failed"] == refused == before["counters"]["upgrades_failed"] + 1, "it was tried again"
            assert all(len(lines) == 1 for lines in said), said

            done, _, _ = traffic.during(dpkg_install, machine, bed.next())
            assert done.code == 0, done.text
            for _ in range(2):
                lines = asked("about workers that drain")
                assert not lines, lines
            now = status(machine)
            assert (now["version"], now["generation"]) == (bed.next_version, before["generation"] + 1), now
            assert [one["state"] for one in now["generations"]].count("draining") == 1, now["generations"]
            assert machine.pid() == before["pid"] and machine.property("NRestarts") == "0"
            result = traffic.end()
            # Kept connections end with the old workers where nothing is handed over.
            lost = {what: count for what, count in result.lost.items() if count and what != "kept connections closed"}
            assert not lost, f"lost: {lost}"
            return (f"a refused version: tried once, then {said[0][0]!r}; a good one: generation {before['generation']} -> "
                    f"{now['generation']}, also after two more runs of apt")


def libraries(machine):
    """What the workers have mapped of the library: files that are in place, or deleted ones."""
    found = set()
    for pid in machine.processes("tidegate-worker"):
        with open(f"/proc/{pid}/maps", encoding="latin-1") as maps:
            found |= {"deleted" if line.rstrip().endswith("(deleted)") else "in place" for line in maps if LIBRARY in line}
    return found


@scenario
def hardening(bed):
    """The figure is worth something only while the proxy serves under it."""
    with bed.machine() as machine, bed.traffic(machine) as traffic:
        report = machine.do("systemd-analyze security --no-pager tidegate.service")
        score = float(re.search(r"Overall exposure level for tidegate.service: ([\d.]+)", report).group(1))
        confined = [worker["confinement"] for generation in status(machine)["generations"] for worker in generation["workers"]]
        assert all(one[what]["in_force"] for one in confined for what in ("seccomp", "landlock")), f"workers say: {confined}"
        for pid in machine.processes("tidegate-worker"):
            found = [processes.status_field(pid, name) for name in ("Seccomp", "NoNewPrivs", "CapPrm", "CapAmb")]
            assert found == ["2", "1", "0" * 16, "0" * 16], f"a worker has Seccomp, NoNewPrivs, CapPrm, CapAmb {found}"
        traffic.progress()
        result = traffic.end()
        result.expect_nothing_lost()
        assert score <= LIMIT, f"exposure {score} is over {LIMIT}"
        return (f"exposure {score}, workers without capabilities, confined by seccomp and Landlock, while they serve:\n"
                f"{result.figures()}")


@scenario
def socket_of_systemd(bed):
    with bed.machine() as machine:
        assert machine.try_("systemctl is-enabled tidegate.socket").out.strip() == "disabled"

        def configure(port):
            machine.do("systemctl stop tidegate")
            bed.put_config(machine, proxy(port, listeners=[{"name": "web", "bind": "systemd:web"}]))
            machine.do("systemctl enable --now tidegate.socket")
            # The socket is there first; the first connection starts the service.
            assert machine.active() == "inactive"
            assert page(machine, "/900000001/x/1").out.endswith("\n200"), page(machine, "/900000002/x/1").text
            wait_active(machine)
        with Traffic(machine, configure) as traffic:
            pid = machine.pid()
            done, _, _ = traffic.during(dpkg_install, machine, bed.next())
            assert done.code == 0, done.text
            assert (machine.pid(), status(machine)["version"]) == (pid, bed.next_version)
            result = traffic.end()
            result.expect_nothing_lost()
        # Its queue outlives the service.
        machine.do("systemctl stop tidegate")
        assert machine.active("tidegate.socket") == "active"
        assert page(machine, "/900000003/x/1").out.endswith(("\n200", "\n502")), page(machine).text
        return f"started by the first connection; upgraded to {bed.next_version} with it\n{result.figures()}"


@scenario
def the_same_package_again(bed):
    """Its files are put in the place of equal ones, which nobody may notice either."""
    with bed.machine() as machine, bed.traffic(machine) as traffic:
        pid, before = machine.pid(), status(machine)["generation"]
        done, _, _ = traffic.during(dpkg_install, machine, bed.deb)
        assert done.code == 0, done.text
        after = status(machine)
        assert (machine.pid(), after["version"]) == (pid, bed.version), after
        assert not ours(done), ours(done)
        result = traffic.end()
        result.expect_nothing_lost()
        return f"generation {before} -> {after['generation']}\n{result.figures()}"
