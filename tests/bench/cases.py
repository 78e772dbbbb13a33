"""The cases, one row each: what runs, which figure counts, and the figure that the issue asks for."""

import dataclasses
import typing

import load
from peers import Haproxy, Relay, Setup


@dataclasses.dataclass(frozen=True)
class Target:
    """`limit` of the ratio to `to` ("best": the best peer, or a peer's name, or "first": the first row), or, with `to` None,
    of the figure itself."""
    figure: str
    limit: float
    to: typing.Optional[str] = "best"


@dataclasses.dataclass
class Row:
    """One line of a case's table: a proxy, set up in one way. `held`: idle connections that it has meanwhile."""
    label: str
    peer: object
    setup: Setup
    kind: str
    held: typing.Optional[typing.Callable] = None


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    title: str
    shoot: typing.Callable
    setup: Setup = Setup()
    figure: str = "cpu_us"
    unit: str = "us a request"
    targets: tuple = ()
    mib_a_request: typing.Optional[float] = None
    relays: tuple = (64,)             # read sizes of the floor, KiB
    extra_peers: tuple = ()
    rows: typing.Optional[typing.Callable] = None   # instead of each proxy once
    fresh: bool = False               # every round with a new process
    # Count system calls and instructions, too: on kept connections, "close" after each request, or "tls".
    counted: typing.Optional[str] = None
    peers_may_fail: bool = False      # their failures are the finding
    most_rounds: int = 100
    quick_rounds: int = 2
    warm_up: bool = True
    quick: bool = True                # part of a quick run

    def rows_of(self, tidegates, peers, programs):
        if self.rows:
            return self.rows(self, tidegates)
        relays = [Relay(programs / "bench_relay", kib, f"relay/{kib}KiB" if len(self.relays) > 1 else "relay")
                  for kib in self.relays]
        every = [*tidegates, *peers, *self.extra_peers, *relays]
        return [Row(peer.name, peer, self.setup, peer.kind) for peer in every
                if peer.kind == "tidegate" or not peer.lacks(self.setup)]


def open_connections(wanted):
    """How many of the wanted ones the descriptor limit allows: a proxy keeps half of its descriptors for upstreams, and
    the loader has one for each, too."""
    return lambda context: min(wanted, (context.descriptors - 600) // 2)


def growth_rows(case, tidegates):
    """The same load on a Tidegate that has much of something."""
    out = []
    for tidegate in tidegates:
        many = {"1,000 routes": Setup(routes=1000), "1,000 endpoints": Setup(endpoints=1000)}
        out.append(Row(f"{tidegate.name}, small", tidegate, case.setup, "base"))
        out += [Row(f"{tidegate.name}, {what}", tidegate, setup, "tidegate") for what, setup in many.items()]
        out.append(Row(f"{tidegate.name}, open idle", tidegate, case.setup, "tidegate", open_connections(20000)))
    return out


SMALL = "small keep-alive answers (64 octets, 64 connections)"
TLS = Setup(tls=True)
MIB_ANSWER = "/1048576"

CASES = [
    Case("small", f"{SMALL}, 1 worker", load.wrk(), counted="keep", targets=(
        Target("cpu_us", 0.82), Target("instructions", 9000, None), Target("system_calls", 4.1, None), Target("p99_us", 1.0))),
    Case("small-2", f"{SMALL}, 2 workers", load.wrk(), Setup(workers=2)),
    Case("64k", "answers of 64 KiB, 32 connections", load.wrk("/65536", 32), unit="us a MiB", mib_a_request=1 / 16,
         targets=(Target("cpu_us", 0.90),)),
    Case("1m", "answers of 1 MiB, 16 connections", load.wrk(MIB_ANSWER, 16), unit="us a MiB", mib_a_request=1,
         relays=(64, 256), extra_peers=(Haproxy(splice=True),), targets=(Target("cpu_us", 0.65, "nginx"),)),
    Case("upload", "uploads of 1 MiB, 16 connections", load.wrk("/upload", 16, words=("POST", load.MIB)), unit="us a MiB",
         mib_a_request=1, targets=(Target("cpu_us", 0.80),)),
    Case("close", "a connection for each request, 64 at a time", load.wrk(words=("close",)), counted="close",
         targets=(Target("cpu_us", 0.85), Target("system_calls", 8, None))),
    Case("tunnel", "WebSocket echo, 64 tunnels, 125 octets each way", load.echo(), Setup(tunnel=True), unit="us an echo"),
    Case("idle", "idle connections after one request", load.idle(open_connections(10000)), figure="bytes", unit="bytes each",
         fresh=True, most_rounds=3, quick_rounds=1, warm_up=False, targets=(Target("bytes", 500, None),)),
    Case("reload", f"{SMALL}, reloads meanwhile", load.replaced("reload", load.wrk(least_seconds=4)), figure="p99_us",
         unit="us p99", relays=(), peers_may_fail=True, most_rounds=3,
         targets=(Target("p99_us", 1.0), Target("failed", 0, None))),
    Case("upgrade", f"{SMALL}, upgrades meanwhile (peers: reloads)", load.replaced("upgrade", load.wrk(least_seconds=4)),
         figure="p99_us", unit="us p99", relays=(), peers_may_fail=True, most_rounds=3,
         targets=(Target("p99_us", 1.0), Target("failed", 0, None))),
    Case("scale", f"{SMALL}, with much of something", load.wrk(), rows=growth_rows,
         targets=(Target("cpu_us", 1.10, "first"),)),
    Case("tls", "TLS 1.3 " + SMALL, load.wrk(tls=True), TLS, counted="tls", targets=(
        Target("cpu_us", 0.88), Target("instructions", 40000, None), Target("system_calls", 4.1, None),
        Target("p99_us", 1.0))),
    Case("tls-full", "TLS 1.3 full handshakes", load.handshakes("full"), TLS, unit="us a handshake",
         targets=(Target("cpu_us", 0.90),)),
    Case("tls-resumed", "TLS 1.3 resumed handshakes", load.handshakes("resumed"), TLS, unit="us a handshake",
         targets=(Target("cpu_us", 0.85),)),
    Case("tls-flood", "plain requests on 8 connections during a flood of full handshakes", load.flooded(),
         Setup(tls=True, plain=True), figure="p99_us", unit="us p99", relays=(), most_rounds=3, warm_up=False, quick=False,
         targets=(Target("p99_us", 1.0),)),
    Case("tls-idle", "idle TLS connections after one request", load.idle(open_connections(10000), tls=True), TLS,
         figure="bytes", unit="bytes each", fresh=True, most_rounds=1, warm_up=False, quick=False,
         targets=(Target("bytes", 1.0, "haproxy"),)),
    Case("certificates", "1,000 certificates", load.many_certificates, Setup(tls=True, certificates=1000), figure="bytes",
         unit="bytes in all", fresh=True, most_rounds=2, warm_up=False, quick=False),
    Case("h2", "HTTP/2, 16 connections, 32 streams each", load.h2load(), Setup(tls=True, http2=True),
         targets=(Target("cpu_us", 0.90),)),
]
