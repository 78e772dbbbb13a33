"""Waiting for a condition with a deadline: the only way in which a test may pass time."""

import os
import time

# Sanitizers and a busy machine make everything slower; nothing here makes a passing test slower.
PATIENCE = float(os.environ.get("TIDEGATE_E2E_PATIENCE", "1"))

# The smaller rounds that the sanitizer run uses.
SMALL = os.environ.get("TIDEGATE_E2E_SMALL") == "1"


def deadline(seconds):
    """The monotonic time at which `seconds` (made longer by PATIENCE) are over."""
    return time.monotonic() + seconds * PATIENCE


def duration(seconds):
    """`seconds` (made longer by PATIENCE) as a configuration says it: a time within which a test, or an origin, must act."""
    return f"{round(1000 * seconds * PATIENCE)}ms"


def until(condition, what, seconds=15.0):
    """The first true value of `condition()`. Fails, naming `what`, when it stays false for `seconds`."""
    end = deadline(seconds)
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise AssertionError(f"waited {seconds * PATIENCE:g} s in vain for: {what() if callable(what) else what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def stays(condition, what, seconds):
    """Fails as soon as `condition()` is false within `seconds`: for what must not happen."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert condition(), what() if callable(what) else what
        time.sleep(0.01)


def steady(look, what, quiet=0.1, seconds=5.0):
    """What `look()` says when it has said the same for `quiet` seconds: what was on its way has come."""
    said, since = look(), time.monotonic()

    def is_quiet():
        nonlocal said, since
        now = look()
        if now != said:
            said, since = now, time.monotonic()
        return time.monotonic() - since >= quiet * PATIENCE
    until(is_quiet, what, seconds)
    return said
