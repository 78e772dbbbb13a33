"""The command line: exit codes, --json, what goes to stdout and what to stderr."""

import json
import os
import pwd
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from support import processes
from support.client import request
from support.daemon import BIN, Outcome, basic, copied_binaries
from support.wait import PATIENCE, duration, until

TIDEGATE = str(BIN / "tidegate")


def run(*arguments, env=None, stdin=None, cwd=None):
    """A command without a daemon."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("TIDEGATE_")}
    done = subprocess.run([TIDEGATE, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=cwd,
                          timeout=20 * PATIENCE, env={**clean, **(env or {})}, input=stdin)
    return Outcome(done.returncode, done.stdout, done.stderr)


# Without a daemon.

def test_version_is_told(tmp_path):
    for way in (["version"], ["--version"]):
        outcome = run(*way)
        assert outcome.code == 0 and re.search(r"\d+\.\d+\.\d+", outcome.out), outcome.text
    version = run("version", "--json").json
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", version["version"]) and version["schema_version"] >= 1


def test_version_in_detail_names_the_libraries_of_the_worker_too(tmp_path):
    def version(directory, *options):
        done = subprocess.run([str(directory / "tidegate"), "version", "-v", *options], capture_output=True, text=True, check=False,
                              timeout=20 * PATIENCE)
        assert done.returncode == 0 and not done.stderr, done.stderr
        return done.stdout
    text = version(BIN)
    own, worker = text.split("tidegate-worker ")
    assert "libuv" in own and "nlohmann json" in own
    for name in ("libuv", "llhttp", "nghttp2", "c-ares", "libseccomp", "openssl"):
        assert re.search(rf"^  {name} +\d+\.\d+\.\d+$", worker, re.MULTILINE), text
    told = json.loads(version(BIN, "--json"))["worker"]
    assert set(told) == {"version", "libuv", "llhttp", "nghttp2", "c_ares", "libseccomp", "openssl"} and told["version"] == run("version", "--json").json["version"]
    for script, reason in (("exec sleep 100", "did not answer within 3s"), ("exit 5", "exited with 5"), ("echo I am ls", "is no worker")):
        directory = tmp_path / reason.replace(" ", "-")
        copied_binaries(directory, worker=f"#!/bin/sh\n{script}\n")
        assert reason in version(directory)


def test_help_names_every_command_and_its_flags():
    outcome = run("--help")
    assert outcome.code == 0
    for command in ("run", "proxy", "check", "reload", "upgrade", "rollback", "stop", "status", "conns", "cert", "reopen", "loglevel",
                    "schema", "completion", "version"):
        assert re.search(rf"\b{command}\b", outcome.out), command
        assert run(command, "--help").code == 0, command
    for flag in ("--binary", "--drain", "--force", "--detach"):
        assert flag in run("upgrade", "--help").out


@pytest.mark.parametrize("arguments", [["frobnicate"], ["reload", "--no-such-flag"], [], ["loglevel"], ["run", "--workers", "x"],
                                       ["completion", "tcsh"], ["stop", "extra"], ["reload", "-c", "x.json"], ["-c", "x.json", "status"],
                                       ["proxy", "-c", "x.json", "--from", ":1", "--to", ":2"], ["check", "-c", "x.json", "y.json"],
                                       ["proxy", "--from", ":1", "--from", ":2", "--to", ":3"], ["conns", "--state", "bogus"],
                                       ["cert"], ["cert", "lst"], ["cert", "list", "-c", "x.json"]])
def test_wrong_usage_is_2_and_goes_to_stderr(arguments):
    outcome = run(*arguments)
    assert outcome.code == 2, outcome.text
    assert outcome.err and not outcome.out


def test_a_near_command_is_suggested():
    assert "reload" in run("relaod").err


@pytest.mark.parametrize("command", [["status"], ["reload"], ["upgrade"], ["rollback"], ["stop"], ["conns"], ["reopen"],
                                     ["cert", "list"], ["loglevel", "debug"]])
def test_no_daemon_is_4(tmp_path, command):
    outcome = run(*command, "--socket", tmp_path / "none.sock")
    assert outcome.code == 4, outcome.text
    assert "none.sock" in outcome.err and not outcome.out


def test_a_dead_daemons_socket_is_no_daemon(tmp_path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    assert run("status", "--socket", tmp_path / "dead.sock").code == 4


def test_check_says_whether_a_file_is_valid(tmp_path):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text('{ "listen": ":8080", "upstream": "127.0.0.1:3000" } // fine')
    bad.write_text('{\n  "listen": ":8080",\n  "upsteam": "127.0.0.1:3000"\n}\n')
    assert run("check", good).code == 0
    outcome = run("check", bad)
    assert outcome.code == 78
    assert f"{bad}:3:3: error:" in outcome.err and 'did you mean "upstream"' in outcome.err, outcome.text
    assert run("check", "-c", bad).code == 78
    assert run("check", env={"TIDEGATE_CONFIG": str(good)}).code == 0
    assert run("check", bad, env={"TIDEGATE_CONFIG": str(good)}).code == 78, "an argument counts more than the environment"


def test_check_of_a_file_that_is_not_there_is_an_error(tmp_path):
    outcome = run("check", tmp_path / "none.json")
    assert outcome.code in (1, 78) and "none.json" in outcome.err


def test_check_print_shows_the_effective_configuration(tmp_path):
    good = tmp_path / "good.json"
    good.write_text('{ "listen": ":8080", "upstream": "127.0.0.1:3000" }')
    printed = run("check", good, "--print").out
    assert "keepalive" in printed and "75s" in printed and "default" in printed
    assert "good.json" in printed, "the origin of each value"


def test_check_json_is_one_object(tmp_path):
    bad = tmp_path / "bad.json"
    bad.write_text('{ "listen": ":8080", "upstream": 5, "x": 1 }')
    outcome = run("check", bad, "--json")
    assert outcome.code == 78 and isinstance(outcome.json, dict)


def test_check_warns_of_a_user_that_is_not_here(tmp_path):
    good = tmp_path / "good.json"
    good.write_text('{ "listen": ":8080", "upstream": "127.0.0.1:3000",\n  "user": "no-such-user-here" }')
    outcome = run("check", good)
    assert outcome.code == 0 and f"{good}:2:11: warning: user: no such user here" in outcome.err, outcome.text


@pytest.mark.parametrize("arguments", [["check", "--print"], ["check", "--json"], ["check"], ["schema"], ["completion", "bash"],
                                       ["version"], ["--help"], ["status"], ["status", "--json"], ["status", "--watch"], ["conns"]])
def test_results_that_cannot_be_written_are_a_failure(tidegate, arguments):
    if arguments[0] == "check":
        arguments = [*arguments, str(tidegate.config_path)]
    elif arguments[0] in ("status", "conns"):
        arguments = [*arguments, "--socket", str(tidegate.socket_path)]
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([TIDEGATE, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=20 * PATIENCE)
    assert done.returncode == 1
    assert done.stderr == "tidegate: cannot write the results: No space left on device\n"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([TIDEGATE, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=20 * PATIENCE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, ""), "who has gone wants nothing more"


def test_a_change_whose_report_is_lost_is_done_all_the_same(tidegate):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([TIDEGATE, "reload", "--force", "--socket", str(tidegate.socket_path)], stdout=full,
                              stderr=subprocess.PIPE, text=True, check=False, timeout=20 * PATIENCE)
    assert done.returncode == 0 and "cannot write the results" in done.stderr
    assert tidegate.counters()["reloads_ok"] == 1


def test_the_schema_is_json(tmp_path):
    schema = run("schema").json
    assert "$schema" in schema and "listeners" in schema["properties"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_name_the_commands(shell):
    outcome = run("completion", shell)
    assert outcome.code == 0 and "upgrade" in outcome.out and "loglevel" in outcome.out


def test_the_bash_completion_is_bash():
    script = run("completion", "bash").out
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_no_colour_where_there_is_no_terminal(tmp_path):
    bad = tmp_path / "bad.json"
    bad.write_text("{ x }")
    assert "\x1b[" not in run("check", bad).text
    assert "\x1b[" in run("check", bad, "--color", "always").text


# Starting.

def test_a_broken_configuration_at_start_is_78_with_all_diagnostics(tmp_path):
    bad = tmp_path / "bad.json"
    bad.write_text('{ "listen": ":99999", "upsteam": "x", "workers": -1 }')
    outcome = run("run", "-c", bad, "--socket", tmp_path / "s.sock")
    assert outcome.code == 78, outcome.text
    assert outcome.err.count("bad.json:") >= 3, outcome.err
    assert not (tmp_path / "s.sock").exists()


def test_an_address_in_use_at_start_is_named(launch, tmp_path):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        address = "127.0.0.1:%d" % holder.getsockname()[1]
        tidegate = launch(basic("127.0.0.1:1", listeners=[{"name": "web", "bind": address}]), ready=False)
        assert tidegate.wait_exit() in (1, 6)
        assert address in tidegate.stderr and "in use" in tidegate.stderr


def test_a_missing_worker_binary_is_named(launch, tmp_path):
    lonely = tmp_path / "tidegate"
    lonely.write_bytes((BIN / "tidegate").read_bytes())
    lonely.chmod(0o755)
    tidegate = launch(basic("127.0.0.1:1"), binary=lonely, ready=False)
    assert tidegate.wait_exit() == 1
    assert "tidegate-worker" in tidegate.stderr


def test_a_start_says_what_its_worker_wrote_before_it_died(launch, origin, tmp_path):
    binary = copied_binaries(tmp_path / "bin", worker="#!/bin/sh\necho some words; exit 3\n")
    tidegate = launch(basic(origin.address), binary=binary, ready=False)
    assert tidegate.wait_exit() == 1
    assert re.search(r"^some words\n(.*\n)*tidegate: worker 0 .* exited with 3$", tidegate.stderr, re.MULTILINE), tidegate.stderr


def test_too_few_descriptors_to_start_a_worker_are_named(launch, origin):
    tidegate = launch(basic(origin.address), ready=False, preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60)))
    assert tidegate.wait_exit() == 1
    assert re.search(r"^tidegate: start .*tidegate-worker: Too many open files$", tidegate.stderr, re.MULTILINE), tidegate.stderr


def test_a_second_instance_is_refused_and_the_first_goes_on(tidegate):
    outcome = run("run", "-c", tidegate.config_path, "--socket", tidegate.socket_path)
    assert outcome.code == 6, outcome.text
    assert str(tidegate.pid) in outcome.err, "it names who is there"
    with tidegate.connect() as client:
        assert client.get("/").status == 200


def test_the_stale_socket_of_a_dead_daemon_is_replaced(launch, origin):
    def leave_a_stale_socket(tidegate):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(tidegate.socket_path))
    tidegate = launch(basic(origin.address), before=leave_a_stale_socket)
    assert tidegate.status()["state"]


def test_a_file_that_is_no_socket_is_not_deleted(launch, origin):
    tidegate = launch(basic(origin.address), ready=False, before=lambda it: it.socket_path.write_text("precious"))
    assert tidegate.wait_exit() != 0
    assert tidegate.socket_path.read_text() == "precious"


def test_proxy_is_run_without_a_file(origin, tmp_path):
    socket_path = tmp_path / "p.sock"
    process = subprocess.Popen([TIDEGATE, "proxy", "--from", "127.0.0.1:0", "--to", origin.address, "--socket", str(socket_path)],
                               stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        def serving():
            outcome = run("status", "--json", "--socket", socket_path)
            return outcome.json if outcome.code == 0 and outcome.json["state"] == "serving" else None
        status = until(serving, "the proxy to serve")
        address = status["listeners"][0]["addresses"][0]
        done = subprocess.run(["curl", "-sS", f"http://{address}/x"], capture_output=True, text=True, check=False)
        assert done.stdout == "hello\n", done.stderr
        assert run("stop", "--socket", socket_path).code == 0
        assert process.wait(10 * PATIENCE) == 0
    finally:
        process.kill()
        process.communicate()
    until(lambda: not processes.in_session(process.pid), "no process left")


def test_a_pidfile_is_written_and_removed(launch, origin):
    tidegate = launch(basic(origin.address), arguments=["--pidfile", "tidegate.pid"])
    pidfile = tidegate.directory / "tidegate.pid"
    assert int(pidfile.read_text()) == tidegate.pid
    assert tidegate.stop() == 0
    assert not pidfile.exists()


@pytest.mark.parametrize("pidfile, reason", [("/no/such/folder/pid", "No such file or directory"), (".", "is no file"),
                                             ("/dev/null", "is no file"), ("/proc/pid", "No such file or directory")])
def test_a_pidfile_that_cannot_be_written_refuses_the_start(launch, origin, pidfile, reason):
    tidegate = launch(basic(origin.address), arguments=["--pidfile", pidfile], ready=False)
    assert tidegate.wait_exit() == 1
    assert f"tidegate: cannot write the pidfile {pidfile}: " in tidegate.stderr and reason in tidegate.stderr
    assert "listening on" not in tidegate.stderr and not tidegate.socket_path.exists()


def test_a_start_that_fails_leaves_no_trace_of_its_pidfile(launch, tmp_path):
    tidegate = launch(basic("127.0.0.1:1", logging={"error": "/no/such/folder/log"}), arguments=["--pidfile", str(tmp_path / "pid")],
                      ready=False)
    assert tidegate.wait_exit() == 1
    assert not list(tmp_path.iterdir())


def test_a_control_folder_in_tmp_that_is_anothers_is_refused_by_both_sides(origin):
    """Without root and without a session the socket lies in /tmp, where anybody may make the folder first."""
    if os.geteuid() != 0:
        return  # only root can be somebody without a session, and make what belongs to another
    # The folder of a test is closed to others.
    programs = Path(tempfile.mkdtemp(prefix="tg-"))
    programs.chmod(0o755)
    binary = copied_binaries(programs / "bin")
    nobody = pwd.getpwnam("nobody")
    folder = Path(f"/tmp/tidegate-{nobody.pw_uid}")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("TIDEGATE_", "XDG_"))}
    as_nobody = {"user": "nobody", "group": "nogroup", "extra_groups": [], "env": clean, "cwd": "/", "text": True}
    serve = [str(binary), "proxy", "--from", "127.0.0.1:0", "--to", origin.address]
    shutil.rmtree(folder, ignore_errors=True)
    try:
        for owner, mode, fault in ((0, 0o755, "belongs to another user"), (nobody.pw_uid, 0o777, "may be written to by others")):
            folder.mkdir()
            folder.chmod(mode)
            os.chown(folder, owner, -1)
            for command, code in ((serve, 1), ([str(binary), "status"], 5)):
                done = subprocess.run(command, capture_output=True, check=False, timeout=20 * PATIENCE, **as_nobody)
                assert done.returncode == code and not done.stdout, done.stdout + done.stderr
                assert done.stderr.startswith(f"tidegate: {folder} {fault}: "), done.stderr
            folder.rmdir()
        with subprocess.Popen(serve, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True, **as_nobody) as process:
            try:
                def answers(*command):
                    return subprocess.run([str(binary), *command], capture_output=True, check=False, timeout=20 * PATIENCE,
                                          **as_nobody).returncode == 0
                until(lambda: answers("status"), "the proxy to serve")
                assert folder.stat().st_mode & 0o777 == 0o700 and folder.stat().st_uid == nobody.pw_uid
                assert answers("stop") and process.wait(10 * PATIENCE) == 0
            finally:
                process.kill()
        until(lambda: not processes.in_session(process.pid), "no process left")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(programs)


def test_workers_of_the_flag_count_more_than_the_files(launch, origin):
    tidegate = launch(basic(origin.address), arguments=["--workers", "2"])
    assert len(tidegate.workers()) == 2


# With a daemon.

def test_the_start_is_told_in_words(tidegate):
    assert re.search(r"serves: generation 1, 1 worker$", tidegate.stderr, re.MULTILINE), tidegate.stderr
    until(lambda: any(line.endswith("generation 1, 1 worker") for line in tidegate.notify.lines()), "the same for systemd")


def test_status_is_a_table_for_people_and_an_object_for_programs(tidegate):
    text = tidegate.ok("status").out
    assert "web" in text and str(tidegate.port()) in text and "generation" in text.lower()
    status = tidegate.status()
    assert status["pid"] == tidegate.pid and status["generation"] == 1 and status["schema_version"] >= 1
    assert status["generations"][0]["workers"][0]["slot"] == 0
    for name in ("requests_total", "responses_2xx", "connections_accepted", "connections_active"):
        assert status["counters"][name] == 0, name


def test_counters_count(tidegate):
    with tidegate.connect() as client:
        for _ in range(3):
            client.get("/")
        client.send(request("GET", "/", "Expect: x"))
        client.response()
        until(lambda: tidegate.counters()["requests_total"] == 4, "four requests counted")
    counters = tidegate.counters()
    assert (counters["responses_2xx"], counters["responses_4xx"], counters["connections_accepted"]) == (3, 1, 1)
    assert counters["errors_expectation_failed"] == 1
    until(lambda: tidegate.counters()["connections_active"] == 0, "no connection active")


def test_the_environment_names_socket_and_configuration(tidegate):
    assert run("status", env={"TIDEGATE_SOCKET": str(tidegate.socket_path)}).code == 0


def test_global_flags_may_stand_before_the_command(tidegate):
    assert run("--socket", tidegate.socket_path, "--json", "status").code == 0


def test_conns_lists_live_connections_and_kills_one(tidegate):
    with tidegate.connect() as client, tidegate.connect() as other:
        client.get("/")
        other.get("/")
        listed = tidegate.ok("conns", "--json").json
        connections = listed["connections"]
        assert len(connections) == 2, listed
        mine = next(one for one in connections if str(client.port) in json.dumps(one))
        assert mine["generation"] == 1 and mine["state"]
        assert str(client.port) in tidegate.ok("conns").out
        assert tidegate.ok("conns", "--kill", mine["id"]).out == f"Connection {mine['id']} is ended.\n"
        client.expect_gone()
        assert other.get("/").status == 200
        client.close()
        until(lambda: tidegate.cli("conns", "--kill", mine["id"]).code == 1, "it to be gone")


def test_conns_can_be_narrowed_by_state_and_generation(tidegate):
    with tidegate.connect() as client:
        client.get("/")
        states = {one["state"] for one in tidegate.ok("conns", "--json").json["connections"]}
        assert states == {"idle"}, states
        assert len(tidegate.ok("conns", "--json", "--state", "idle").json["connections"]) == 1
        assert tidegate.ok("conns", "--json", "--generation", "7").json["connections"] == []


def test_loglevel_changes_what_is_logged(tidegate):
    def said():
        before = len(tidegate.stderr)
        tidegate.ok("reload", "--force")
        return tidegate.stderr[before:]
    tidegate.ok("loglevel", "error")
    assert "info" not in said()
    tidegate.ok("loglevel", "info")
    assert "info" in said(), "a reload is worth a line"
    assert tidegate.cli("loglevel", "loud").code == 2
    for for_good in ("0s", "off"):
        tidegate.ok("loglevel", "error")
        assert tidegate.ok("loglevel", "debug", "--for", for_good).out == "The error log is at level debug for good.\n"
        assert "info" in said()


def test_reopen_follows_a_renamed_log(tidegate):
    with tidegate.connect() as client:
        client.get("/before")
        tidegate.logged(path="/before")
        moved = tidegate.access_path.with_suffix(".1")
        tidegate.access_path.rename(moved)
        client.get("/between")
        tidegate.ok("reopen")
        client.get("/after")
        tidegate.logged(path="/after")
    until(lambda: [line["path"] for line in tidegate.access_lines(moved)] == ["/before", "/between"], "the old file is whole")
    assert [line["path"] for line in tidegate.access_lines()] == ["/after"]


def test_stop_is_graceful_and_stop_now_is_not(launch, origin):
    go = threading.Event()
    origin.handler = lambda peer, _: (peer.wait(go), peer.answer())
    tidegate = launch(basic(origin.address))
    with tidegate.connect() as client:
        client.send(request())
        origin.wait_requests(1)
        stopping = threading.Thread(target=lambda: outcome.append(tidegate.cli("stop")))
        outcome = []
        stopping.start()
        until(lambda: "STOPPING=1" in tidegate.notify.lines(), "STOPPING=1")
        go.set()
        assert client.response().status == 200
        stopping.join()
    assert outcome[0].code == 0
    assert tidegate.wait_exit() == 0
    assert not tidegate.socket_path.exists()


def test_stop_now_does_not_wait(launch, origin):
    origin.handler = lambda peer, _: peer.expect_gone()
    tidegate = launch(basic(origin.address, shutdown={"timeout": "1h"}))
    with tidegate.connect() as client:
        client.send(request())
        origin.wait_requests(1)
        tidegate.ok("stop", "--now")
        client.expect_gone()
    assert tidegate.wait_exit() == 0


def test_a_command_that_waits_too_long_is_7(tidegate):
    os.kill(tidegate.pid, signal.SIGSTOP)
    try:
        outcome = tidegate.cli("status", "--timeout", "300ms")
        assert outcome.code == 7, outcome.text
    finally:
        os.kill(tidegate.pid, signal.SIGCONT)


def test_another_user_is_refused_with_5(tidegate):
    assert tidegate.socket_path.stat().st_mode & 0o777 == 0o660
    if os.geteuid() != 0:
        return  # without root there is no other user that we could be
    tidegate.socket_path.chmod(0o777)
    # The tree may lie where nobody may not look.
    binary = copied_binaries(tidegate.directory / "bin")
    done = subprocess.run([str(binary), "status", "--socket", str(tidegate.socket_path)], user="nobody", group="nogroup",
                          extra_groups=[], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 5, done.stdout + done.stderr


def test_rubbish_on_the_control_socket_harms_nothing(tidegate):
    for octets in (b"rubbish\n", b"\x00" * 100, b"{}", b"[" * 5000, b"\xff\xff\xff\xff" * 10):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as rude:
            try:
                rude.connect(str(tidegate.socket_path))
                rude.send(octets)
            except OSError:
                pass
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as rude:
            try:
                rude.connect(str(tidegate.socket_path))
                rude.send(octets)
            except OSError:
                pass
    assert tidegate.status()["pid"] == tidegate.pid
    with tidegate.connect() as client:
        assert client.get("/").status == 200


def test_a_client_of_the_control_socket_that_sleeps_blocks_nobody(tidegate):
    sleepers = []
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        for _ in range(20):
            sleeper = socket.socket(socket.AF_UNIX, kind)
            try:
                sleeper.connect(str(tidegate.socket_path))
                sleepers.append(sleeper)
            except OSError:
                sleeper.close()
    assert tidegate.ok("status", "--timeout", duration(5)).code == 0
    for sleeper in sleepers:
        sleeper.close()
