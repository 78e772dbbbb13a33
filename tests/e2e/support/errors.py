"""The error table as the tests see it: read from common/error_table.h, so that a row cannot change unnoticed."""

import re
from dataclasses import dataclass

from support.daemon import ROOT


@dataclass
class Row:
    name: str
    status: int
    who: str
    proxy_status: str
    internal: bool  # below HTTP: an exchange never ends with it


def _read():
    text = (ROOT / "common/error_table.h").read_text()
    boundary = text.index("// Below HTTP")
    rows = {}
    for match in re.finditer(r'TG_ERROR\(\w+,\s*"(\w+)",\s*(\d+),\s*k(\w+),\s*"(\w+)"\)', text):
        rows[match[1]] = Row(match[1], int(match[2]), match[3].lower(), match[4], match.start() > boundary)
    return rows


TABLE = _read()


def expect_answer(response, reason, closes=None):
    """`response` is Tidegate's own answer for `reason`.

    `closes`: whether the connection must end (True), must be kept (False), or either (None)."""
    row = TABLE[reason]
    assert response.status == row.status, f"{response.start} instead of {row.status} for {reason}"
    status = response.get("proxy-status")
    assert status and re.match(r"tidegate; ?error=" + row.proxy_status + r"(;|$)", status), \
        f"Proxy-Status is {status!r}, expected error={row.proxy_status}"
    assert response.get("x-request-id"), "an answer of our own carries X-Request-Id"
    assert response.get("date") and response.get("content-type")
    assert len(response.body) < 1024, "a small page"
    if closes is not None:
        assert response.get("connection") == ("close" if closes else None), response.raw


def expect_error(tidegate, response, reason, closes=None):
    """expect_answer, and the access log says so. Returns the log line."""
    expect_answer(response, reason, closes)
    line = tidegate.logged(id=response.get("x-request-id"))
    expect_line(line, reason, status=TABLE[reason].status)
    return line


def expect_line(line, reason, **fields):
    """The access log line names `reason` and whose fault it was."""
    row = TABLE[reason]
    assert (line.get("reason"), line.get("who")) == (reason, row.who), line
    for name, value in fields.items():
        assert line.get(name) == value, f"{name} is {line.get(name)!r}, expected {value!r} in {line}"
