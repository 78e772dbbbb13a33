"""Figures that a run should show even when everything passed; conftest.py prints them at the end.

They travel with the report of their test: with several processes, the one that prints is not the one that tests."""

_PROPERTY = "figure"
_lines = []


def add(lines):
    _lines.extend(lines)


def properties():
    """What was added since the last call, as user properties of the test that runs."""
    taken = [(_PROPERTY, line) for line in _lines]
    _lines.clear()
    return taken


def lines(reports):
    """In the order in which the tests ended. The last report of a test has all of its figures."""
    return [value for one in reports if getattr(one, "when", "") == "teardown" for name, value in one.user_properties if name == _PROPERTY]
