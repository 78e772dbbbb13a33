"""The life of the package on a disk: installed, denied, stopped by its administrator, removed, purged, installed again."""

from bed import dpkg_install, installed_version, ours, package_state, page, scenario, status, wait_active
from support.wait import until

DENY = "#!/bin/sh\nexit 101\n"


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
    pruned = " -o ".join(f"-path {folder}" for folder in ("/proc", "/sys", "/root", "/tmp"))
    return machine.do(f"find / -xdev \\( {pruned} \\) -prune -o -iname '*tidegate*' -print | sort").split()


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
        done = machine.try_("apt-get purge -y tidegate")
        assert done.code == 0, done.text
        assert left(machine) == ["/etc/tidegate"], left(machine)
        assert machine.path("/etc/tidegate/conf.d/mine.json").exists()
        return "conf.d/mine.json is there, nothing else"


@scenario
def a_policy_that_denies_is_obeyed(bed):
    lines = []
    with bed.bare() as machine:
        machine.write("/usr/sbin/policy-rc.d", DENY, 0o755)
        done = machine.try_(f"apt-get install -y {machine.put(bed.deb)}", 300)
        assert done.code == 0, done.text
        assert machine.active() == "inactive" and not machine.processes("tidegate"), "the installation has started it"
        lines.append("installed, nothing was started")
    with bed.machine() as machine, bed.traffic(machine) as traffic:
        machine.write("/usr/sbin/policy-rc.d", DENY, 0o755)
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
