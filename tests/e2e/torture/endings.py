"""Whether tunnels ended when and as they must: by `drain_tunnels` of the generation that they were opened in, and by
nothing else."""

from collections import Counter

from support.wait import PATIENCE

# What may lie between the commit of an upgrade and the drain of the generation before: that one's last accepted
# connection; the probation and a busy machine.
LATE_ACCEPT = 0.5 * PATIENCE
# How long after the commit the end of the command may be noticed: the drain may have begun by then.
LATE_WORD = 0.5 * PATIENCE
LATE_DRAIN = 3.0 * PATIENCE

# Cut short, and known to be: without TLS's close_notify, by a reset of the stream.
ENDS = {"tunnel": ["SSLEOFError", "reset", "ConnectionResetError", "BrokenPipeError"], "h2 tunnel": ["CANCEL"]}


def check_tunnels(tunnels, commits, drain_tunnels, logged):
    """`commits`: when each upgrade had committed; `drain_tunnels`: seconds; `logged`: the lines of the access log about
    tunnels. Returns lines for the report."""
    ended = [one for one in tunnels if one["how"] != "ours"]
    wrong = []
    for one in ended:
        # The generation that took it drains after the first commit after it; close to a commit that may be either.
        first = next((when for when in commits if when + LATE_ACCEPT >= one["began"]), None)
        last = next((when for when in commits if when >= one["opened"]), None)
        if first is None or one["ended"] < first - LATE_WORD + drain_tunnels:
            wrong.append(f"ended early: {one}")
        elif last is not None and one["ended"] > last + drain_tunnels + LATE_DRAIN:
            wrong.append(f"ended late: {one}")
        if one["how"] not in ENDS[one["kind"]]:
            wrong.append(f"does not look as if it was cut: {one}")
        if one["kind"] == "h2 tunnel" and not one["told"]:
            wrong.append(f"ended without a GOAWAY: {one}")
    assert not wrong, wrong[:5]
    reasons = Counter((line["proto"], line.get("reason"), line.get("who")) for line in logged)
    by_us = sum(count for (_, reason, who), count in reasons.items() if (reason, who) == ("drain_deadline", "tidegate"))
    assert by_us == len(ended), f"{len(ended)} tunnels were ended, the log has {reasons}"
    assert len(logged) == len(tunnels), f"{len(tunnels)} tunnels, the log has {reasons}"
    ways = Counter((one["kind"], one["how"]) for one in tunnels)
    lives = [one["ended"] - one["opened"] for one in ended]
    return [f"  tunnels: {len(tunnels)} opened, {len(ended)} ended by drain_tunnels ({drain_tunnels:g} s) after lives of "
            f"{min(lives):.1f} to {max(lives):.1f} s, {sum(one['messages'] for one in tunnels)} messages came back",
            "    " + ", ".join(f"{kind}: {count} by {how}" for (kind, how), count in sorted(ways.items()))]
