"""What the scenarios share: the packages under test, machines with Tidegate in them, and how they are listed."""

import functools
import json
import shutil
from pathlib import Path

import repack
from rig import CACHE, Machine, base
from support.wait import until
from traffic import Traffic

PROBATION = 1.5  # seconds of an upgrade in which the new workers are watched
SCENARIOS = []  # (name, what it does), in the order of their run


def scenario(function):
    """One line of the report: what the function returns is its figures, an AssertionError makes it red."""
    SCENARIOS.append((function.__name__.replace("_", "-"), function))
    return function


def proxy(port, **changes):
    """A configuration in front of an origin. Old workers have time for what is slow in the load."""
    return {
        "listeners": [{"name": "web", "bind": ":80"}],
        "workers": 2,
        "upstreams": {"app": {"endpoints": [f"127.0.0.1:{port}"]}},
        "routes": [{"name": "app", "upstream": "app"}],
        "upgrade": {"probation": f"{1000 * PROBATION:.0f}ms", "drain": "20s", "drain_tunnels": "20s"},
        "shutdown": {"timeout": "5s"},
        "logging": {"access": {"path": "/var/log/tidegate/access.log"}},
        **changes,
    }


class Bed:
    """Everything that one run of the test uses; made when it is first asked for."""

    def __init__(self, deb, suite="bookworm"):
        self.deb = Path(deb)
        self.suite = suite
        self.work = CACHE / "run"
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        self.base = base(suite, repack.field(deb, "Depends"))
        self.package, self.version = repack.versions(deb)
        self.next_version = repack.next_version(self.version)
        self.next_package = self.package.replace(self.version, self.next_version, 1)
        self.told = []  # lines for the end of the report

    @functools.lru_cache(maxsize=None)
    def next(self, bad=None, conffile_line=None):
        """The .deb of the next version."""
        name = f"tidegate-{self.next_version}-{(bad or ('conffile' if conffile_line else 'good')).replace(' ', '-')}"
        return repack.derive(self.deb, self.work, name, bad=bad, conffile_line=conffile_line)

    # Machines.

    def bare(self, layer=None):
        """A machine without Tidegate."""
        return Machine(self.work, self.base, layer=layer)

    @functools.lru_cache(maxsize=None)
    def layer(self, package):
        """What the installation of a package of Debian, or of the one under test, does to a disk."""
        folder = self.work / f"installed-{package or 'tidegate'}"
        with self.bare(layer=folder) as machine:
            machine.do(f"apt-get install -y --no-install-recommends {package or machine.put(self.deb)}", 300)
        return folder

    def machine(self, package=None):
        """A machine with Tidegate as it was built, or with `package`, running."""
        return Machine(self.work, self.layer(package), self.base)

    # Tidegate in them.

    def put_config(self, machine, config):
        machine.write("/etc/tidegate/tidegate.json", config if isinstance(config, str) else json.dumps(config, indent=2) + "\n")

    def serve(self, machine, **changes):
        """For Traffic: how Tidegate gets in front of an origin."""
        def configure(port):
            self.put_config(machine, proxy(port, **changes))
            machine.do("tidegate reload")
        return configure

    def traffic(self, machine, **changes):
        return Traffic(machine, self.serve(machine, **changes))


def status(machine):
    done = machine.try_("tidegate status --json")
    assert done.code in (0, 3), f"tidegate status ended with {done.code}: {done.text}"
    return json.loads(done.out)


def dpkg_install(machine, deb, options=""):
    return machine.try_(f"dpkg {options} -i {machine.put(deb)}", 180)


def ours(outcome):
    """The lines of a package tool's output that are not its own."""
    own = ("(Reading", "Preparing", "Unpacking", "Setting up", "Selecting", "Processing triggers", "Removing", "Purging",
           "dpkg: warning: downgrading", "Configuration file", "Installing new version", " ==>", "debconf:")
    return [line for line in outcome.text.splitlines() if line.strip() and not line.startswith(own)]


def package_state(machine):
    return machine.try_("dpkg-query -W -f '${db:Status-Abbrev}' tidegate").out.strip()


def installed_version(machine):
    return machine.do("dpkg-query -W -f '${Version}' tidegate")


def wait_active(machine, state="active", unit="tidegate", seconds=15):
    until(lambda: machine.active(unit) == state,
          lambda: f"{unit} to be {state}: {machine.try_(f'systemctl status -n 20 {unit}').text}", seconds)


def page(machine, path="/"):
    """What port 80 answers."""
    return machine.try_(f"curl -sS -m 10 -w '\\n%{{http_code}}' http://127.0.0.1{path}")
