"""What the torture's client and origin agree on, and what can become of a request.

Target: /NUMBER/KIND/SIZE. The origin answers SIZE octets that only this request can get, so an answer that went to the
wrong request, came twice, or lost an octet is told from the right one."""

# What became of a request. Everything but OK and the two below is a lost request.
OK = "ok"
IDLE_RACE = "idle race"  # a kept connection was closed while the request was on its way; the origin never saw it
KILLED = "killed"  # it was inside a worker when the test killed it
REFUSED = "refused"  # the connection was refused or never accepted
RESET_BEFORE = "reset before sent"  # a new connection ended before the request was sent
RESET_AFTER = "reset after sent"  # ended after the request was sent, without an octet of an answer
TRUNCATED = "truncated"
DUPLICATED = "duplicated"  # more octets than one answer, or the origin saw the request twice
WRONG = "wrong answer"  # not the status or not the octets that belong to the request
TIMED_OUT = "timed out"

OUTCOMES = [OK, IDLE_RACE, KILLED, REFUSED, RESET_BEFORE, RESET_AFTER, TRUNCATED, DUPLICATED, WRONG, TIMED_OUT]
LOST = [REFUSED, RESET_BEFORE, RESET_AFTER, TRUNCATED, DUPLICATED, WRONG, TIMED_OUT]


def body_for(number, size):
    """The answer's body: `size` octets that spell the request's number over and over."""
    word = b"<%d>" % int(number)
    return (word * (size // len(word) + 1))[:size]


def upload_for(number, size):
    """The request's body."""
    word = b"[%d]" % int(number)
    return (word * (size // len(word) + 1))[:size]


def table(rows, columns):
    """Lines of a table: `rows` is {name: {column: number}}."""
    used = [column for column in columns if column == OK or any(row.get(column) for row in rows.values())]
    widths = [max(len(column), 9) for column in used]
    lines = [f"{'':12}" + "".join(f"{column:>{width + 2}}" for column, width in zip(used, widths))]
    for name, row in rows.items():
        lines.append(f"{name:12}" + "".join(f"{row.get(column, 0):>{width + 2}}" for column, width in zip(used, widths)))
    return lines
