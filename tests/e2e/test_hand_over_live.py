"""Connections that live through an upgrade: with real workers on both sides, seen by their clients and by the operator."""

import os
import signal
import threading

import pytest

from support import processes
from support.client import request
from support.daemon import BIN, basic
from support.wait import duration, until
from test_supervisor import fixed, kill_supervisor
from test_tunnels import echo, open_tunnel, switching

NEW = BIN / "tidegate"


def upgrade(tidegate, *more):
    """The result of an upgrade, as --json says it."""
    return tidegate.ok("upgrade", "--binary", NEW, "--force", "--json", *more).json_lines[-1]


def test_an_idle_connection_goes_to_the_new_generation(tidegate):
    with tidegate.connect() as client:
        assert client.get("/before").status == 200
        result = upgrade(tidegate)
        response = client.get("/after")
        assert response.status == 200 and response.get("connection") != "close"
        assert result["handed_over"]["idle"] == 1 and result["declined"] == {}
        assert (result["drained"], result["forced"]) == (0, 0)
        assert tidegate.logged(path="/after")["generation"] == 2
    assert tidegate.counters()["handed_over_idle"] == 1


def test_a_tunnel_goes_to_the_new_generation(tidegate, origin):
    origin.next(switching(echo))
    with tidegate.connect() as client:
        open_tunnel(client)
        client.send(b"before")
        assert client.exactly(6) == b"before"
        result = upgrade(tidegate)
        client.send(b"after")
        assert client.exactly(5) == b"after"
        assert result["handed_over"]["tunnels"] == 1
        [one] = tidegate.cli("conns", "--json").json["connections"]
        assert (one["generation"], one["state"], one["hand_overs"]) == (2, "tunnel", 1)
        assert "MOVED" in tidegate.cli("conns").out


def test_connections_that_have_not_moved_have_no_column_for_it(tidegate):
    with tidegate.connect() as client:
        client.get("/")
        assert "MOVED" not in tidegate.cli("conns").out


def test_hand_over_false_ends_connections_as_before(launch, origin):
    tidegate = launch(basic(origin.address, upgrade={"hand_over": False, "drain": duration(5)}))
    with tidegate.connect() as client:
        client.get("/")
        outcome = []
        upgrading = threading.Thread(target=lambda: outcome.append(upgrade(tidegate)))
        upgrading.start()
        until(lambda: tidegate.status()["generations"][0]["state"] == "draining", "the drain")
        assert client.get("/").get("connection") == "close"
        upgrading.join()
    assert outcome[0]["handed_over"] == {"idle": 0, "tunnels": 0, "upstream": 0} and outcome[0]["drained"] == 1


@pytest.mark.parametrize("counts", [(3, 1), (1, 3), (2, 2)], ids=str)
def test_every_connection_moves_whatever_the_counts_of_workers(launch, origin, counts):
    before, after = counts
    tidegate = launch(basic(origin.address, workers=before))
    clients = [tidegate.connect() for _ in range(24)]
    assert [client.get("/").status for client in clients] == [200] * 24
    tidegate.change(workers=after)
    result = upgrade(tidegate)
    assert result["handed_over"]["idle"] == 24
    assert [client.get("/").status for client in clients] == [200] * 24
    for client in clients:
        client.close()


def test_who_is_inside_an_exchange_moves_when_it_ends_also_to_a_replaced_heir(launch, origin):
    go = threading.Event()
    origin.handler = lambda peer, got: (peer.wait(go) if got.target == "/slow" else None, peer.answer())
    tidegate = launch(basic(origin.address, upgrade={"drain": "30s"}))
    with tidegate.connect() as client:
        client.send(request("GET", "/slow"))
        origin.wait_requests(1)
        tidegate.ok("upgrade", "--binary", NEW, "--force", "--detach")
        until(lambda: tidegate.status()["generations"][0]["state"] == "draining", "the drain")
        [heir] = tidegate.workers(2)
        os.kill(heir, signal.SIGKILL)
        until(lambda: [pid for pid in tidegate.workers(2) if pid != heir], "another worker in its place")
        until(lambda: tidegate.status()["generations"][-1]["workers"][0]["state"] == "serving", "it to serve")
        go.set()
        response = client.response()
        assert response.status == 200 and response.get("connection") != "close"
        tidegate.wait_generations(1)
        assert client.get("/after").status == 200
    assert tidegate.logged(path="/after")["generation"] == 2


def test_a_new_supervisor_takes_the_connections_of_the_orphans_along(launch, origin):
    tidegate = launch(fixed(origin.address))
    with tidegate.connect() as client:
        client.get("/")
        orphans = tidegate.workers()
        kill_supervisor(tidegate)
        tidegate.start().wait_ready()
        until(lambda: not any(processes.alive(pid) for pid in orphans), "the orphans to end", 20)
        assert client.get("/").status == 200
    until(lambda: "hand over: 1 idle connection, 0 tunnels moved" in tidegate.stderr, "the log to tell what has moved")


def test_what_the_new_generation_declines_is_told_and_drains(launch, origin):
    origin.next(switching(echo))
    tidegate = launch(basic(origin.address, upgrade={"drain_tunnels": "1s"}))
    with tidegate.connect() as client:
        open_tunnel(client)
        tidegate.change(routes=[{"name": "other", "path": "/other", "upstream": "app"}])
        result = upgrade(tidegate)
        client.expect_gone()
    assert result["declined"] == {"route": 1} and result["forced"] == 1
    assert tidegate.counters()["hand_over_declined_route"] == 1


def test_a_roll_back_by_command_hands_over_as_well(tidegate):
    with tidegate.connect() as client:
        client.get("/")
        upgrade(tidegate)
        result = tidegate.ok("rollback", "--json").json_lines[-1]
        assert result["handed_over"]["idle"] == 1
        assert client.get("/").status == 200
    assert tidegate.cli("conns", "--json").code == 0


def test_a_worker_that_is_killed_has_lost_only_what_had_not_moved(launch, origin):
    """What moved after its last report is known by its counters."""
    go = threading.Event()
    origin.handler = lambda peer, got: (peer.wait(go) if got.target == "/slow" else None, peer.answer())
    tidegate = launch(basic(origin.address, upgrade={"drain": "30s"}))
    idle = [tidegate.connect() for _ in range(5)]
    for client in idle:
        client.get("/")
    with tidegate.connect() as busy:
        busy.send(request("GET", "/slow"))
        until(lambda: any(got.target == "/slow" for got in origin.requests), "the slow one")
        [old] = tidegate.workers()
        results = []
        upgrading = threading.Thread(target=lambda: results.append(upgrade(tidegate)))
        upgrading.start()
        until(lambda: tidegate.counters()["handed_over_idle"] == 5, "the idle ones to move")
        os.kill(old, signal.SIGKILL)
        upgrading.join()
        busy.expect_gone()
    go.set()
    assert results[0]["handed_over"]["idle"] == 5 and results[0]["forced"] == 1
    assert [client.get("/").status for client in idle] == [200] * 5
    for client in idle:
        client.close()
