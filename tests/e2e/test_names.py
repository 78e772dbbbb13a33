"""Names of upstreams that cease to resolve: their last addresses stay in use, also in workers that start meanwhile."""

import os
import signal
import time

import pytest

from support.daemon import basic
from support.errors import expect_error
from support.names import DnsServer, Names
from support.origin import Origin
from support.wait import stays, until


@pytest.fixture
def names():
    made = Names()
    yield made
    made.close()


@pytest.fixture
def named(launch, origin, names):
    """A Tidegate whose upstream is a name that has resolved, and does not any more."""
    port = origin.address.rsplit(":", 1)[1]
    names.are(app="127.0.0.1")
    # Every request opens a connection, and needs an address for it.
    config = basic(f"app.tidegate.test:{port}", timeouts={"upstream_idle": "1ms"})
    tidegate = launch(config, preexec=names.enter)
    ask(tidegate)
    names.are()
    return tidegate


def ask(tidegate, count=1):
    with tidegate.connect() as client:
        for _ in range(count):
            assert client.get("/").status == 200, tidegate.stderr


def replaced(tidegate, before):
    """Until no worker of `before` is left and others serve."""
    until(lambda: not set(before) & set(tidegate.worker_processes()), "the end of the old workers")
    until(lambda: all(worker["state"] == "serving" for worker in tidegate.status()["generations"][-1]["workers"])
          and tidegate.workers(), "new workers")


def test_an_upgrade_loses_no_name_that_does_not_resolve_now(named):
    before = named.workers()
    named.ok("upgrade", "--force")
    ask(named)
    replaced(named, before)
    ask(named, 3)
    # And the one after it, whose predecessor has never resolved anything itself.
    before = named.workers()
    named.ok("upgrade", "--force")
    replaced(named, before)
    ask(named, 3)


def test_a_worker_that_is_started_again_loses_no_name(named):
    before = named.workers()
    os.kill(before[0], signal.SIGKILL)
    replaced(named, before)
    ask(named, 3)


def test_a_worker_more_loses_no_name(named):
    before = named.workers()
    named.change(workers=2)
    named.ok("reload")
    replaced(named, before)
    assert len(named.workers()) == 2
    for _ in range(6):
        ask(named)


def test_a_takeover_loses_no_name(named):
    before = named.workers()
    named.signal(signal.SIGKILL)
    named.wait_exit()
    named.start().wait_ready()
    replaced(named, before)
    ask(named, 3)


def test_an_upstream_that_is_new_begins_with_what_is_known(named):
    """A reload builds an upstream anew when it differs."""
    named.change(upstreams={"app": {"balance": "least_connections"}})
    named.ok("reload")
    ask(named, 3)


def test_it_is_said_once_that_the_last_addresses_stay_in_use(named):
    before = named.workers()
    named.ok("upgrade", "--force")
    replaced(named, before)
    # The one before may have found it out itself, and said so.
    [worker] = named.workers()

    def warnings():
        ask(named)
        return [line for line in named.stderr.splitlines() if "app.tidegate.test" in line and f" worker[{worker}]" in line]
    lines = until(warnings, "a warning")
    assert "does not resolve" in lines[0] and lines[0].endswith("its last addresses stay in use"), lines
    stays(lambda: len(warnings()) == len(lines), lambda: f"it is said again:\n{named.stderr}", 3)


def test_what_is_known_gives_way_to_what_resolves(named, names, origin):
    port = int(origin.address.rsplit(":", 1)[1])
    other = Origin(at=("127.0.0.2", port))
    try:
        before = named.workers()
        named.ok("upgrade", "--force")
        replaced(named, before)
        ask(named)
        assert not other.requests
        names.are(app="127.0.0.2")

        def moved():
            ask(named)
            return other.requests
        until(moved, "a request at the new address")
        # A worker that starts now does not go back to what others have known before.
        count = len(origin.requests)
        before = named.workers()
        os.kill(before[0], signal.SIGKILL)
        replaced(named, before)
        names.are()
        ask(named, 3)
        assert len(origin.requests) == count
    finally:
        other.close()


def test_an_entry_in_hosts_counts_however_long_the_answer_of_dns_is_good(launch, origin, names):
    if os.geteuid() != 0:
        # Only root may be a name server at port 53; tests/unit/proxy/upstream/endpoint_test.cpp does without one.
        return
    port = int(origin.address.rsplit(":", 1)[1])
    other = Origin(at=("127.0.0.2", port))
    server = DnsServer("127.0.0.1", ttl=300)
    try:
        (names.directory / "resolv.conf").write_text(f"nameserver {server.address}\n")
        tidegate = launch(basic(f"app.tidegate.test:{port}", timeouts={"upstream_idle": "1ms"}), preexec=names.enter)
        ask(tidegate, 3)
        assert len(origin.requests) == 3 and server.ids
        names.are(app="127.0.0.2")

        def moved():
            ask(tidegate)
            return other.requests
        until(moved, "a request at the address that /etc/hosts has now", 5)
        count = len(origin.requests)
        ask(tidegate, 3)
        assert len(origin.requests) == count
    finally:
        other.close()
        server.close()


def test_a_name_that_never_resolved_is_503(named, origin):
    port = origin.address.rsplit(":", 1)[1]
    named.change(upstreams={"app": {"endpoints": [f"other.tidegate.test:{port}"]}}, timeouts={"upstream_connect": "200ms"})
    named.ok("reload")
    with named.connect() as client:
        expect_error(named, client.get("/"), "upstream_unresolved", closes=False)


def test_a_name_that_does_not_resolve_costs_the_others_nothing(launch, origin, names):
    """Of several endpoints: it is asked for again all the time, and nobody is sent there to wait for the answer."""
    names.are()
    port = origin.address.rsplit(":", 1)[1]
    running = []
    for policy in ("round_robin", "least_connections"):
        config = basic(origin.address)
        config["upstreams"]["app"] = {"endpoints": [origin.address, f"bad.tidegate.test:{port}"], "balance": policy}
        running.append(launch(config, preexec=names.enter))
    end = time.monotonic() + 8

    def asked():
        """Until the first failure is known, and is asked about again."""
        for tidegate in running:
            ask(tidegate, 20)
        return time.monotonic() > end and all("does not resolve" in tidegate.stderr for tidegate in running)
    until(asked, "the name to be given up", 30)
