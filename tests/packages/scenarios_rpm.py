"""The .rpm: its scripts in a root without systemd, and its upgrades under load in a machine with one.

The system is Debian, whose rpm knows nothing of what dpkg has installed: dependencies are given by apt, and not checked by rpm."""

import contextlib

import repack
import repack_rpm
from bed import proxy, scenario, status, wait_active
from rig import ROOT, call, must, scratch_root
from scenarios_upgrade import Before
from support.wait import until
from traffic import Traffic


# Debian's rpm asks twice whether it is meant, and knows of no package that could be depended on.
WITHOUT_APT = ["--force-debian", "--nodeps"]


def built():
    found = sorted((ROOT / "build/packages").glob("tidegate-[0-9]*.rpm"), key=lambda path: path.stat().st_mtime)
    assert found, "there is no build/packages/tidegate-*.rpm: ./dev package makes it"
    return found[-1]


@scenario
def rpm_in_a_scratch_root(bed):
    """Installed, upgraded and erased by `rpm --root`; no systemd runs there, and no script minds."""
    first, second = built(), repack_rpm.derive(built(), bed.work, None)
    with scratch_root(bed.work, bed.base) as root:
        def rpm(action, *arguments):
            options = [] if action == "-q" else ["--nodeps"] if action == "-V" else WITHOUT_APT
            done = call(["rpm", "--root", root, action, *options, *arguments])
            said = [line for line in done.err.splitlines() if "saved as" not in line]
            assert done.code == 0 and not said, f"rpm {action} ended with {done.code}: {done.text}"
            return done.out.strip()
        rpm("-i", first)
        user = must(["chroot", root, "getent", "passwd", "tidegate"]).out.strip()
        owner = must(["chroot", root, "stat", "-c", "%U:%G %a", "/var/log/tidegate"]).out.strip()
        assert owner == "tidegate:tidegate 750", owner
        assert not rpm("-V", "tidegate"), "not as it was installed"
        conffile = root / "etc/tidegate/tidegate.json"
        conffile.write_text("// mine\n" + conffile.read_text(encoding="utf-8"), encoding="utf-8")
        rpm("-U", second)
        assert conffile.read_text(encoding="utf-8").startswith("// mine\n"), "the edited configuration is kept"
        version = rpm("-q", "--qf", "%{VERSION}", "tidegate")
        assert version == repack_rpm.version_of(second), version
        rpm("-U", "--oldpackage", first)
        rpm("-e", "tidegate")
        left = must(["find", root / "usr", root / "etc", root / "lib", "-name", "*tidegate*"]).out.split()
        left = [path.removeprefix(str(root)) for path in left]
        assert left == ["/etc/tidegate", "/etc/tidegate/tidegate.json.rpmsave"], left
        return f"{user}; upgraded to {version}, downgraded, erased; left: {left[1]}"


@contextlib.contextmanager
def rpm_machine(bed):
    """A machine with rpm and what the package depends on, without Tidegate."""
    with bed.bare() as machine:
        depends = repack.field(bed.deb, "Depends")
        machine.do("apt-get install -y --no-install-recommends rpm", 300)
        machine.do(f"apt-get satisfy -y --no-install-recommends '{depends}'", 300)
        yield machine


@scenario
def rpm_upgrade_under_load(bed):
    first = built()
    with rpm_machine(bed) as machine:
        def rpm(*arguments):
            return machine.try_(f"rpm {' '.join(WITHOUT_APT)} {' '.join(map(str, arguments))}", 180)

        done = rpm("-i", machine.put(first))
        assert done.code == 0, done.text
        machine.do("systemctl start tidegate")  # as Fedora has it: an installation starts nothing
        wait_active(machine)

        def configure(port):
            bed.put_config(machine, proxy(port))
            machine.do("tidegate reload")
        with Traffic(machine, configure) as traffic:
            before = Before(machine)
            told = []
            for bad in (repack.BAD[0], None):
                package = machine.put(repack_rpm.derive(first, bed.work, bad))
                done, began, ended = traffic.during(rpm, "-U", package, "--force")
                assert done.code == 0, done.text
                lines = [line for line in done.text.splitlines() if line.strip()]
                told.append(f"{bad or 'good'}: {ended - began:.1f} s, says: {lines}")
                if bad:
                    assert len(lines) == 1 and "was not upgraded" in lines[0], lines
                    before.check(bed.version, 0)
            before.check(bed.next_version, 1)
            assert status(machine)["version"] == bed.next_version
            result = traffic.end()
            result.expect_nothing_lost()
        done = rpm("-e", "tidegate")
        assert done.code == 0, done.text
        until(lambda: not machine.processes("tidegate") and not machine.processes("tidegate-worker"), "all processes to end")
        return "\n".join([f"MainPID {before.pid} as before", *told, result.figures()])
