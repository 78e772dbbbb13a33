"""The life of the package on a disk: installed, denied, stopped by its administrator, removed, purged, installed again."""

import json

from bed import dpkg_install, installed_version, ours, package_state, page, proxy, scenario, status, wait_active
from support.wait import until

def policy(machine, answer):
    """`answer`: lines of sh, with the name of the service in $1 and the action in $2."""
    machine.write("/usr/sbin/policy-rc.d", f"#!/bin/sh\n{answer}\n", 0o755)


DENY = "exit 101"


@scenario
def install_into_a_bare_root(bed):
    """Nothing but Debian's own archive; the page answers at once."""
    with bed.bare() as machine:
        done = machine.try_(f"apt-get install -y {machine.put(bed.deb)}", 300)
        assert done.code == 0, done.text
        fetched = machine.do("dpkg-query -W -f '${Package}\n' | wc -l")
        wait_active(machine)
        answer = page(machine)
        assert answer.code == 0 and answer.out.endswith("\n200"), answer.text
        assert "tidegate" in answer.out.lower(), answer.out
        assert machine.do("systemctl is-enabled tidegate") == "enabled"
        assert machine.property("NRestarts") == "0"
        assert status(machine)["version"] == bed.version
        owner = machine.do("stat -c '%U:%G %a' /var/log/tidegate /etc/tidegate/tidegate.json")
        missing = machine.try_("dpkg --verify tidegate")
        assert missing.code == 0 and not missing.out, missing.text
        return (f"{fetched} packages in the root; the page says: {answer.out.splitlines()[0]}\n"
                f"logs and conffile: {', '.join(owner.splitlines())}")


def left(machine):
    """What the file system has of Tidegate, without the package that was put into /root."""
    # /run is a file system of its own; in it systemd and systemd-nspawn have names of their own, too.
    pruned = " -o ".join(f"-path {folder}" for folder in ("/proc", "/sys", "/root", "/tmp", "/run/systemd", "/run/host"))
    return machine.do(f"find / /run -xdev \\( {pruned} \\) -prune -o -iname '*tidegate*' -print | sort").split()


@scenario
def removed_purged_and_installed_again(bed):
    with bed.machine() as machine:
        pid = machine.pid()
        machine.write("/etc/tidegate/conf.d/mine.json", "{}\n")
        machine.do("apt-get remove -y tidegate")
        until(lambda: not machine.processes("tidegate") and not machine.processes("tidegate-worker"), "all processes to end")
        assert page(machine).code == 7, "port 80 still answers"
        assert package_state(machine) == "rc"
        assert machine.try_("systemctl --failed --no-legend").out.strip() == ""
        kept = left(machine)
        assert "/etc/tidegate/tidegate.json" in kept, kept
        # Again, with the conffiles that are there.
        again = machine.try_(f"apt-get install -y {machine.put(bed.deb)}", 120)
        assert again.code == 0, again.text
        wait_active(machine)
        assert page(machine).out.endswith("\n200")
        assert machine.pid() != pid and machine.do("systemctl is-enabled tidegate") == "enabled"
        machine.do("rm /etc/tidegate/conf.d/mine.json")
        machine.do("apt-get purge -y tidegate")
        gone = left(machine)
        user = machine.try_("getent passwd tidegate").out.strip()
        # dpkg's own lists know nothing of a package that was purged either.
        assert gone == [], f"purge leaves {gone}"
        units = machine.do("systemctl list-units --all --no-legend 'tidegate*'")
        assert "tidegate" not in units, units
        # And once more, as new.
        assert machine.try_(f"apt-get install -y {machine.put(bed.deb)}", 120).code == 0
        wait_active(machine)
        assert page(machine).out.endswith("\n200")
        return (f"remove stopped it and left {len(kept)} paths ({', '.join(kept)})\n"
                f"purge left nothing but the user: {user}")


@scenario
def purge_keeps_what_an_administrator_put_there(bed):
    with bed.machine() as machine:
        machine.write("/etc/tidegate/conf.d/mine.json", "{}\n")
        mounted = "/var/log/tidegate/archive"
        machine.do(f"mkdir {mounted} && mount -t tmpfs archive {mounted} && touch {mounted}/old.log")
        done = machine.try_("apt-get purge -y tidegate")
        assert done.code == 0, done.text
        assert left(machine) == ["/etc/tidegate", "/var/log/tidegate"], left(machine)
        assert machine.path("/etc/tidegate/conf.d/mine.json").exists()
        assert machine.do("find /var/log/tidegate -type f") == f"{mounted}/old.log"
        return "conf.d/mine.json is there, and what is mounted below a folder of ours, nothing else"


@scenario
def a_policy_that_denies_is_obeyed(bed):
    lines = []
    with bed.bare() as machine:
        policy(machine, DENY)
        done = machine.try_(f"apt-get install -y {machine.put(bed.deb)}", 300)
        assert done.code == 0, done.text
        assert machine.active() == "inactive" and not machine.processes("tidegate"), "the installation has started it"
        lines.append("installed, nothing was started")
    with bed.machine() as machine, bed.traffic(machine) as traffic:
        policy(machine, DENY)
        pid, workers = machine.pid(), machine.processes("tidegate-worker")
        done, _, _ = traffic.during(dpkg_install, machine, bed.next())
        assert done.code == 0, done.text
        assert (installed_version(machine), package_state(machine)) == (bed.next_package, "ii")
        assert machine.pid() == pid and machine.processes("tidegate-worker") == workers, "a process was replaced"
        assert status(machine)["version"] == bed.version
        # The administrator decides when.
        machine.do("systemctl reload tidegate")
        traffic.progress("answers after the reload by hand")
        now = status(machine)
        assert (now["version"], now["pid"], machine.pid()) == (bed.next_version, pid, pid), now
        result = traffic.end()
        result.expect_nothing_lost()
        lines.append(f"upgraded on the disk, the same processes go on as {bed.version}; dpkg said: {ours(done)}")
        lines.append(f"systemctl reload by hand: {bed.next_version}, MainPID {pid} as before")
        lines.append(result.figures())
    return "\n".join(lines)


@scenario
def answers_of_policies(bed):
    """What denies for invoke-rc.d and deb-systemd-invoke does here, for either name of the service, and nothing else does."""
    lines = []
    with bed.machine() as machine:
        bed.put_config(machine, proxy(9))
        machine.do("tidegate reload")
        pid, workers = machine.pid(), machine.processes("tidegate-worker")
        for answer in ("echo restart; exit 106", "exit 102", '[ "$1" != tidegate.service ] || exit 101'):
            policy(machine, answer)
            done = dpkg_install(machine, bed.next())
            assert done.code == 0, done.text
            said = ours(done)
            assert len(said) == 1 and "policy-rc.d denies" in said[0], f"`{answer}`: {said}"
            assert machine.pid() == pid and machine.processes("tidegate-worker") == workers, f"`{answer}`: a process was replaced"
            lines.append(f"`{answer}`: {said[0]}")
        for answer, deb, version in (("exit 104", bed.next(), bed.next_version), ("exit 1", bed.deb, bed.version)):
            policy(machine, answer)
            done = dpkg_install(machine, deb)
            assert done.code == 0 and not ours(done), done.text
            assert (machine.pid(), status(machine)["version"]) == (pid, version), f"`{answer}`: {status(machine)['version']}"
            lines.append(f"`{answer}`: upgraded")
    return "\n".join(lines)


@scenario
def what_an_administrator_stopped_stays_stopped(bed):
    with bed.machine() as machine:
        for how, enabled in (("systemctl stop tidegate", "enabled"), ("systemctl disable tidegate", "disabled"),
                             ("systemctl mask tidegate", "masked")):
            machine.do(how)
            for deb, version in ((bed.next(), bed.next_package), (bed.deb, bed.package)):
                done = dpkg_install(machine, deb)
                assert done.code == 0, done.text
                assert installed_version(machine) == version
                assert machine.active() == "inactive" and not machine.processes("tidegate"), f"after `{how}` it was started"
                assert machine.try_("systemctl is-enabled tidegate").out.strip() == enabled, f"after `{how}`"
                assert not ours(done), ours(done)
        machine.do("systemctl unmask tidegate")
        # A service that runs without being enabled is upgraded, and is not enabled.
        machine.do("systemctl start tidegate")
        pid = machine.pid()
        assert dpkg_install(machine, bed.next()).code == 0
        assert (machine.pid(), status(machine)["version"]) == (pid, bed.next_version)
        assert machine.try_("systemctl is-enabled tidegate").out.strip() == "disabled"
        return "stopped, disabled, masked: two upgrades each, nothing started; running and disabled: upgraded, not enabled"


@scenario
def what_has_failed_is_started_by_an_upgrade(bed):
    with bed.machine() as machine:
        good = json.dumps(proxy(9))

        def fail():
            bed.put_config(machine, "{")
            assert machine.try_("systemctl restart tidegate").code != 0
            assert machine.active() == "failed"
        fail()
        done = dpkg_install(machine, bed.next())
        assert done.code == 0, done.text
        still = ours(done)
        assert len(still) == 1 and "did not start" in still[0], still
        bed.put_config(machine, good)
        done = dpkg_install(machine, bed.deb)
        assert done.code == 0 and not ours(done), done.text
        assert (machine.active(), status(machine)["version"]) == ("active", bed.version)
        # Nobody wants it at the next boot either.
        fail()
        bed.put_config(machine, good)
        machine.do("systemctl disable tidegate")
        done = dpkg_install(machine, bed.next())
        assert done.code == 0 and not ours(done), done.text
        assert machine.active() == "failed"
        machine.do("systemctl enable tidegate")
        policy(machine, DENY)
        done = dpkg_install(machine, bed.deb)
        denied = ours(done)
        assert done.code == 0 and len(denied) == 1 and "policy-rc.d denies" in denied[0], done.text
        assert machine.active() == "failed"
        return f"started, unless it is disabled or a policy denies; says: {still[0]}; {denied[0]}"


@scenario
def an_upgrade_while_it_starts(bed):
    with bed.machine() as machine:
        bed.put_config(machine, proxy(9))
        machine.write("/etc/systemd/system/tidegate.service.d/slow.conf", "[Service]\nExecStartPost=/bin/sleep 6\n")
        machine.do("systemctl daemon-reload && systemctl restart --no-block tidegate")
        until(lambda: machine.property("SubState") == "start-post", lambda: machine.property("SubState"), 10)
        pid = machine.pid()
        done = dpkg_install(machine, bed.next())
        assert done.code == 0 and not ours(done), done.text
        assert (machine.active(), machine.pid(), status(machine)["version"]) == ("active", pid, bed.next_version)
        return f"waited for and upgraded, MainPID {pid} as before"


@scenario
def a_unit_that_is_masked_while_it_runs(bed):
    """The line names this reason, not that of the operation before."""
    with bed.machine() as machine:
        pid = machine.pid()
        good = machine.do("cat /etc/tidegate/tidegate.json")
        bed.put_config(machine, "{")
        assert machine.try_("tidegate reload").code == 78
        bed.put_config(machine, good + "\n")
        machine.do("systemctl mask tidegate")
        done = dpkg_install(machine, bed.next())
        lines = ours(done)
        assert done.code == 0 and len(lines) == 1 and "masked" in lines[0], done.text
        machine.do("systemctl unmask tidegate")
        assert (machine.pid(), machine.active(), status(machine)["version"]) == (pid, "active", bed.version)
        machine.do("systemctl reload tidegate")
        assert (machine.pid(), status(machine)["version"]) == (pid, bed.next_version)
        return f"dpkg said: {lines[0]}; unmasked and reloaded: {bed.next_version}"


@scenario
def a_removal_that_is_called_off(bed):
    """dpkg tells postinst when something went wrong behind the stop of the service."""
    with bed.machine() as machine:
        machine.do("sed -i 's/^exit 0$/exit 1/' /var/lib/dpkg/info/tidegate.prerm")

        def remove():
            assert machine.try_("dpkg --remove tidegate").code != 0
            assert package_state(machine)[1] == "i", package_state(machine)
        pid = machine.pid()
        remove()
        assert machine.active() == "active" and machine.pid() != pid
        assert page(machine).out.endswith("\n200")
        machine.do("systemctl stop tidegate")
        remove()
        assert machine.active() == "inactive"
        return "started again; what was stopped before stays stopped"


@scenario
def a_start_beside_a_daemon_run_by_hand(bed):
    """It holds the control socket, and keeps it."""
    with bed.machine() as machine:
        machine.do("systemctl stop tidegate")
        machine.do("systemd-run --quiet --unit by-hand --uid tidegate --property Type=notify "
                   "--property AmbientCapabilities=CAP_NET_BIND_SERVICE --setenv TIDEGATE_SOCKET=/run/tidegate/control.sock tidegate run")
        assert machine.try_("systemctl start tidegate").code != 0
        wait_active(machine, "failed")
        assert (machine.property("ExecMainStatus"), machine.property("NRestarts")) == ("6", "0")
        assert status(machine)["pid"] == machine.pid("by-hand")
        machine.do("systemctl stop by-hand && systemctl start tidegate")
        assert status(machine)["pid"] == machine.pid()
        return "the unit failed once, with 6; the daemon still answers"


@scenario
def an_upgrade_that_dpkg_did_not_finish(bed):
    """Unpacked and not configured, as after a power cut: the old one serves, the rest is done later."""
    with bed.machine() as machine, bed.traffic(machine) as traffic:
        pid = machine.pid()
        machine.do(f"dpkg --unpack {machine.put(bed.next())}")
        assert machine.pid() == pid and status(machine)["version"] == bed.version
        traffic.progress("answers between unpack and configure")
        machine.do("dpkg --configure -a")
        assert (machine.pid(), status(machine)["version"]) == (pid, bed.next_version)
        result = traffic.end()
        result.expect_nothing_lost()
        return result.figures()
