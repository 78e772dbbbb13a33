"""A crash while the configuration file cannot be used: what was in force before serves, and everybody hears of it.

Only a crash: whoever stops or restarts the service gets what the file says."""

import json
import os
import signal
import socket

import pytest

from support.certificates import make_pair
from support.daemon import basic, copied_binaries
from support.manager import Manager, crash, start_again
from support.wait import until
from test_descriptor_store import answered, memfd, park, state_of, stored

PROBLEM = "what was in force before the crash serves"


def saying(body, **changes):
    """A configuration that can be told from another."""
    return basic("127.0.0.1:1", routes=[{"name": "all", "respond": {"status": 200, "body": body}}], **changes)


@pytest.fixture
def service(launch):
    def start(body="first", **changes):
        tidegate = launch(saying(body, **changes), notify=Manager, env={"TIDEGATE_TEST_FAULTS": "1"})
        stored(tidegate, "config", 1)
        stored(tidegate, "socket", 1)
        return tidegate
    return start


def body_of(tidegate):
    with tidegate.connect() as client:
        return client.get("/").body.decode()


def break_file(tidegate):
    tidegate.write(json.dumps({"wrokers": 1, **tidegate.config}, indent=2))


def expect_fault(tidegate, *words):
    """It serves, and says what is wrong in `status` and once in the log."""
    outcome = tidegate.cli("status", "--json")
    assert outcome.code == 3 and not outcome.json["healthy"]
    problem, = outcome.json["problems"]
    assert PROBLEM in problem and outcome.json["config_fault"] in problem
    for word in words:
        assert word in problem, problem
    text = tidegate.cli("status")
    assert text.code == 3 and PROBLEM in text.out
    assert sum(PROBLEM in line for line in tidegate.warnings()) == 1, tidegate.warnings()


def expect_none(tidegate):
    outcome = tidegate.cli("status", "--json")
    assert (outcome.code, outcome.json["problems"], outcome.json["config_fault"]) == (0, [], None)


def refuses_to_start(tidegate, code=78):
    tidegate.start()
    assert tidegate.wait_exit() == code
    return tidegate.stderr


# The file cannot be read, or says nothing that can be used.

@pytest.mark.parametrize("words", [["reload"], ["upgrade"], ["upgrade", "--auto"]], ids=" ".join)
def test_a_file_with_an_error_serves_what_was_before_until_it_is_mended(service, words):
    tidegate = service()
    good = tidegate.config
    address, read = tidegate.address(), tidegate.status()["config_loaded"]
    break_file(tidegate)
    crash(tidegate)
    parked = park(address)
    start_again(tidegate)
    answered(parked)
    assert body_of(tidegate) == "first" and tidegate.status()["config_loaded"] == read
    expect_fault(tidegate, f"{tidegate.config_path}:2", "wrokers")
    assert "^~~~" in tidegate.stderr, "the whole diagnosis is there for people"
    assert tidegate.cli(*words).code == 78
    expect_fault(tidegate, "wrokers")
    tidegate.write(good)
    tidegate.ok(*words)
    expect_none(tidegate)
    tidegate.write(saying("second"))
    tidegate.ok("reload")
    assert body_of(tidegate) == "second"


def test_without_a_file_what_was_before_serves(service):
    tidegate = service()
    tidegate.config_path.unlink()
    crash(tidegate)
    start_again(tidegate)
    assert body_of(tidegate) == "first"
    expect_fault(tidegate, str(tidegate.config_path))


def test_without_a_file_that_no_option_names_too(service):
    """As the unit starts it: `tidegate run`. There a missing file is told before anything begins."""
    tidegate = service()
    tidegate.config_path.unlink()
    script = tidegate.directory / "as-the-unit"
    script.write_text(f'#!/bin/sh\nshift 3\nTIDEGATE_CONFIG={tidegate.config_path} exec {tidegate.binary} run "$@"\n')
    script.chmod(0o755)
    tidegate.binary = script
    crash(tidegate)
    start_again(tidegate)
    assert body_of(tidegate) == "first"
    expect_fault(tidegate, str(tidegate.config_path))
    assert tidegate.stop() == 0
    assert "no configuration at" in refuses_to_start(tidegate)


def test_a_key_that_is_gone_was_in_what_served(launch, origin, tmp_path):
    pair = make_pair(tmp_path, "a", "a.example")
    config = basic(origin.address, listeners=[{"name": "web", "bind": "127.0.0.1:0", "tls": {}}], certificates=[pair.entry()])
    tidegate = launch(config, notify=Manager)
    stored(tidegate, "config", 1)
    moved = pair.key.rename(pair.key.with_suffix(".away"))
    crash(tidegate)
    start_again(tidegate)
    expect_fault(tidegate, str(pair.key))
    assert len(tidegate.status()["certificates"]) == 1
    moved.rename(pair.key)
    tidegate.ok("reload")
    expect_none(tidegate)


def test_a_user_who_is_gone_is_a_fault_where_root_would_have_to_become_them(service):
    tidegate = service()
    tidegate.change(user="nobody-of-that-name")
    crash(tidegate)
    start_again(tidegate)
    if os.geteuid() == 0:
        expect_fault(tidegate, f"{tidegate.config_path}:", "nobody-of-that-name")
    else:
        expect_none(tidegate)
    assert body_of(tidegate) == "first"


def test_a_second_crash_finds_the_same(service):
    tidegate = service()
    break_file(tidegate)
    for _ in range(3):
        crash(tidegate)
        start_again(tidegate)
        assert body_of(tidegate) == "first" and tidegate.cli("status").code == 3
        stored(tidegate, "config", 1)
    assert tidegate.generation == 4


# The file can be read, and does not work.

def keys_that_do_not_fit(tmp_path):
    one, other = (make_pair(tmp_path, name, f"{name}.example") for name in ("one", "other"))
    return {"certificates": [{"cert": str(one.cert), "key": {"file": str(other.key)}}],
            "listeners": [{"name": "web", "bind": "127.0.0.1:0", "tls": {}}]}


def test_a_configuration_that_workers_refuse_is_not_better(service, tmp_path):
    tidegate = service()
    address = tidegate.address()
    tidegate.write(saying("second", **keys_that_do_not_fit(tmp_path)))
    crash(tidegate)
    parked = park(address)
    start_again(tidegate)
    answered(parked)
    assert body_of(tidegate) == "first" and tidegate.generation == 2
    expect_fault(tidegate, "refuses the configuration")
    assert tidegate.cli("reload").code == 1
    expect_fault(tidegate, "refuses the configuration")
    tidegate.write(saying("third"))
    tidegate.ok("reload")
    expect_none(tidegate)
    assert body_of(tidegate) == "third"


def test_a_port_that_is_taken_is_not_better(service):
    tidegate = service()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        tidegate.write(saying("second", listeners=[{"name": "web", "bind": "127.0.0.1:0"}, {"name": "more", "bind": taken}]))
        crash(tidegate)
        start_again(tidegate)
        assert body_of(tidegate) == "first"
        expect_fault(tidegate, taken)
    tidegate.ok("reload")
    expect_none(tidegate)
    assert body_of(tidegate) == "second"


def test_a_log_that_cannot_be_opened_is_not_better(service):
    tidegate = service()
    tidegate.write(saying("second", logging={"access": {"path": "/nowhere/access.log"}}))
    crash(tidegate)
    start_again(tidegate)
    assert body_of(tidegate) == "first"
    expect_fault(tidegate, "/nowhere/access.log")


def test_where_both_fail_for_the_same_reason_the_start_fails(service):
    tidegate = service()
    (tidegate.directory / "access.log").unlink()
    (tidegate.directory / "access.log").mkdir()
    crash(tidegate)
    assert "access.log" in refuses_to_start(tidegate, 1)
    (tidegate.directory / "access.log").rmdir()
    start_again(tidegate)
    expect_none(tidegate)


# Which configuration was in force.

def test_the_one_of_the_last_reload_is_kept(service):
    tidegate = service()
    tidegate.write(saying("second"))
    tidegate.ok("reload")
    stored(tidegate, "config", 1)
    until(lambda: state_of(tidegate)["config"].endswith(tidegate.notify.names("config")[0]), "a state that names it")
    break_file(tidegate)
    assert tidegate.cli("reload").code == 78
    crash(tidegate)
    start_again(tidegate)
    assert body_of(tidegate) == "second"


def test_within_the_probation_of_an_upgrade_it_is_the_old_one_and_then_the_new_one(service):
    tidegate = service()
    # The new configuration says how long it is watched.
    tidegate.write(saying("second", upgrade={"probation": "1h"}))
    tidegate.ok("upgrade", "--force", "--detach")
    assert tidegate.generation == 2
    stored(tidegate, "config", 1)
    break_file(tidegate)
    crash(tidegate)
    start_again(tidegate)
    assert body_of(tidegate) == "first"
    tidegate.write(saying("third"))
    tidegate.ok("upgrade")
    expect_none(tidegate)
    break_file(tidegate)
    crash(tidegate)
    start_again(tidegate)
    assert body_of(tidegate) == "third"


def test_an_upgrade_that_fails_does_not_forget_the_fault(service):
    tidegate = service()
    good = tidegate.config
    break_file(tidegate)
    crash(tidegate)
    start_again(tidegate)
    tidegate.write(good)
    binary = copied_binaries(tidegate.directory / "next")
    (binary.parent / "tidegate.fault").write_text("bind:fail")
    assert tidegate.cli("upgrade", "--binary", binary).code == 1
    expect_fault(tidegate, "wrokers")
    tidegate.ok("reload")
    expect_none(tidegate)


# Nobody who has stopped the service gets an old configuration back.

def test_a_restart_finds_the_file_as_it_is(service):
    tidegate = service()
    break_file(tidegate)
    assert tidegate.stop() == 0
    stored(tidegate, "config", 0)
    assert tidegate.notify.names("socket")
    assert "wrokers" in refuses_to_start(tidegate)


def test_a_crash_during_a_stop_is_one(service):
    tidegate = service(shutdown={"delay": "30s"})
    break_file(tidegate)
    tidegate.signal(signal.SIGTERM)
    stored(tidegate, "config", 0)
    crash(tidegate)
    assert "wrokers" in refuses_to_start(tidegate)


def test_a_stop_that_the_manager_does_not_read_goes_on_telling_it(service):
    tidegate = service(shutdown={"delay": "30s"})
    tidegate.notify.reading.clear()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
        filler.setblocking(False)
        try:
            while True:
                filler.sendto(b"X_FILLER=1", str(tidegate.notify.path))
        except BlockingIOError:
            pass
    tidegate.signal(signal.SIGTERM)
    until(lambda: "stopping" in tidegate.stderr, "the stop")
    assert tidegate.notify.names("config")
    tidegate.notify.reading.set()
    stored(tidegate, "config", 0)
    tidegate.signal(signal.SIGTERM)
    assert tidegate.wait_exit() == 0


@pytest.mark.parametrize("replace", [lambda: memfd("{"), lambda: memfd('{"listeners": 3}'), lambda: memfd(""),
                                     lambda: os.open("/dev/null", os.O_RDWR)], ids=["no json", "no configuration", "empty", "foreign"])
def test_what_is_no_configuration_starts_nothing(service, replace):
    tidegate = service()
    good = tidegate.config
    address = tidegate.address()
    break_file(tidegate)
    crash(tidegate)
    tidegate.notify.replace("config", replace())
    assert "wrokers" in refuses_to_start(tidegate)
    # And is in nobody's way.
    tidegate.write(good)
    parked = park(address)
    start_again(tidegate)
    answered(parked)
    stored(tidegate, "config", 1)
    expect_none(tidegate)


def test_a_state_of_before_this_knew_of_no_configuration(service):
    """What an older version has stored."""
    tidegate = service()
    tidegate.notify.lose("config")
    break_file(tidegate)
    crash(tidegate)
    assert "wrokers" in refuses_to_start(tidegate)
