"""Where operations of the supervisor meet: a stop in an upgrade, a reload after a roll-back, two that start at once."""

import json
import os
import signal
import socket
import threading
import time

import pytest

from support import processes
from support.client import request
from support.daemon import basic, copied_binaries
from support.ports import free_port
from support.wait import PATIENCE, duration, until


def slow(origin, seconds):
    """GET /slow is answered after `seconds`."""
    gate = threading.Event()
    origin.handler = lambda peer, got: (gate.wait(seconds) if got.target == "/slow" else None, peer.answer())
    return gate


def descriptors(pid):
    links = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{pid}/fd/{number}"))
        except OSError:
            continue
    return links


def links_to(pid, name):
    return sum(name in link for link in descriptors(pid))


def test_a_stop_in_the_preflight_stops_and_leaves_nothing(launch, origin):
    gate = slow(origin, 3)
    tidegate = launch(basic(origin.address))
    with tidegate.connect() as client:
        client.send(request("GET", "/slow"))
        origin.wait_requests(1)
        thread = threading.Thread(target=lambda: tidegate.cli("upgrade", "--force"))
        thread.start()
        outcome = tidegate.cli("stop", seconds=20)
        gate.set()
        thread.join()
        assert outcome.code == 0, outcome.text
    assert tidegate.wait_exit() == 0
    until(lambda: not tidegate.processes(), "no process left", 3)


def test_a_stop_in_probation_keeps_to_the_limits_of_the_stop(launch, origin):
    slow(origin, 20 * PATIENCE)
    tidegate = launch(basic(origin.address, shutdown={"timeout": "1s"},
                            upgrade={"probation": duration(2), "drain": duration(20), "drain_tunnels": duration(20)}))
    with tidegate.connect() as client:
        client.send(request("GET", "/slow"))
        origin.wait_requests(1)
        thread = threading.Thread(target=lambda: tidegate.cli("upgrade", "--force"))
        thread.start()
        until(lambda: tidegate.generation == 2, "the commit")
        began = time.monotonic()
        assert tidegate.cli("stop", seconds=20).code == 0
        assert time.monotonic() - began < 6 * PATIENCE
        thread.join()
    assert tidegate.wait_exit() == 0


def test_a_reload_after_a_refused_upgrade_asks_every_worker(launch, origin, tmp_path):
    """Answers that a worker gave to an image before are none to this one."""
    tidegate = launch(basic(origin.address, upgrade={"ready_timeout": duration(1)}), env={"TIDEGATE_TEST_FAULTS": "1"})
    binary = copied_binaries(tmp_path / "next")
    (binary.parent / "tidegate.fault").write_text("supervisor.bind:fail")
    assert tidegate.cli("upgrade", "--binary", binary, seconds=20).code == 1
    tidegate.change(limits={"max_headers": 77})
    worker = tidegate.workers()[0]
    os.kill(worker, signal.SIGSTOP)
    outcome = tidegate.cli("reload", seconds=20)
    os.kill(worker, signal.SIGCONT)
    assert outcome.code == 1 and "not ready" in outcome.text, outcome.text


def test_refused_upgrades_leave_no_descriptor_behind(launch, origin, tmp_path):
    tidegate = launch(basic(origin.address), env={"TIDEGATE_TEST_FAULTS": "1"})
    binary = copied_binaries(tmp_path / "next")
    for fault in ("supervisor.bind:fail", "adopt:fail"):
        (binary.parent / "tidegate.fault").write_text(fault)
        assert tidegate.cli("upgrade", "--binary", binary, seconds=20).code == 1
        before = descriptors(tidegate.pid)
        for _ in range(3):
            assert tidegate.cli("upgrade", "--binary", binary, seconds=20).code == 1
        until(lambda: len(descriptors(tidegate.pid)) <= len(before), f"no descriptor left after {fault}")


def test_a_worker_has_only_what_it_was_given(launch, origin):
    tidegate = launch(basic(origin.address))
    tidegate.ok("upgrade", "--force")
    tidegate.wait_generations(1)
    links = descriptors(tidegate.workers()[0])
    assert not [link for link in links if "tidegate-state" in link or "/tidegate" in link and "log" not in link], links


def test_a_supervisor_that_hangs_is_not_replaced_by_accident(launch, origin):
    """Its control socket's queue is full: it lives."""
    tidegate = launch(basic(origin.address, listeners=[{"name": "web", "bind": f"127.0.0.1:{free_port()}"}]))
    os.kill(tidegate.pid, signal.SIGSTOP)
    waiting = []
    try:
        for _ in range(80):
            one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            one.setblocking(False)
            waiting.append(one)
            try:
                one.connect(str(tidegate.socket_path))
            except BlockingIOError:
                break
        second = tidegate.cli("run", "-c", tidegate.config_path, seconds=20)
        assert second.code == 6, second.text
        assert tidegate.socket_path.exists()
    finally:
        for one in waiting:
            one.close()
        os.kill(tidegate.pid, signal.SIGCONT)
    until(lambda: tidegate.cli("status").code == 0, "the daemon to answer again")
    assert processes.alive(tidegate.pid)


def test_names_do_not_hang_on_what_the_kernel_calls_a_program(launch, origin):
    """Before Linux 6.14 a program that is executed by a descriptor is called by its number: as here, where files are."""
    tidegate = launch(basic(origin.address, listeners=[{"name": "web", "bind": f"127.0.0.1:{free_port()}"}]))
    binary = copied_binaries(tidegate.directory / "next")
    for name, number in (("tidegate", "9"), ("tidegate-worker", "7")):
        path = binary.parent / name
        path.rename(path.with_name(number))
        path.symlink_to(number)
    tidegate.ok("upgrade", "--binary", binary)
    worker, = tidegate.workers()
    assert os.readlink(f"/proc/{worker}/exe").endswith("/7")
    assert processes.stat_of(tidegate.pid)[0] == "tidegate" and processes.stat_of(worker)[0] == "tidegate-worker"
    tidegate.process.kill()
    tidegate.process.wait()
    tidegate.start().wait_ready()
    assert f"took over worker 0 of generation 2 (pid {worker}" in tidegate.stderr, tidegate.stderr


@pytest.mark.parametrize("claim", [
    {"pid": 1}, {"pid": -1}, {"pid": 4294967295}, {"slot": 1 << 40}, {"sockets": 1 << 60}, {"sockets": "x"},
    {"sockets": 1, "names": {"a": 1}},
], ids=str)
def test_an_orphan_that_makes_no_sense_does_not_keep_a_supervisor_from_starting(launch, origin, claim):
    """Workers are the processes that an attacker gets first; what they say of themselves is not believed."""
    listeners = []

    def orphan(tidegate):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(tidegate.socket_path))
        listener.listen(64)
        listeners.append(listener)

        def say(peer, **body):
            body = {"v": 1, "fds": 1, **body}
            socket.send_fds(peer, [json.dumps(body).encode()], [listener.fileno()])

        def answer():
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    try:
                        peer.recv(65536)
                        say(peer, type="adopted", **{"pid": os.getpid(), "generation": 1, "slot": 0, "row": 0, "sockets": 0,
                                                     **claim})
                        say(peer, type="sockets", sockets=claim.get("names", []))
                    except OSError:
                        continue
        threading.Thread(target=answer, daemon=True).start()
    tidegate = launch(basic(origin.address), before=orphan)
    with tidegate.connect() as client:
        assert client.get("/").status == 200
    assert processes.alive(os.getpid())
    listeners[0].shutdown(socket.SHUT_RDWR)
    listeners[0].close()
    until(lambda: tidegate.cli("status").code == 0, "the place beside the socket to be free")


def test_a_stop_while_workers_prepare_a_reload_refuses_the_reload(launch, origin):
    """The answer of a worker that was asleep comes when nobody wants it any more."""
    tidegate = launch(basic(origin.address))
    worker = tidegate.workers()[0]
    tidegate.change(limits={"max_headers": 77})
    os.kill(worker, signal.SIGSTOP)
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(tidegate.cli("reload")))
    thread.start()
    until(lambda: links_to(tidegate.pid, "tidegate-config") == 2, "the reload to have made its configuration")
    tidegate.signal(signal.SIGTERM)
    until(lambda: any("STOPPING=1" in line for line in tidegate.notify.lines()), "the stop to begin")
    os.kill(worker, signal.SIGCONT)
    thread.join()
    assert tidegate.wait_exit() == 0, tidegate.stderr
    assert outcomes[0].code == 1 and "the supervisor is stopping" in outcomes[0].text, outcomes[0].text
