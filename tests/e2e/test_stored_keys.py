"""The keys of session tickets in the descriptor store follow each rotation, but not one in an image that may have to go."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.daemon import basic, copied_binaries
from support.manager import Manager
from support.wait import stays, until
from test_descriptor_store import stored


@pytest.fixture
def aging(launch, origin, tmp_path):
    """`aging(**changes)`: a service with its first keys in the store, and the call that makes them rotate."""
    def start(**changes):
        clock = tmp_path / "clock"
        clock.write_text("0\n")
        tidegate = launch(basic(origin.address, **changes), notify=Manager,
                          env={"TIDEGATE_TEST_CLOCK": str(clock), "TIDEGATE_TEST_FAULTS": "1"})
        stored(tidegate, "socket", 1)

        def rotate():
            clock.write_text(f"{13 * 3600 * 1000}\n")
            until(lambda: "have rotated" in tidegate.stderr, "a rotation")
        return tidegate, rotate
    return start


def test_keys_that_rotate_replace_those_in_the_store(aging):
    tidegate, rotate = aging()
    first = stored(tidegate, "keys", 1)
    rotate()
    until(lambda: stored(tidegate, "keys", 1) != first, "other keys in the store")
    stays(lambda: len(tidegate.notify.names("state")) <= 2, "states pile up", 0.2)


def test_keys_that_rotate_in_a_probation_replace_those_in_the_store(aging):
    """It may last a day, and a death in it brings back what is there."""
    tidegate, rotate = aging(upgrade={"probation": "24h"})
    tidegate.ok("upgrade", "--force", "--detach")
    first = stored(tidegate, "keys", 1)
    rotate()
    until(lambda: stored(tidegate, "keys", 1) != first, "other keys in the store")


def test_keys_that_rotate_before_a_commit_wait_for_it(aging):
    """The old image may come back, and would use their name for something else."""
    tidegate, rotate = aging(upgrade={"ready_timeout": "10m"})
    first = stored(tidegate, "keys", 1)
    following = copied_binaries(tidegate.directory / "next")
    (following.parent / "tidegate.fault").write_text("worker.prepare:hang")
    with ThreadPoolExecutor(1) as executor:
        asked = executor.submit(tidegate.cli, "upgrade", "--binary", following)
        until(lambda: os.readlink(f"/proc/{tidegate.pid}/exe") == str(following), "the new image")
        rotate()
        stays(lambda: stored(tidegate, "keys") == first, "the keys of an image that may have to go", 0.2)
        os.kill(tidegate.pid, signal.SIGSEGV)
        assert asked.result().code == 1
    until(lambda: stored(tidegate, "keys", 1) != first, "the keys of the old image, which have rotated too")
