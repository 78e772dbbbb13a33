"""As root with `user`: workers are nobody in particular. Without root: everything but that."""

import os
import pwd
import re
import shutil
import socket
import subprocess

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
        until(lambda: len(tidegate.workers()) == 2 and victim not in tidegate.workers(), "a new worker")
        for pid in tidegate.workers():
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
    if not ROOT_RUNS_US:
        binaries, preexec = BIN, None
    else:
        # The tree may lie where nobody may not look.
        binaries = tmp_path_factory.mktemp("bin")
        for name in ("tidegate", "tidegate-worker"):
            shutil.copy(BIN / name, binaries / name)
        for folder in (binaries, *binaries.parents):
            if str(folder).startswith("/tmp/"):
                folder.chmod(0o755)
        nobody = pwd.getpwnam("nobody")

        def preexec():
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)

    def give(tidegate):
        if ROOT_RUNS_US:
            for path in (tidegate.directory, tidegate.notify.path):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
    tidegate = Tidegate(basic(origin.address, workers=2), bin_dir=binaries, preexec=preexec, before=give)
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
    folder = tmp_path_factory.mktemp("bin")
    for name in ("tidegate", "tidegate-worker"):
        shutil.copy(BIN / name, folder / name)
    for parent in (folder, *folder.parents):
        if str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    port = privileged_port() if ROOT_RUNS_US else 1023
    (folder / "c.json").write_text('{ "listen": "127.0.0.1:%d", "upstream": "127.0.0.1:1" }' % port)
    options = {"user": "nobody", "group": "nogroup", "extra_groups": []} if ROOT_RUNS_US else {}
    done = subprocess.run([str(folder / "tidegate"), "run", "-c", str(folder / "c.json"), "--socket", str(folder / "s.sock")],
                          capture_output=True, text=True, check=False, timeout=20, cwd="/", **options)
    assert done.returncode in (1, 5), done.stderr
    assert f"127.0.0.1:{port}" in done.stderr or "s.sock" in done.stderr, done.stderr
