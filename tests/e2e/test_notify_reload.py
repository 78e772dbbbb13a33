"""What `Type=notify-reload` waits for: after RELOADING=1 with its time there is a READY=1, whatever came of the operation."""

import signal
import time

import pytest

from support.daemon import basic, copied_binaries
from support.wait import until

VALID = {"routes": [{"name": "new", "respond": {"status": 200, "body": "new\n"}}]}


@pytest.fixture
def tidegate(launch, origin):
    return launch(basic(origin.address), env={"TIDEGATE_TEST_FAULTS": "1"})


def messages_of(tidegate, action):
    """What systemd is told from `action` until READY=1: the fields of each message."""
    tidegate.notify.messages.clear()
    began = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    action()
    until(lambda: "READY=1" in tidegate.notify.lines(), lambda: f"READY=1 in {tidegate.notify.messages}")
    heard = [dict(line.split("=", 1) for line in text.splitlines()) for text in list(tidegate.notify.messages)]
    heard = [fields for fields in heard if fields.keys() & {"RELOADING", "READY"}]
    # An older one would be of an operation that systemd did not ask for.
    assert began <= int(heard[0]["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert [fields.get("RELOADING") for fields in heard] == ["1", None], heard
    return heard


@pytest.mark.parametrize("command", [["reload"], ["upgrade"], ["upgrade", "--auto"], ["rollback"]], ids=" ".join)
@pytest.mark.parametrize("config, code", [(None, 0), (VALID, 0), ({"upsteam": 1}, 78)], ids=["same", "other", "invalid"])
def test_each_operation_ends_with_ready(tidegate, command, config, code):
    if config:
        tidegate.change(**config)
    if command == ["rollback"]:
        code = 1
    messages_of(tidegate, lambda: tidegate.cli(*command).code == code or pytest.fail(f"{command} did not end with {code}"))


def extensions(tidegate):
    """Seconds, in order."""
    return [int(line.split("=")[1]) // 1_000_000 for line in tidegate.notify.lines() if line.startswith("EXTEND_TIMEOUT_USEC=")]


@pytest.mark.parametrize("command", ["reload", "upgrade"])
def test_the_limits_of_the_new_configuration_count_too(tidegate, command):
    tidegate.change(upgrade={"ready_timeout": "600s"}, **VALID)
    messages_of(tidegate, lambda: tidegate.ok(command))
    assert max(extensions(tidegate)) >= 610 > extensions(tidegate)[0], tidegate.notify.messages


def test_the_watchdog_is_not_put_off(launch, origin):
    tidegate = launch(basic(origin.address), env={"WATCHDOG_USEC": "20000000"})
    for command in ("reload", "upgrade"):
        messages_of(tidegate, lambda: tidegate.ok(command, "--force"))  # pylint: disable=W0640
        lines = tidegate.notify.lines()
        last = max(place for place, line in enumerate(lines) if line.startswith("EXTEND_TIMEOUT_USEC="))
        assert lines[last + 1] == "WATCHDOG=1", lines


def test_a_signal_is_a_reload_that_ends_with_ready(tidegate):
    heard = messages_of(tidegate, lambda: tidegate.signal(signal.SIGHUP))
    assert "generation 1" in heard[-1]["STATUS"]


@pytest.mark.parametrize("fault, code", [("preflight:fail", 1), ("exec:fail", 1), ("adopt:fail", 1), ("bind:fail", 1),
                                         ("worker.prepare:fail", 1), ("worker.commit:die", 8), ("bind:hang", 1)])
def test_an_upgrade_that_comes_back_ends_with_ready(tidegate, fault, code):
    binary = copied_binaries(tidegate.directory / "next")
    (binary.parent / "tidegate.fault").write_text(fault)
    heard = messages_of(tidegate, lambda: tidegate.cli("upgrade", "--binary", binary).code == code or pytest.fail("code"))
    assert "generation 1" in heard[-1]["STATUS"]
