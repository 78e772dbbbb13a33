"""The supervisor at work: dying workers, dying supervisors, signals, systemd's protocol."""

import contextlib
import datetime
import os
import re
import signal
import socket
import threading
import time

import pytest

from support import processes
from support.client import request
from support.daemon import BIN, basic
from support.ports import free_port
from support.steady import Steady
from support.wait import PATIENCE, duration, until


def fixed(address, **changes):
    """With a port that a second supervisor will ask for again."""
    return basic(address, listeners=[{"name": "web", "bind": f"127.0.0.1:{free_port()}"}], **changes)


# Workers that die.

def test_a_killed_worker_is_replaced_in_its_slot_and_generation(launch, origin):
    tidegate = launch(basic(origin.address, workers=2))
    before = tidegate.workers()
    os.kill(before[1], signal.SIGKILL)
    # Each look by itself: between two of them the dead one may be noticed.
    after = until(lambda: len(now := tidegate.workers()) == 2 and now[1] != before[1] and now, "a new worker in slot 1")
    assert after[0] == before[0]
    assert tidegate.generation == 1
    assert str(before[1]) in tidegate.stderr, "the log names who died"


def test_while_a_slot_is_empty_a_neighbour_accepts_for_it(launch, origin):
    """Also while back-off delays the restart: nothing waits in a queue that nobody serves."""
    tidegate = launch(basic(origin.address, workers=2))
    tidegate.port()
    for _ in range(5):
        victim = tidegate.workers()[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda v=victim: not processes.alive(v), "the worker to die")
        clients = [tidegate.connect(seconds=5) for _ in range(20)]
        assert [client.get("/").status for client in clients] == [200] * 20
        for client in clients:
            client.close()
        until(lambda v=victim: tidegate.workers() and v not in tidegate.workers() and len(tidegate.workers()) == 2,
              "a new worker", 30)


def times_of(tidegate, text):
    """When the log said so, in seconds."""
    return [datetime.datetime.fromisoformat(line.split()[0].replace("Z", "+00:00")).timestamp()
            for line in tidegate.stderr.splitlines() if text in line]


def test_a_worker_that_dies_again_and_again_is_restarted_with_back_off(launch, origin):
    tidegate = launch(basic(origin.address, workers=2))
    for _ in range(6):
        victim = tidegate.workers()[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda v=victim: len(now := tidegate.workers()) == 2 and v not in now, "a new worker", 60)
    # By the supervisor's own clock: what a worker needs until it serves, and we until we see it, is no back-off.
    died, started = times_of(tidegate, "killed by signal 9"), times_of(tidegate, " started")
    gaps = [after - before for before, after in zip(died, started, strict=True)]
    assert all(gap > 0.09 * 2 ** place for place, gap in enumerate(gaps[1:])), f"no back-off: {gaps}"
    assert gaps[0] < gaps[-1], f"the first restart is at once: {gaps}"


def test_all_workers_killed_at_once_come_back_and_the_queue_is_answered(launch, origin):
    tidegate = launch(basic(origin.address, workers=3))
    tidegate.port()
    victims = tidegate.workers()
    for pid in victims:
        os.kill(pid, signal.SIGSTOP)
    until(lambda: all(processes.stopped(pid) for pid in victims), "the workers to stop")
    clients = [tidegate.connect(seconds=20) for _ in range(30)]
    for client in clients:
        client.send(request())
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    assert [client.response().status for client in clients] == [200] * 30
    for client in clients:
        client.close()


def test_the_clients_of_a_killed_worker_see_the_end(tidegate, origin):
    origin.handler = lambda peer, _: peer.expect_gone()
    with tidegate.connect() as client:
        client.send(request())
        origin.wait_requests(1)
        os.kill(tidegate.workers()[0], signal.SIGKILL)
        assert client.expect_gone() == b""
    assert origin.peers[0].finished.wait(10 * PATIENCE)


# Supervisors that die.

def kill_supervisor(tidegate):
    tidegate.process.kill()
    tidegate.process.wait()


def test_workers_serve_on_when_the_supervisor_is_killed(launch, origin):
    tidegate = launch(fixed(origin.address, workers=2))
    workers = tidegate.workers()
    tidegate.connect().close()
    with Steady(tidegate) as steady:
        kill_supervisor(tidegate)
        steady.more()
        clients = [tidegate.connect() for _ in range(10)]
        assert [client.get("/").status for client in clients] == [200] * 10
        for client in clients:
            client.close()
    assert set(tidegate.worker_processes()) == set(workers)
    outcome = tidegate.cli("status")
    assert outcome.code == 4 and outcome.err.startswith("tidegate: the supervisor is gone; "), outcome.text
    tidegate.start().wait_ready()


def test_a_new_supervisor_takes_over_from_a_killed_one(launch, origin):
    tidegate = launch(fixed(origin.address, workers=2))
    orphans = tidegate.workers()
    with Steady(tidegate, strict=False) as steady:
        kill_supervisor(tidegate)
        tidegate.start().wait_ready()
        steady.more()
        assert tidegate.status()["pid"] == tidegate.pid
        until(lambda: not any(processes.alive(pid) for pid in orphans), "the orphans to end", 20)
        steady.more()
    assert not steady.failures
    assert len(tidegate.workers()) == 2
    tidegate.ok("reload", "--force")


def test_a_request_in_progress_survives_the_supervisors_death_and_the_takeover(launch, origin):
    go = threading.Event()
    origin.handler = lambda peer, got: (peer.wait(go) if got.target == "/slow" else None, peer.answer())
    tidegate = launch(fixed(origin.address))
    with tidegate.connect() as client:
        client.send(request("GET", "/slow"))
        origin.wait_requests(1)
        kill_supervisor(tidegate)
        tidegate.start().wait_ready()
        go.set()
        assert client.response().status == 200


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_supervisor_that_dies_in_the_takeover_leaves_nobody_behind(launch, origin, deaths):
    """Some workers have agreed by then, some have not been asked: the next start finds both."""
    tidegate = launch(fixed(origin.address, workers=3))
    orphans = tidegate.workers()
    with Steady(tidegate, strict=False) as steady:
        kill_supervisor(tidegate)
        for _ in range(deaths):
            tidegate.extra_env["TIDEGATE_TEST_FAULT"] = "takeover:die"
            tidegate.start()
            assert tidegate.wait_exit() == -signal.SIGKILL
            steady.more("answers without a supervisor")
        del tidegate.extra_env["TIDEGATE_TEST_FAULT"]
        tidegate.start().wait_ready()
        assert set(orphans) <= {int(pid) for pid in re.findall(r"took over worker .*\(pid (\d+)\)", tidegate.stderr)}
        until(lambda: not any(processes.alive(pid) for pid in orphans), "the orphans to end", 20)
        steady.more()
    assert not steady.failures
    until(lambda: places(tidegate) == ["control.sock"], lambda: f"no place of an orphan to be left: {places(tidegate)}")
    tidegate.ok("reload", "--force")


def places(tidegate):
    """Where supervisors and orphans are asked."""
    return sorted(path.name for path in tidegate.directory.glob("control.sock*"))


def test_status_ends_with_3_while_something_is_wrong(launch, origin):
    tidegate = launch(basic(origin.address, workers=2))
    assert tidegate.cli("status").code == 0
    first = tidegate.workers()[0]
    os.kill(first, signal.SIGKILL)  # it comes back at once, the next ones come later
    until(lambda: first not in tidegate.workers() and len(tidegate.workers()) == 2, "another worker in its place")

    def unhealthy():
        for pid in tidegate.workers():
            with contextlib.suppress(ProcessLookupError):  # It dies since the round before.
                os.kill(pid, signal.SIGKILL)
        outcome = tidegate.cli("status", "--json")
        return outcome.code == 3 and outcome.json["healthy"] is False and outcome.json["problems"]
    until(unhealthy, "exit code 3", 30)
    assert tidegate.cli("status", "--timeout", "5s").code in (0, 3)
    until(lambda: tidegate.cli("status").code == 0, "all workers again", 30)


# Workers that hang.

def test_a_worker_that_slept_through_the_takeover_drains_when_it_wakes(launch, origin):
    """It would serve the old configuration beside the new one, and nobody could reach it."""
    config = fixed(origin.address, workers=3, routes=[{"name": "r", "respond": {"status": 200, "body": "old"}}])
    tidegate = launch(config)
    asleep = tidegate.workers()[:2]
    for pid in asleep:
        os.kill(pid, signal.SIGSTOP)
    until(lambda: all(processes.stopped(pid) for pid in asleep), "the workers to stop")
    kill_supervisor(tidegate)
    tidegate.change(routes=[{"name": "r", "respond": {"status": 200, "body": "new"}}])
    tidegate.start().wait_ready()
    outcome = tidegate.cli("status", "--json")
    assert outcome.code == 3 and "does not answer" in str(outcome.json["problems"])
    tidegate.ok("upgrade", "--force")
    for pid in asleep:
        os.kill(pid, signal.SIGCONT)
    until(lambda: not any(processes.alive(pid) for pid in asleep), "the sleepers to end", 30)
    answers = set()
    for _ in range(20):
        with tidegate.connect() as client:
            answers.add(client.get("/").text)
    assert answers == {"new"}
    until(lambda: tidegate.cli("status").code == 0, "a healthy status")
    until(lambda: places(tidegate) == ["control.sock"], lambda: f"no place of a sleeper to be left: {places(tidegate)}")


def test_conns_names_a_worker_that_does_not_answer_and_shows_the_rest(launch, origin):
    tidegate = launch(basic(origin.address, workers=2))
    clients = [tidegate.connect() for _ in range(8)]
    assert [client.get("/").status for client in clients] == [200] * 8
    stopped = tidegate.workers()[0]
    os.kill(stopped, signal.SIGSTOP)
    until(lambda: processes.stopped(stopped), "the worker to stop")
    data = tidegate.ok("conns", "--json", seconds=10).json
    assert [entry["pid"] for entry in data["silent_workers"]] == [stopped]
    assert stopped not in {entry["pid"] for entry in data["connections"]}
    said = tidegate.ok("conns", seconds=10).out
    assert f"(pid {stopped}) does not answer" in said
    outcome = tidegate.cli("conns", "--kill", "1.0.1", seconds=10)
    assert outcome.code == 1 and "worker 0 of generation 1 does not answer" in outcome.text
    os.kill(stopped, signal.SIGCONT)
    until(lambda: len(tidegate.ok("conns", "--json").json["connections"]) == 8, "all connections")
    for client in clients:
        client.close()


# Signals.

def test_sighup_is_a_reload(launch, origin):
    tidegate = launch(basic(origin.address, routes=[{"name": "r", "respond": {"status": 200, "body": "old"}}]))
    tidegate.change(routes=[{"name": "r", "respond": {"status": 200, "body": "new"}}])
    tidegate.signal(signal.SIGHUP)

    def new():
        with tidegate.connect() as client:
            return client.get("/").text == "new"
    until(new, "the new configuration")
    assert tidegate.generation == 1


def test_sighup_with_a_broken_configuration_says_so_in_the_log(tidegate):
    tidegate.write('{ "upsteam": 1 }')
    tidegate.signal(signal.SIGHUP)
    until(lambda: "upsteam" in tidegate.stderr, "the diagnostics in the log")
    with tidegate.connect() as client:
        assert client.get("/").status == 200


def test_sigusr1_reopens_the_logs(tidegate):
    with tidegate.connect() as client:
        client.get("/1")
        tidegate.logged(path="/1")
        tidegate.access_path.rename(tidegate.access_path.with_suffix(".1"))
        tidegate.signal(signal.SIGUSR1)
        until(lambda: tidegate.access_path.exists(), "a new access log")

        def arrives():
            client.get("/2")
            return any(line["path"] == "/2" for line in tidegate.access_lines())
        until(arrives, "a line in the new file")


def test_a_stop_closes_a_connection_whose_answer_had_begun(launch, origin):
    """Its head could not say so any more; nothing follows all the same."""
    go = threading.Event()

    def half(peer, _):
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        peer.wait(go)
        peer.send(b"cd")
    origin.handler = half
    tidegate = launch(basic(origin.address, shutdown={"timeout": "1h"}))
    with tidegate.connect() as client:
        client.send(request())
        head = client.response_head()
        assert client.exactly(2) == b"ab"
        tidegate.signal(signal.SIGTERM)
        until(lambda: "STOPPING=1" in tidegate.notify.lines(), "STOPPING=1")
        assert client.silent()
        go.set()
        assert client.exactly(2) == b"cd" and head.get("connection") is None
        client.expect_end()
    assert tidegate.wait_exit() == 0


def test_a_stop_serves_the_first_request_of_who_has_just_connected(tidegate):
    """It may be one round trip away."""
    with tidegate.connect() as client:
        until(lambda: tidegate.counters()["connections_active"] == 1, "the connection to be accepted")
        tidegate.signal(signal.SIGTERM)
        # It has heard of the stop when it tells what is left.
        until(lambda: tidegate.status()["generations"][0].get("draining", {}).get("left") == 1, "the worker to drain")
        assert client.silent()
        answer = client.get("/")
        assert (answer.status, answer.get("connection")) == (200, "close")
        client.expect_end()
    assert tidegate.wait_exit() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_stop_signal_ends_with_0_and_leaves_nothing(tidegate, number):
    with tidegate.connect() as client:
        client.get("/")
        tidegate.signal(number)
        client.expect_end()
    assert tidegate.wait_exit() == 0
    assert not tidegate.socket_path.exists()
    until(lambda: not tidegate.processes(), "no process left", 2)


def test_a_second_term_stops_now(launch, origin):
    origin.handler = lambda peer, _: peer.expect_gone()
    tidegate = launch(basic(origin.address, shutdown={"timeout": "1h"}))
    with tidegate.connect() as client:
        client.send(request())
        origin.wait_requests(1)
        tidegate.signal(signal.SIGTERM)
        until(lambda: "STOPPING=1" in tidegate.notify.lines(), "STOPPING=1")
        assert client.silent()
        tidegate.signal(signal.SIGTERM)
        client.expect_gone()
    tidegate.wait_exit()


def test_the_shutdown_delay_keeps_accepting_for_a_while(launch, origin):
    tidegate = launch(basic(origin.address, shutdown={"delay": duration(0.7), "timeout": "5s"}))
    address = tidegate.connect().sock.getpeername()
    began = time.monotonic()
    tidegate.signal(signal.SIGTERM)
    until(lambda: "STOPPING=1" in tidegate.notify.lines(), "STOPPING=1")
    with socket.create_connection(address, timeout=5) as late:
        late.sendall(request())
        assert late.recv(100).startswith(b"HTTP/1.1 200 ")
    assert tidegate.wait_exit() == 0
    assert time.monotonic() - began >= 0.6 * PATIENCE


# Ports.

def test_a_port_of_another_daemon_is_refused_and_its_holder_named(launch, origin):
    """SO_REUSEPORT would let both have it, and each would get half of the connections."""
    first = launch(fixed(origin.address, workers=2))
    second = launch(first.config, ready=False)
    assert second.wait_exit() == 1
    address = first.config["listeners"][0]["bind"]
    assert re.search(rf"{address}, which tidegate\S* \(pid \d+\) holds: Address already in use", second.stderr), second.stderr
    with first.connect() as client:
        assert client.get("/").status == 200


def test_a_listener_may_become_narrower_on_its_own_port(launch, origin):
    tidegate = launch(fixed(origin.address))
    port = tidegate.port()
    tidegate.change(listeners=[{"name": "web", "bind": f":{port}"}])
    tidegate.ok("reload")
    with tidegate.connect() as client:
        assert client.get("/").status == 200
    tidegate.change(listeners=[{"name": "web", "bind": f"127.0.0.1:{port}"}])
    tidegate.ok("reload")
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(request())
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")


# systemd.

def test_systemd_hears_of_ready_reloading_and_stopping(tidegate):
    assert any(line.startswith("STATUS=") for line in tidegate.notify.lines())
    tidegate.notify.messages.clear()
    tidegate.ok("reload", "--force")
    until(lambda: "READY=1" in tidegate.notify.lines(), "READY=1 after the reload")
    lines = tidegate.notify.lines()
    assert lines.index("RELOADING=1") < lines.index("READY=1")
    usec = next(line for line in lines if line.startswith("MONOTONIC_USEC="))
    assert abs(int(usec.split("=")[1]) / 1e6 - time.monotonic()) < 60
    tidegate.stop()
    until(lambda: "STOPPING=1" in tidegate.notify.lines(), "STOPPING=1")


def test_systemd_hears_of_an_upgrade_and_its_end(tidegate):
    tidegate.notify.messages.clear()
    tidegate.ok("upgrade", "--force")
    until(lambda: "READY=1" in tidegate.notify.lines(), "READY=1 after the upgrade")


def test_the_watchdog_is_fed(launch, origin):
    tidegate = launch(basic(origin.address), env={"WATCHDOG_USEC": "400000"})
    until(lambda: tidegate.notify.lines().count("WATCHDOG=1") >= 3, "WATCHDOG=1 three times", 5)
    tidegate.ok("upgrade", "--force")
    fed = tidegate.notify.lines().count("WATCHDOG=1")
    until(lambda: tidegate.notify.lines().count("WATCHDOG=1") >= fed + 2, "WATCHDOG=1 after an upgrade", 5)


@pytest.mark.parametrize("named", [False, True])
def test_sockets_of_systemd_are_used(launch, origin, named, tmp_path):
    with socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        given.listen(100)
        port = given.getsockname()[1]
        # Before the start: a connection that waits in the queue of the given socket.
        early = socket.create_connection(("127.0.0.1", port))
        early.sendall(request("GET", "/early"))
        bind = "systemd:front" if named else f"127.0.0.1:{port}"
        env = {"LISTEN_FDS": "1", **({"LISTEN_FDNAMES": "front"} if named else {})}
        config = basic(origin.address, listeners=[{"name": "web", "bind": bind}])
        wrapper = tmp_path / "as-systemd"
        wrapper.write_text(f'#!/bin/bash\nLISTEN_PID=$$ exec {BIN}/tidegate "$@" 3<&{given.fileno()} {given.fileno()}<&-\n')
        wrapper.chmod(0o755)
        tidegate = launch(config, env=env, binary=wrapper, pass_fds=(given.fileno(),))
    assert early.recv(100).startswith(b"HTTP/1.1 200 ")
    early.close()
    assert tidegate.addresses() == [f"127.0.0.1:{port}"] or str(port) in str(tidegate.status()["listeners"])
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(request())
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
    tidegate.ok("reload", "--force")
    tidegate.ok("upgrade", "--force")
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(request())
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
