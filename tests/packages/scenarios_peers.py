"""The same load and the same operation for Debian's nginx and HAProxy: what their clients notice."""

import dataclasses
import time

import repack
from bed import dpkg_install, page, scenario, wait_active
from support.wait import until
from traffic import LOSSES, Traffic

# nginx closes a connection after 1,000 requests, whatever else is done to it: not what is compared here.
NGINX = """map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
upstream app { server 127.0.0.1:PORT; keepalive 32; keepalive_requests 1000000000; }
server {
  listen 80 default_server;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  location / {
    proxy_pass http://app;
    proxy_http_version 1.1;
    proxy_set_header Host $host;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;
  }
}
"""
HAPROXY = """global
  stats socket /run/haproxy/admin.sock mode 660 level admin
  user haproxy
  group haproxy
  daemon
defaults
  mode http
  timeout connect 5s
  timeout client 1m
  timeout server 1m
  timeout tunnel 1h
frontend web
  bind :80
  default_backend app
backend app
  server one 127.0.0.1:PORT
"""


WATCHED = 2.5  # seconds of load behind the operation, for all alike


@dataclasses.dataclass
class Proxy:
    """One of the three, and how it is put in front of an origin."""
    name: str
    unit: str
    program: str  # in its package
    path: str = None
    config: str = None

    def machine(self, bed):
        return bed.machine(self.unit if self.config else None)

    def configure(self, bed, machine):
        if not self.config:
            return bed.serve(machine)

        def put(port):
            machine.write(self.path, self.config.replace("PORT", str(port)))
            machine.do(f"systemctl restart {self.unit}")
            wait_active(machine, unit=self.unit)
        return put

    def version(self, machine):
        return machine.do(f"dpkg-query -W -f '${{Version}}' {self.unit}").split("-")[0]


PROXIES = (Proxy("Tidegate", "tidegate", repack.SUPERVISOR),
           Proxy("nginx", "nginx", "usr/sbin/nginx", "/etc/nginx/sites-enabled/default", NGINX),
           Proxy("HAProxy", "haproxy", "usr/sbin/haproxy", "/etc/haproxy/haproxy.cfg", HAPROXY))


# What is done to each: a function of (bed, proxy, machine) that returns the exit status of the package tool, if it used one.

def upgrade(bed, proxy, machine):
    """Peers get the same version again: their maintainers' scripts do what they do at an upgrade."""
    if proxy.config:
        return machine.try_(f"apt-get install -y --reinstall {proxy.unit}", 300).code
    return dpkg_install(machine, bed.next()).code


def unusable_version(bed, proxy, machine):
    """As one that was built for another release of the system: a library of its program is not there."""
    if not proxy.config:
        return dpkg_install(machine, bed.next(repack.BAD[2])).code
    deb = next((bed.base / "var/cache/apt/archives").glob(f"{proxy.unit}_*.deb"))
    return dpkg_install(machine, repack.unusable(deb, bed.work, proxy.program)).code


def kill(_, proxy, machine):
    machine.kill(machine.pid(proxy.unit))


def compare(bed, what, title):
    rows = []
    for proxy in PROXIES:
        with proxy.machine(bed) as machine, Traffic(machine, proxy.configure(bed, machine)) as traffic:
            name = f"{proxy.name} {proxy.version(machine)}"
            pid = machine.pid(proxy.unit)
            code = what(bed, proxy, machine)
            end = time.monotonic() + WATCHED
            until(lambda: time.monotonic() > end, "the time of the load to be over")
            serves = page(machine, "/900000001/x/1").out.endswith("\n200")
            result = traffic.end()
            now = machine.pid(proxy.unit)
            row = {"new connections that were served": result.of("fresh"), **result.lost,
                   "the package tool ended with": "-" if code is None else code,
                   "main process": "as before" if now == pid else "another" if now else "none",
                   "serves afterwards": "yes" if serves else "NO"}
            rows.append((name, row, result))
    bed.told += table(title, rows)
    assert any(any(row[loss] for loss in LOSSES) for _, row, _ in rows[1:]), "nobody lost anything: the load sees nothing"
    return rows


def table(title, rows):
    width = max(len(name) for name, _, _ in rows) + 3
    lines = ["", title, f"{'':38}" + "".join(f"{name:>{width}}" for name, _, _ in rows)]
    for what in rows[0][1]:
        lines.append(f"  {what:36}" + "".join(f"{row[what]:>{width}}" for _, row, _ in rows))
    return lines


def figures(rows):
    return "; ".join(f"{name}: {sum(row[what] for what in LOSSES)}" for name, row, _ in rows) + " losses; the table is below"


@scenario
def compared_upgrade(bed):
    rows = compare(bed, upgrade, "An upgrade of the package (both peers have an upgrade of their own that spares what is under way)")
    rows[0][2].expect_nothing_lost()
    return figures(rows)


@scenario
def compared_unusable_version(bed):
    rows = compare(bed, unusable_version, "An upgrade to a version that cannot run")
    rows[0][2].expect_nothing_lost()
    assert rows[0][1]["the package tool ended with"] == 0 and rows[0][1]["serves afterwards"] == "yes", rows[0][1]
    return figures(rows)


@scenario
def compared_kill(bed):
    rows = compare(bed, kill, "kill -9 of the main process")
    refused = rows[0][2].verdict.total("refused")
    assert refused == 0 and rows[0][1]["serves afterwards"] == "yes", f"{refused} connections refused; {rows[0][1]}"
    return figures(rows)
