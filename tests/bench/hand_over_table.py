"""What tests/bench/hand_over concludes from its counts, and how it prints them."""

import statistics

LATENCY_LIMIT = 2.0
# Figures of a row that must be zero where connections are handed over, in the order of the table.
ZEROES = [
    ("lost", "requests lost: no answer behind a written request"),
    ("stuck", "requests stuck: no answer within 10 s"),
    ("wrong", "requests answered wrongly"),
    ("closed_idle", "reconnects forced: closed while idle"),
    ("closed_by_answer", "reconnects forced: Connection: close"),
    ("refused", "connections refused"),
    ("tunnels_broken", "tunnels broken"),
    ("tunnels_stuck", "tunnels stuck"),
    ("tunnels_refused", "tunnels refused"),
    ("messages_lost", "messages lost"),
    ("messages_doubled", "messages doubled"),
    ("messages_out_of_order", "messages out of order"),
    ("messages_corrupted", "messages corrupted"),
]
WINDOWS = [("quiet", "without upgrades"), ("upgrade", "during upgrades"), ("between", "during drains")]
PERCENTILES = [("p50_us", "p50"), ("p99_us", "p99"), ("p999_us", "p99.9")]
# Of all requests, and of those that no wake-up of the idle connections fell into.
SELECTIONS = [("all", ""), ("calm", ", away from wake-ups")]


def ratio(counts, selection):
    """p99.9 during upgrades to p99.9 without, or None."""
    during, without = counts[f"upgrade_{selection}"], counts[f"quiet_{selection}"]
    return during["p999_us"] / without["p999_us"] if during["count"] and without["p999_us"] else None


def faults_of_torture(counts):
    """Why a row that hands over does not do what it is for."""
    faults = [f"{text}: {counts[key]}" for key, text in ZEROES if counts[key]]
    # Away from wake-ups there is little but noise to divide by: shown, not judged.
    value = ratio(counts, "all")
    if value is not None and value > LATENCY_LIMIT:
        faults.append(f"p99.9 during upgrades is {value:.2f} of that without, at most {LATENCY_LIMIT:g} asked for")
    return faults


def faults_of_bulk(bulk, upgrades, least_mib):
    if not bulk["survived"]:
        return [f"the bulk tunnel ended in upgrade {bulk['upgrades'] + 1}: {bulk['fault']}"]
    if bulk["upgrades"] < upgrades or min(bulk["mib_in"], bulk["mib_out"]) < least_mib:
        return [f"the bulk tunnel lived through {bulk['upgrades']} of {upgrades} upgrades with "
                f"{min(bulk['mib_in'], bulk['mib_out']):.0f} MiB each way, of {least_mib}"]
    return []


def judge(rows, upgrades, bulk_upgrades, least_mib):
    """Why the run is red. `rows`: (label, whether it must be without a fault, note, counts or None, bulk or None).
    Without upgrades every row must be: what fails then is the load, not the proxy."""
    faults = []
    for label, must_hold, note, counts, bulk in rows:
        if note and (must_hold or note.startswith("FAILED")):
            faults.append(f"{label}: {note}")
        if not must_hold and upgrades:
            continue
        if counts:
            faults += [f"{label}: {fault}" for fault in faults_of_torture(counts)]
            if counts["upgrades"] < upgrades:
                faults.append(f"{label}: {counts['upgrades']} of {upgrades} upgrades")
        if bulk and (must_hold or not bulk_upgrades):
            faults += [f"{label}: {fault}" for fault in faults_of_bulk(bulk, bulk_upgrades, least_mib)]
    return faults


def duration(micros):
    return f"{micros / 1000:.1f}"


def lines_of_torture():
    """(text, what a row's counts show there)"""
    yield "requests sent", lambda counts: f"{counts['requests']:,}"
    for key, text in ZEROES[:6]:
        yield text, lambda counts, key=key: f"{counts[key]:,}"
    for key, text in ZEROES[6:9]:
        yield text, lambda counts, key=key: f"{counts[key]:,}"
    yield "messages sent", lambda counts: f"{counts['messages']:,}"
    for key, text in ZEROES[9:]:
        yield text, lambda counts, key=key: f"{counts[key]:,}"
    for selection, where in SELECTIONS:
        for window, when in WINDOWS:
            yield f"busy requests {when}{where}, ms: " + " / ".join(name for _, name in PERCENTILES), \
                lambda counts, key=f"{window}_{selection}": (
                    " / ".join(duration(counts[key][one]) for one, _ in PERCENTILES) if counts[key]["count"] else "-")
        yield f"p99.9 during to without{where}", lambda counts, selection=selection: (
            f"{ratio(counts, selection):.2f}" if ratio(counts, selection) is not None else "-")
    yield "upgrades", lambda counts: f"{counts['upgrades']}"
    yield "to the commit, ms: median / most", lambda counts: (
        f"{1000 * statistics.median(counts['to_commit_seconds']):.0f} / {1000 * max(counts['to_commit_seconds']):.0f}"
        if counts["to_commit_seconds"] else "-")
    yield "CPU busy / foreign / stolen, %", lambda counts: (
        f"{counts['busy_percent']:.0f} / {counts['foreign_percent']:.0f} / {counts['stolen_percent']:.0f}")


def lines_of_bulk():
    yield "bulk tunnel: upgrades that it lived through", lambda bulk: (
        f"{bulk['upgrades']}" if bulk["survived"] else f"{bulk['upgrades']}, then {bulk['fault']}")
    yield "bulk tunnel: MiB out / in", lambda bulk: f"{bulk['mib_out']:.0f} / {bulk['mib_in']:.0f}"
    yield "bulk tunnel: hashes at both ends", lambda bulk: "equal" if bulk["survived"] else "-"


def table(rows):
    """The lines of one table, a column a row of `rows` (as in judge())."""
    lines = [["", *(label for label, *_ in rows)]]
    for parts, at in ((lines_of_torture(), 3), (lines_of_bulk(), 4)):
        for text, show in parts:
            cells = [show(row[at]) if row[at] else "-" for row in rows]
            if any(cell != "-" for cell in cells):
                lines.append([text, *cells])
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    for at, line in enumerate(lines):
        yield "| " + " | ".join([f"{line[0]:{widths[0]}}"] + [f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:])]) + " |"
        if at == 0:
            yield "|" + "|".join(["-" * (widths[0] + 2)] + ["-" * (width + 1) + ":" for width in widths[1:]]) + "|"
