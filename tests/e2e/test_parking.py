"""Connections that are quiet for 5 s are parked: a record instead of a session. Nobody outside may notice but for the memory."""

import os
import resource
import signal
import ssl
import time

import pytest

from support import processes
from support.certificates import TlsClient, issue, make_pair, trusting
from support.client import request
from support.daemon import basic
from support.wait import PATIENCE, SMALL, stays, until
from support.wire import Ended

PARK_AFTER = 5
LONG = {"request_head": "5m", "keepalive": "5m"}


def parked(tidegate, generation=None):
    """How many descriptors the workers watch in their second epoll set, the one that is itself watched by the first."""
    count = 0
    for pid in tidegate.workers(generation):
        watched = {}
        for fd, target in processes.descriptors(pid).items():
            if target == "anon_inode:[eventpoll]":
                with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as file:
                    watched[fd] = [int(line.split()[1]) for line in file if line.startswith("tfd:")]
        count += sum(len(fds) for fd, fds in watched.items() if any(fd in others for others in watched.values()))
    return count


def wait_parked(tidegate, count):
    until(lambda: parked(tidegate) == count, lambda: f"{count} parked connections, not {parked(tidegate)}", 3 * PARK_AFTER)


def kept(tidegate, count):
    """Connections that were served once each."""
    clients = [tidegate.connect() for _ in range(count)]
    for client in clients:
        assert client.get("/first").status == 200
    return clients


def listed(tidegate):
    """{port of the client: its line} of `conns`."""
    return {int(one["client"].rsplit(":", 1)[1]): one for one in tidegate.ok("conns", "--json").json["connections"]}


def test_a_parked_connection_is_served_as_if_nothing_had_been(launch, origin):
    origin.handler = lambda peer, got: peer.answer(200, got.target)
    tidegate = launch(basic(origin.address, timeouts=LONG))
    pipelining, slow, silent = *kept(tidegate, 2), tidegate.connect()
    until(lambda: len(listed(tidegate)) == 3, "three connections")
    before = listed(tidegate)
    counted = tidegate.counters()
    wait_parked(tidegate, 3)
    while_parked = listed(tidegate)
    assert {port: (one["id"], one["state"], one["bytes_in"], one["bytes_out"]) for port, one in while_parked.items()} == \
           {port: (one["id"], "idle", one["bytes_in"], one["bytes_out"]) for port, one in before.items()}
    assert all(one["age_seconds"] >= PARK_AFTER for one in while_parked.values())
    now = tidegate.counters()
    assert (now["connections_active"], now["connections_accepted"]) == (3, counted["connections_accepted"])

    pipelining.send(b"".join(request("GET", f"/{number}") for number in range(3)))
    assert [pipelining.response().text for _ in range(3)] == ["/0", "/1", "/2"]
    octets = request("POST", "/slow", body="a body")
    slow.send(octets[:9])
    assert slow.silent()
    slow.send(octets[9:])
    assert slow.response("POST").text == "/slow"
    assert silent.get("/late").text == "/late"
    assert parked(tidegate) == 0
    after = listed(tidegate)
    assert {port: one["id"] for port, one in after.items()} == {port: one["id"] for port, one in before.items()}
    assert all(after[port]["bytes_in"] > before[port]["bytes_in"] for port in before), "counts go on"
    now = tidegate.counters()
    assert (now["connections_active"], now["connections_accepted"]) == (3, counted["connections_accepted"])
    for client in (pipelining, slow, silent):
        client.close()
    until(lambda: tidegate.counters()["connections_active"] == 0, "the connections to go")


def test_connections_with_tls_are_parked_too(launch, origin, tmp_path):
    """Each keeps what its handshake agreed on, and what its client showed; TLS 1.2 as well."""
    origin.handler = lambda peer, got: peer.answer(200, got.get("x-client-cert-subject") or "nobody")
    site = make_pair(tmp_path, "site", "a.example")
    authority = make_pair(tmp_path, "authority")
    ann = issue(tmp_path, "ann", authority)
    tls = {"client_ca": str(authority.cert), "client_auth": "optional", "client_headers": True}
    tidegate = launch(basic(origin.address, timeouts=LONG, certificates=[site.entry()], listeners=[
        {"name": "web", "bind": "127.0.0.1:0", "tls": tls}]))
    shown, plain, old = trusting(site, own=ann), trusting(site), trusting(site, version=ssl.TLSVersion.TLSv1_2)
    clients = [TlsClient(tidegate.addresses()[0], context, "a.example") for context in (shown, plain, old)]
    texts = ["CN=ann", "nobody", "nobody"]
    try:
        for _ in range(2):
            assert [client.get("/").text for client in clients] == texts
            wait_parked(tidegate, 3)
            tidegate.ok("reload")
        before = tidegate.counters()["tls_handshakes"]
        assert [client.get("/").text for client in clients] == texts
        assert tidegate.counters()["tls_handshakes"] == before == 3
    finally:
        for client in clients:
            client.close()


def test_a_parked_connection_is_closed_when_its_patience_is_over(launch, origin):
    """Cleanly and without a word, and what is on its way meanwhile resets nothing."""
    seconds = PARK_AFTER + 3
    tidegate = launch(basic(origin.address, timeouts={"request_head": f"{seconds}s", "keepalive": f"{seconds}s"}))
    served, silent = kept(tidegate, 1)[0], tidegate.connect()
    began = time.monotonic()
    wait_parked(tidegate, 2)
    for client in (served, silent):
        client.sock.settimeout(15 * PATIENCE)
        client.expect_end()
        assert seconds - 1 < time.monotonic() - began < seconds + 2 * PATIENCE
    assert {one["state"] for one in listed(tidegate).values()} == {"closing"}
    served.send(request())
    assert not served.silent(0.01) or served.silent(), "no reset"
    served.close()
    silent.close()
    until(lambda: tidegate.counters()["connections_active"] == 0, "the connections to go")
    assert [line["path"] for line in tidegate.access_lines()] == ["/first"]


def test_a_stop_closes_the_parked(launch, origin):
    tidegate = launch(basic(origin.address, timeouts=LONG))
    clients = kept(tidegate, 20)
    wait_parked(tidegate, 20)
    began = time.monotonic()
    tidegate.signal(signal.SIGTERM)
    for client in clients:
        client.expect_end()
        client.close()
    assert tidegate.wait_exit() == 0
    assert time.monotonic() - began < 4 * PATIENCE, "nobody waited for the drain's deadline"


def test_a_drain_deadline_closes_the_parked(launch, origin):
    tidegate = launch(basic(origin.address, timeouts=LONG, upgrade={"hand_over": False}))
    client = kept(tidegate, 1)[0]
    wait_parked(tidegate, 1)
    said = tidegate.ok("upgrade", "--force", "--drain", "500ms").text
    client.expect_end()
    client.close()
    assert "cut" not in said, "an idle connection is no loss: " + said
    tidegate.wait_generations(1)


def test_a_request_on_a_parked_connection_is_answered_in_a_drain(launch, origin):
    tidegate = launch(basic(origin.address, workers=2, timeouts=LONG, upgrade={"hand_over": False, "drain": "1m"}))
    clients = kept(tidegate, 20)
    wait_parked(tidegate, 20)
    tidegate.ok("upgrade", "--force", "--detach")
    until(lambda: any("drain" in entry["state"].lower() for entry in tidegate.status()["generations"]), "generation 1 to drain")
    assert parked(tidegate, 1) == 20
    for client in clients:
        client.send(request("GET", "/one") + request("GET", "/two"))
    for client in clients:
        first, second = client.response(), client.response()
        assert (first.status, second.status, second.get("connection")) == (200, 200, "close")
        client.expect_end()
        client.close()
    tidegate.wait_generations(1)
    assert len([line for line in tidegate.access_lines() if line["generation"] == 1]) == 60
    assert tidegate.counters()["connections_active"] == 0


def test_a_reload_leaves_the_parked_alone_and_holds_for_their_next_request(launch, origin):
    tidegate = launch(basic(origin.address, timeouts=LONG))
    clients = kept(tidegate, 3)
    wait_parked(tidegate, 3)
    tidegate.change(routes=[{"name": "new", "respond": {"status": 200, "body": "new"}}])
    tidegate.ok("reload")
    assert parked(tidegate) == 3
    for client in clients:
        answer = client.get("/")
        assert (answer.text, answer.get("connection")) == ("new", None)
        client.close()


def test_conns_kills_a_parked_connection(launch, origin):
    tidegate = launch(basic(origin.address, timeouts=LONG))
    client, other = kept(tidegate, 2)
    wait_parked(tidegate, 2)
    ident = listed(tidegate)[client.port]["id"]
    tidegate.ok("conns", "--kill", ident)
    client.expect_end()
    client.close()
    until(lambda: tidegate.cli("conns", "--kill", ident).code == 1, "it to be gone")
    assert parked(tidegate) == 1
    assert other.get("/").status == 200
    other.close()


def test_a_parked_connection_has_its_share_of_its_address(launch, origin):
    tidegate = launch(basic(origin.address, timeouts=LONG, limits={"max_connections_per_ip": 4}))

    def refused():
        with tidegate.connect() as client:
            try:
                client.send(request())
                return client.response().status != 200
            except (Ended, OSError):
                return True
    clients = kept(tidegate, 4)
    wait_parked(tidegate, 4)
    assert refused()
    assert [client.get("/").status for client in clients] == [200] * 4
    assert refused(), "one that is resumed counts once"
    clients.pop().close()
    until(lambda: not refused(), "room for one")
    for client in clients:
        client.close()
    until(lambda: tidegate.counters()["connections_active"] == 0, "the connections to go")
    for client in kept(tidegate, 4):
        client.close()


def test_a_parked_connection_has_its_share_of_all(launch, origin):
    tidegate = launch(basic(origin.address, timeouts=LONG, limits={"max_connections": 3}))
    clients = kept(tidegate, 3)
    wait_parked(tidegate, 3)
    with tidegate.connect() as late:
        late.send(request())
        assert late.silent(), "there is no room"
        clients.pop().close()
        assert late.response().status == 200
    for client in clients:
        client.close()


@pytest.mark.parametrize("leave", ["close", "reset", "half_close"])
def test_a_client_that_leaves_while_parked_leaves_nothing(launch, origin, leave):
    tidegate = launch(basic(origin.address, timeouts={**LONG, "upstream_idle": "500ms"}))
    worker = tidegate.workers()[0]
    with kept(tidegate, 1)[0]:
        pass
    until(lambda: tidegate.counters()["connections_active"] == 0, "quiet")
    before = len(processes.descriptors(worker))
    clients = kept(tidegate, 100)
    wait_parked(tidegate, 100)
    for client in clients:
        getattr(client, leave)()
    if leave == "half_close":
        for client in clients:
            client.expect_end()
            client.close()
    until(lambda: tidegate.counters()["connections_active"] == 0, "the connections to go")
    until(lambda: len(processes.descriptors(worker)) <= before, "their descriptors to be closed")
    assert tidegate.workers() == [worker]


def test_without_a_descriptor_nothing_is_parked_and_all_are_served(launch, origin):
    if SMALL:
        return  # UBSan opens a pipe to look at memory: without descriptors it reports faults that are none
    same_user = {"user": "root"} if os.geteuid() == 0 else {}
    tidegate = launch(basic(origin.address, timeouts=LONG, routes=[{"respond": {"status": 200, "body": "ok"}}], **same_user))
    worker = tidegate.workers()[0]
    clients = kept(tidegate, 10)
    held = set(processes.descriptors(worker))
    free = next(number for number in range(len(held) + 1) if number not in held)
    before = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (free, before[1]))
    stays(lambda: parked(tidegate) == 0, "a connection was parked", PARK_AFTER + 1)
    assert parked(tidegate) == 0
    assert [client.get("/").status for client in clients] == [200] * 10
    resource.prlimit(worker, resource.RLIMIT_NOFILE, before)
    wait_parked(tidegate, 10)
    assert [client.get("/").status for client in clients] == [200] * 10
    for client in clients:
        client.close()
