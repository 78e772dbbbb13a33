"""How each proxy is configured and started. All alike: keep-alive to the origin, no access log, the same number of workers,
the same fields about the client (X-Forwarded-For, -Proto, -Host, -Port, X-Request-Id), time-outs that no case reaches."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import time
import typing

from processes import Process, descendants, free_port, resident_kib


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a case asks of a proxy beyond forwarding."""
    workers: int = 1
    tls: bool = False
    plain: bool = False       # a listener without TLS besides
    http2: bool = False
    certificates: int = 1
    tunnel: bool = False
    routes: int = 1
    endpoints: int = 1
    descriptors: int = 20000
    access_log: bool = False  # of Tidegate only: no case compares it
    drain: typing.Optional[int] = None  # seconds that old workers have to end; each has its own default
    probation_ms: int = 100   # of Tidegate only, as are those below
    hand_over: typing.Optional[bool] = None  # its default


@dataclasses.dataclass
class Place:
    """Where a proxy runs: a folder of its own, its cores, the origin's ports, and (host, certificate, key) for TLS, that of
    localhost first."""
    directory: object
    cores: object
    origin_ports: list
    certificates: list = ()


# The ways to put the configuration in force again. A watched upgrade tells its phases on standard output, and ends when what
# it replaced has ended; peers know only the one way.
REPLACED = ("reload", "upgrade", "watched upgrade")


class Running:
    """A started proxy. `serving`: who holds the connections; a parent that serves nothing is not among them."""

    def __init__(self, process, port, has_parent, commands=None, pinned=True, plain_port=None):
        self.process, self.port, self.has_parent, self.pinned = process, port, has_parent, pinned
        self.plain_port = plain_port
        self.commands = commands or {}
        self.start_seconds = time.monotonic() - process.begun

    @property
    def pid(self):
        return self.process.pid

    def serving(self):
        return descendants(self.pid) if self.has_parent else [self.pid]

    def resident_kib(self):
        return resident_kib(self.serving())

    def family_kib(self):
        """The parent's, too."""
        return resident_kib([self.pid] + descendants(self.pid))

    def pin(self, cores):
        """One core for each serving process, or for each thread where there is only one process."""
        serving = self.serving() if self.pinned else []
        if len(serving) == 1 and len(cores) > 1:
            serving = [int(task) for task in os.listdir(f"/proc/{serving[0]}/task")]
        for index, pid in enumerate(serving):
            os.sched_setaffinity(pid, {cores[index % len(cores)]})

    def replace(self, how):
        """Puts the configuration in force again; `how` is one of REPLACED."""
        command = self.commands[how]
        if isinstance(command, signal.Signals):
            os.kill(self.pid, command)
            return None
        said = subprocess.PIPE if how == "watched upgrade" else subprocess.DEVNULL
        return subprocess.Popen(command, stdout=said, stderr=subprocess.PIPE, text=True)

    def stop(self):
        self.process.stop()


class Tidegate:
    kind = "tidegate"

    def __init__(self, name, binaries):
        self.name, self.binary = name, binaries / "tidegate"
        schema = subprocess.run([self.binary, "schema"], capture_output=True, text=True, check=True).stdout
        properties = json.loads(schema).get("properties", {})
        self.listener_keys = keys_below(properties.get("listeners", {}))
        self.upgrade_keys = keys_below(properties.get("upgrade", {}))

    def version(self):
        return first_words([self.binary, "--version"])

    def lacks(self, setup):
        """What this build cannot do yet, or None. Asked of its schema, so that a case comes alive by itself."""
        if setup.http2 and "protocols" not in self.listener_keys:
            return "HTTP/2: not there yet"
        if setup.tls and "tls" not in self.listener_keys:
            return "TLS: not there yet"
        if setup.hand_over is not None and "hand_over" not in self.upgrade_keys:
            return "upgrade.hand_over: this build does not know it"
        return None

    def start(self, setup, place):
        port, plain_port, name = free_port(), free_port(), self.name.replace("/", "-")
        listener = {"name": "bench", "bind": f"127.0.0.1:{port}"}
        listeners = [listener, {"name": "plain", "bind": f"127.0.0.1:{plain_port}"}] if setup.plain else [listener]
        ports = place.origin_ports[:setup.endpoints]
        half = setup.routes // 2
        routes = [{"name": f"host{i}", "host": f"host{i}.example.org", "upstream": "origin"} for i in range(half)]
        routes += [{"name": f"path{i}", "path": f"/path{i}/", "upstream": "origin"} for i in range(half, setup.routes - 1)]
        config = {
            "workers": setup.workers, "listeners": listeners, "forwarded": {"via": False},
            "timeouts": {"request_head": "10m", "keepalive": "10m", "upstream_idle": "10m"},
            "upstreams": {"origin": {"endpoints": [f"127.0.0.1:{one}" for one in ports]}},
            "routes": [*routes, {"name": "all", "upstream": "origin"}],
            "upgrade": {"probation": f"{setup.probation_ms}ms"}, "logging": {"level": "error"},
        }
        if setup.drain:
            config["upgrade"] |= {"drain": f"{setup.drain}s", "drain_tunnels": f"{setup.drain}s", "max_generations": 16}
        if setup.hand_over is not None:
            config["upgrade"]["hand_over"] = setup.hand_over
        if setup.access_log:
            config["logging"]["access"] = {"path": str(place.directory / f"{name}.access.log")}
        if setup.tls:
            listener |= {"tls": {}, "protocols": ["h2", "h1"] if setup.http2 else ["h1"]}
            if "protocols" not in self.listener_keys:
                del listener["protocols"]
            config["certificates"] = [{"hosts": [host], "cert": str(certificate), "key": {"file": str(key)}}
                                      for host, certificate, key in place.certificates[:setup.certificates]]
        (place.directory / f"{name}.json").write_text(json.dumps(config))
        control = [str(self.binary), "--socket", str(place.directory / f"{name}.sock")]
        process = Process(name, [*control, "-c", f"{name}.json", "run"], place.directory, place.cores.proxy)
        process.wait_for_port(port)
        return Running(process, port, True, {"reload": [*control, "reload", "--force"],
                                             "upgrade": [*control, "upgrade", "--force", "--detach"],
                                             "watched upgrade": [*control, "--json", "upgrade", "--force"],
                                             "status": [*control, "--json", "status"]},
                       plain_port=plain_port)


NGINX = """
daemon off; worker_processes {workers}; pid {name}.pid; error_log {name}.err;
worker_rlimit_nofile {descriptors}; {drain}
events {{ worker_connections {connections}; }}
http {{
  access_log off; server_tokens off; tcp_nodelay on;
  keepalive_requests 1000000000; keepalive_timeout 600s; client_max_body_size 0;
  client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t; uwsgi_temp_path t; scgi_temp_path t;
  proxy_request_buffering off; proxy_max_temp_file_size 0; client_body_buffer_size 64k;
  proxy_buffer_size 16k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;
  map $http_upgrade $connection_of {{ default upgrade; "" ""; }}
  upstream origin {{ {servers} keepalive 512; keepalive_requests 1000000000; keepalive_timeout 600s; }}
  server {{
    listen 127.0.0.1:{port} {reuseport} backlog=4096{tls};
    {plain}
    {certificate}
    server_name {host};
    location / {{
      proxy_pass http://origin; proxy_http_version 1.1;
      {upgrade}
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Port $server_port;
      proxy_set_header X-Request-Id $request_id;
    }}
  }}
  {more}
}}
"""

NGINX_MORE = """
  server {{ listen 127.0.0.1:{port} ssl; server_name {host}; ssl_certificate {certificate}; ssl_certificate_key {key};
            location / {{ proxy_pass http://origin; }} }}
"""


class Nginx:
    kind, name, program = "peer", "nginx", "nginx"

    def version(self):
        return first_words([self.program, "-v"])

    def lacks(self, _setup):
        return None

    def start(self, setup, place):
        port, plain_port = free_port(), free_port()
        (place.directory / "t").mkdir(exist_ok=True)
        upgrade = 'proxy_set_header Connection "";'
        if setup.tunnel:
            upgrade = "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_of;"
        certificate, more = "", ""
        if setup.tls:
            _, file, key = place.certificates[0]
            certificate = (f"ssl_certificate {file}; ssl_certificate_key {key}; "
                           "ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:tls:10m;")
            more = "".join(NGINX_MORE.format(port=port, host=host, certificate=file, key=key)
                           for host, file, key in place.certificates[1:setup.certificates])
        (place.directory / "nginx.conf").write_text(NGINX.format(
            name=self.name, workers=setup.workers, descriptors=setup.descriptors, connections=setup.descriptors - 100,
            servers=" ".join(f"server 127.0.0.1:{one};" for one in place.origin_ports[:setup.endpoints]), port=port,
            reuseport="reuseport" if setup.workers > 1 else "", certificate=certificate, upgrade=upgrade, more=more,
            drain=f"worker_shutdown_timeout {setup.drain}s;" if setup.drain else "",
            host="localhost", plain=f"listen 127.0.0.1:{plain_port};" if setup.plain else "",
            tls=(" ssl" if setup.tls else "") + (" http2" if setup.http2 else "")))
        command = [self.program, "-p", place.directory, "-c", "nginx.conf"]
        process = Process(self.name, command, place.directory, place.cores.proxy)
        process.wait_for_port(port)
        return Running(process, port, True, dict.fromkeys(REPLACED, signal.SIGHUP), plain_port=plain_port)


HAPROXY = """
global
  nbthread {workers}
  maxconn {connections}
  hard-stop-after {drain}s
defaults
  mode http
  maxconn {connections}
  timeout connect 3s
  timeout client 600s
  timeout server 600s
  timeout tunnel 600s
  timeout http-keep-alive 600s
  option http-keep-alive
  option forwardfor
  {splice}
  http-reuse always
frontend f
  bind 127.0.0.1:{port} backlog 4096{tls}
  {plain}
  unique-id-format %[uuid()]
  unique-id-header X-Request-Id
  http-request set-header X-Forwarded-Proto {scheme}
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Port %[dst_port]
  default_backend b
backend b
{servers}
"""


class Haproxy:
    kind, program = "peer", "haproxy"

    def __init__(self, splice=False):
        self.splice = splice
        # With splice it stands beside the others: it is not on unless somebody asks for it.
        self.name, self.kind = ("haproxy/splice", "beside") if splice else ("haproxy", "peer")

    def version(self):
        return first_words([self.program, "-v"])

    def lacks(self, _setup):
        return None

    def start(self, setup, place):
        port, plain_port, name = free_port(), free_port(), self.name.replace("/", "-")
        tls = ""
        if setup.tls:
            both = place.directory / "pem"
            both.mkdir(exist_ok=True)
            for index, (_, certificate, key) in enumerate(place.certificates[:setup.certificates]):
                # The first in the order of their names is the default.
                (both / f"{index:04}.pem").write_text(certificate.read_text() + key.read_text())
            tls = f" ssl crt {both} ssl-min-ver TLSv1.2 alpn {'h2,' if setup.http2 else ''}http/1.1"
        (place.directory / f"{name}.cfg").write_text(HAPROXY.format(
            # A spliced transfer has a pipe besides its sockets.
            drain=setup.drain or 10, workers=setup.workers,
            connections=(setup.descriptors - 200) // (4 if self.splice else 2), port=port, tls=tls,
            scheme="https" if setup.tls else "http", plain=f"bind 127.0.0.1:{plain_port}" if setup.plain else "",
            splice="option splice-request\n  option splice-response" if self.splice else "",
            servers="\n".join(f"  server o{one} 127.0.0.1:{one} pool-max-conn 512"
                              for one in place.origin_ports[:setup.endpoints])))
        # Master and worker, as a service runs: a reload needs the master.
        process = Process(name, [self.program, "-W", "-db", "-f", f"{name}.cfg"], place.directory, place.cores.proxy)
        process.wait_for_port(port)
        return Running(process, port, True, dict.fromkeys(REPLACED, signal.SIGUSR2), plain_port=plain_port)


CADDY = """
{{
  admin 127.0.0.1:{admin}
  auto_https off
}}
{scheme}://127.0.0.1:{port}, {scheme}://localhost:{port} {{
  bind 127.0.0.1
  {tls}
  reverse_proxy {servers} {{
    header_up X-Request-Id {{http.request.uuid}}
    header_up X-Forwarded-Port {port}
    transport http {{
      keepalive 600s
      keepalive_idle_conns_per_host 512
    }}
  }}
}}
"""


class Caddy:
    kind, name, program = "peer", "caddy", "caddy"

    def version(self):
        return first_words([self.program, "version"])

    def lacks(self, setup):
        return "not configured with two listeners" if setup.plain else None

    def start(self, setup, place):
        port, admin = free_port(), free_port()
        (place.directory / "Caddyfile").write_text(CADDY.format(
            admin=admin, port=port, scheme="https" if setup.tls else "http",
            tls="tls {1} {2}".format(*place.certificates[0]) if setup.tls else "",
            servers=" ".join(f"127.0.0.1:{one}" for one in place.origin_ports[:setup.endpoints])))
        config = ["--config", str(place.directory / "Caddyfile"), "--adapter", "caddyfile"]
        process = Process(self.name, [self.program, "run", *config], place.directory, place.cores.proxy)
        process.wait_for_port(port)
        reload = [self.program, "reload", *config, "--force", "--address", f"127.0.0.1:{admin}"]
        # Its scheduler moves its work between threads: it has the cores of the case as a whole.
        return Running(process, port, False, {"reload": reload, "upgrade": reload}, pinned=False)


class Nghttpx:
    """Only where HTTP/2 is measured."""
    kind, name, program = "peer", "nghttpx", "nghttpx"

    def version(self):
        return first_words([self.program, "--version"])

    def lacks(self, setup):
        return None if setup.http2 else "only for HTTP/2"

    def start(self, setup, place):
        port = free_port()
        process = Process(self.name, [
            self.program, f"--frontend=127.0.0.1,{port}", *[f"--backend=127.0.0.1,{one}" for one in place.origin_ports[:1]],
            f"--workers={setup.workers}", "--no-via", "--add-x-forwarded-for", "--accesslog-file=/dev/null", "--no-ocsp",
            "--backend-keep-alive-timeout=600s", place.certificates[0][2], place.certificates[0][1]],
            place.directory, place.cores.proxy)
        process.wait_for_port(port)
        return Running(process, port, True)


class Relay:
    """The floor: octets without HTTP."""
    kind = "floor"

    def __init__(self, program, read_kib, name=None):
        self.program, self.read_kib, self.name = program, read_kib, name or "relay"

    def version(self):
        return None

    def lacks(self, setup):
        return "speaks no HTTP" if setup.tls or setup.workers > 1 or setup.endpoints > 1 else None

    def start(self, setup, place):
        process = Process(self.name, [self.program, place.origin_ports[0], self.read_kib * 1024], place.directory,
                          place.cores.proxy, reads_output=True)
        port = int(process.popen.stdout.readline())
        return Running(process, port, False)


def start_origin(program, cores, directory, listeners=1):
    """(process, its ports)"""
    process = Process("origin", [program, listeners], directory, cores.load[-1:], reads_output=True)
    return process, [int(word) for word in process.popen.stdout.readline().split()]


def peers_installed():
    return [peer for peer in (Nginx(), Haproxy(), Caddy(), Nghttpx()) if shutil.which(peer.program)]


def keys_below(schema):
    """The names of all properties in a part of a JSON schema."""
    found = set()
    if isinstance(schema, dict):
        found |= set(schema.get("properties", {}))
        for value in schema.values():
            found |= keys_below(value)
    elif isinstance(schema, list):
        for value in schema:
            found |= keys_below(value)
    return found


def first_words(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    text = (done.stdout or done.stderr).strip().splitlines() or ["?"]
    found = re.search(r"\d+\.\d+[\w.]*", text[0])
    return found.group(0) if found else text[0]
