"""As root with `user`: workers are nobody in particular. Without root: everything but that."""

import ctypes
import os
import pwd
import re
import shutil
import socket
import struct
import subprocess

import pytest

from support import processes
from support.daemon import BIN, Tidegate, basic
from support.steady import Steady
from support.wait import until

ROOT_RUNS_US = os.geteuid() == 0


def check_unprivileged(pid, uid):
    assert processes.status_field(pid, "Uid").split() == [str(uid)] * 4
    assert processes.status_field(pid, "NoNewPrivs") == "1"
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(processes.status_field(pid, name), 16) == 0, name


def serving(tidegate):
    """Process ids of the workers that serve."""
    return [worker["pid"] for worker in tidegate.status()["generations"][-1]["workers"] if worker["state"] == "serving"]


def privileged_port():
    """A free port below 1024 on 127.0.0.1."""
    for port in range(1023, 600, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise AssertionError("no free port below 1024")


def reachable_binaries(tmp_path_factory):
    """Copies that everybody may execute: the tree may lie where nobody may not look."""
    folder = tmp_path_factory.mktemp("bin")
    for name in ("tidegate", "tidegate-worker"):
        shutil.copy(BIN / name, folder / name)
    for parent in (folder, *folder.parents):
        if str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    return folder


def become(user, *capabilities):
    """A preexec function: as `user`, who keeps these capabilities for what it executes (as AmbientCapabilities= of a unit)."""
    libc = ctypes.CDLL(None, use_errno=True)
    mask = sum(1 << number for number in capabilities)
    header = struct.pack("II", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
    sets = struct.pack("IIIIII", mask, mask, mask, 0, 0, 0)
    SET_KEEPCAPS, CAP_AMBIENT, AMBIENT_RAISE = 8, 47, 2

    def preexec():
        libc.prctl(SET_KEEPCAPS, 1, 0, 0, 0)
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        if libc.capset(header, sets) != 0:
            os._exit(121)
        for number in capabilities:
            if libc.prctl(CAP_AMBIENT, AMBIENT_RAISE, number, 0, 0) != 0:
                os._exit(122)
    return preexec


def give_to(user):
    """A `before` of Tidegate: what its files are is the user's."""
    def give(tidegate):
        for path in (tidegate.directory, tidegate.notify.path):
            os.chown(path, user.pw_uid, user.pw_gid)
    return give


def test_workers_run_as_the_configured_user_without_any_capability(launch, origin):
    nobody = pwd.getpwnam("nobody")
    if not ROOT_RUNS_US:
        tidegate = launch(basic(origin.address, user="nobody"))
        with tidegate.connect() as client:
            assert client.get("/").status == 200
        assert processes.status_field(tidegate.workers()[0], "Uid").split()[0] == str(os.geteuid())
        assert processes.status_field(tidegate.workers()[0], "NoNewPrivs") == "1"
        assert "nobody" in tidegate.stderr, "that the user cannot be changed is said"
        return
    port = privileged_port()
    config = basic(origin.address, workers=2, user="nobody", listeners=[{"name": "web", "bind": f"127.0.0.1:{port}"}])
    tidegate = launch(config)
    for pid in tidegate.workers():
        check_unprivileged(pid, nobody.pw_uid)
        assert processes.status_field(pid, "Gid").split() == [str(nobody.pw_gid)] * 4
        assert set(processes.status_field(pid, "Groups").split()) <= {str(nobody.pw_gid)}, "no group of root is left"
    with Steady(tidegate, strict=False) as steady:
        tidegate.ok("reload", "--force")
        tidegate.ok("upgrade", "--force")
        tidegate.wait_generations(1)
        for pid in tidegate.workers():
            check_unprivileged(pid, nobody.pw_uid)
        victim = tidegate.workers()[0]
        os.kill(victim, 9)
        # Before it serves it may not have given up all that it must.
        workers = until(lambda: len(now := serving(tidegate)) == 2 and victim not in now and now, "a new worker")
        for pid in workers:
            check_unprivileged(pid, nobody.pw_uid)
        steady.more()
    tidegate.access_path.chmod(0o600)
    with tidegate.connect() as client:
        client.get("/logged")
    tidegate.logged(path="/logged")


def test_workers_gain_no_privileges_also_without_a_user(tidegate):
    assert processes.status_field(tidegate.workers()[0], "NoNewPrivs") == "1"


def test_an_unknown_user_is_refused(launch, origin):
    tidegate = launch(basic(origin.address, user="no-such-user-here"), ready=False)
    if ROOT_RUNS_US:
        assert tidegate.wait_exit() == 78
        assert re.search(r"tidegate\.json:\d+: user: there is no user", tidegate.stderr), tidegate.stderr
    else:
        until(lambda: tidegate.process.poll() is not None or "READY=1" in tidegate.notify.lines(), "an end or a start")
    assert "no-such-user-here" in tidegate.stderr


def test_everything_else_works_without_root(origin, tmp_path_factory):
    """When root runs the tests, the daemon is started as nobody; otherwise as whoever we are."""
    binaries, preexec, before = BIN, None, None
    if ROOT_RUNS_US:
        nobody = pwd.getpwnam("nobody")
        binaries, preexec, before = reachable_binaries(tmp_path_factory), become(nobody), give_to(nobody)
    tidegate = Tidegate(basic(origin.address, workers=2), bin_dir=binaries, preexec=preexec, before=before)
    try:
        with Steady(tidegate, strict=False) as steady:
            tidegate.ok("reload", "--force")
            tidegate.ok("upgrade", "--force")
            tidegate.wait_generations(1)
            steady.more()
        assert not steady.failures
        for pid in tidegate.workers():
            assert processes.status_field(pid, "NoNewPrivs") == "1"
        assert tidegate.stop() == 0
    finally:
        faults = tidegate.close()
        tidegate.remove()
    assert not faults, faults


def test_a_port_that_needs_root_is_named(origin, tmp_path_factory):
    """Without root and below 1024: the diagnostics name the address and the reason."""
    if os.path.exists("/proc/sys/net/ipv4/ip_unprivileged_port_start"):
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as file:
            if int(file.read()) <= 600:
                return  # this machine lets everyone bind: nothing to refuse
    folder = reachable_binaries(tmp_path_factory)
    port = privileged_port() if ROOT_RUNS_US else 1023
    (folder / "c.json").write_text('{ "listen": "127.0.0.1:%d", "upstream": "127.0.0.1:1" }' % port)
    options = {"user": "nobody", "group": "nogroup", "extra_groups": []} if ROOT_RUNS_US else {}
    done = subprocess.run([str(folder / "tidegate"), "run", "-c", str(folder / "c.json"), "--socket", str(folder / "s.sock")],
                          capture_output=True, text=True, check=False, timeout=20, cwd="/", **options)
    assert done.returncode in (1, 5), done.stderr
    assert f"127.0.0.1:{port}" in done.stderr or "s.sock" in done.stderr, done.stderr


def test_a_member_of_the_group_may_upgrade_and_not_choose_the_program(origin, tmp_path_factory):
    if not ROOT_RUNS_US:
        return  # nobody else is there to ask
    nobody, other = pwd.getpwnam("nobody"), pwd.getpwnam("daemon")
    binaries = reachable_binaries(tmp_path_factory)
    tidegate = Tidegate(basic(origin.address, user="nobody"), bin_dir=binaries, preexec=become(nobody), before=give_to(nobody))

    def ask(*words):
        command = [str(binaries / "tidegate"), *words, "--socket", str(tidegate.socket_path)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=40, cwd="/",
                              user=other.pw_uid, group=nobody.pw_gid, extra_groups=[])
    try:
        tidegate.wait_ready()
        refused = ask("upgrade", "--force", "--binary", str(binaries / "tidegate"))
        assert refused.returncode == 5 and "--binary is for root" in refused.stdout + refused.stderr, refused
        assert tidegate.generation == 1
        assert ask("upgrade", "--force").returncode == 0
        tidegate.ok("upgrade", "--force", "--binary", binaries / "tidegate")
        tidegate.wait_generations(1)
        assert tidegate.generation == 3
    finally:
        faults = tidegate.close()
        tidegate.remove()
    assert not faults, faults


CAP_NET_BIND_SERVICE, CAP_DAC_READ_SEARCH = 10, 2


@pytest.fixture
def unit_like(origin, tmp_path_factory):
    """As a unit with User= and AmbientCapabilities= runs it: an ordinary user that may bind every port and read every file. None where
    we are not root: nobody else can give them."""
    if not ROOT_RUNS_US:
        yield None
        return
    nobody = pwd.getpwnam("nobody")
    config = basic(origin.address, workers=2, user="nobody",
                   listeners=[{"name": "web", "bind": f"127.0.0.1:{privileged_port()}"}])
    tidegate = Tidegate(config, bin_dir=reachable_binaries(tmp_path_factory), before=give_to(nobody),
                        preexec=become(nobody, CAP_NET_BIND_SERVICE, CAP_DAC_READ_SEARCH))
    yield tidegate
    faults = tidegate.close()
    tidegate.remove()
    assert not faults, faults


def test_workers_have_none_of_the_capabilities_that_the_supervisor_was_given(unit_like):
    tidegate = unit_like
    if tidegate is None:
        return

    def check():
        assert int(processes.status_field(tidegate.pid, "CapEff"), 16) == 1 << CAP_NET_BIND_SERVICE | 1 << CAP_DAC_READ_SEARCH
        for pid in tidegate.workers():
            for name in ("CapPrm", "CapEff", "CapAmb"):
                assert int(processes.status_field(pid, name), 16) == 0, name
    check()
    assert "not started as root" not in tidegate.stderr, "the user that is asked for is the one that it has"
    with Steady(tidegate, strict=False) as steady:
        tidegate.ok("reload", "--force")
        tidegate.ok("upgrade", "--force")
        tidegate.wait_generations(1)
        steady.more()
    check()
