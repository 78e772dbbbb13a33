"""From rounds to medians, ratios and verdicts; how they are printed, kept and compared with an earlier run."""

import statistics

# Differences below these are ties: time drifts with the machine, memory hardly.
TIE, TIE_BYTES = 0.15, 0.03

# Key of a round, its header, its format; printed where some row has it.
COLUMNS = [
    ("cpu_us", "CPU us", "{:.1f}"), ("user_us", "user", "{:.1f}"), ("system_us", "system", "{:.1f}"),
    ("bytes_unasked", "before a request", "{:.0f}"), ("connections", "connections", "{:.0f}"),
    ("requests_per_second", "per s", "{:.0f}"), ("p50_us", "p50 us", "{:.0f}"), ("p99_us", "p99 us", "{:.0f}"),
    ("p999_us", "p99.9 us", "{:.0f}"), ("rss_kib", "RSS KiB", "{:.0f}"), ("system_calls", "calls", "{:.2f}"),
    ("instructions", "instr.", "{:.0f}"), ("handshakes_per_second", "handshakes/s", "{:.0f}"),
    ("start_ms", "start ms", "{:.0f}"), ("reload_ms", "reload ms", "{:.0f}"),
    ("replaced", "replaced", "{:.0f}"), ("failed", "failed", "{:.0f}"),
]
SUMS = ("failed", "replaced", "refused")
NAMES = {"cpu_us": "CPU", "p99_us": "p99", "instructions": "user instructions", "system_calls": "system calls",
         "bytes": "bytes each", "failed": "failed requests"}


def number(value):
    return f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def summarize(case, rows):
    """A case as plain data, as --json keeps it. `rows`: the rows of the case, with their rounds, counts and notes."""
    out = {"title": case.title, "unit": case.unit, "figure": case.figure, "rows": {}, "targets": []}
    for row in rows:
        if not row.rounds:
            out["rows"][row.label] = {"kind": row.kind, "note": row.note or "not measured"}
            continue
        keys = [key for key, value in row.rounds[0].items() if isinstance(value, (int, float))]
        medians = {key: statistics.median(one[key] for one in row.rounds) for key in keys}
        medians |= {key: sum(one[key] for one in row.rounds) for key in SUMS if key in keys}
        figures = [one[case.figure] for one in row.rounds]
        out["rows"][row.label] = {
            "kind": row.kind, "median": medians[case.figure], "min": min(figures), "max": max(figures),
            "medians": medians | row.counts, "calls": row.calls, "rounds": row.rounds, "note": row.note}
    best = best_peer(out, case.figure)
    for entry in out["rows"].values():
        if best and "median" in entry:
            entry["to_best_peer"] = entry["median"] / out["rows"][best]["median"]
    out["best_peer"] = best
    out["targets"] = [verdict for target in case.targets for verdict in judge(out, target)]
    return out


def value_of(entry, figure):
    return entry.get("medians", {}).get(figure)


def best_peer(summary, figure):
    peers = [(value_of(entry, figure), label) for label, entry in summary["rows"].items()
             if entry["kind"] == "peer" and value_of(entry, figure) is not None]
    return min(peers)[1] if peers else None


def judge(summary, target):
    """One verdict for each row of a Tidegate."""
    base = None
    for label, entry in summary["rows"].items():
        if entry["kind"] == "base":
            base = label
        if entry["kind"] != "tidegate":
            continue
        value = value_of(entry, target.figure)
        against = {"best": best_peer(summary, target.figure), "first": base}.get(target.to, target.to)
        verdict = {"row": label, "figure": target.figure, "limit": target.limit, "of": target.to, "to": against,
                   "value": value, "met": None}
        if value is not None and against is not None:
            other = value_of(summary["rows"].get(against, {}), target.figure)
            verdict["value"] = value / other if other else None
        if verdict["value"] is not None and (target.to is None or against is not None):
            verdict["met"] = round(verdict["value"], 2) <= target.limit
        yield verdict


# --- print

def asked_for(verdict):
    """Such as "0.82 of the best peer (nginx)"."""
    of = {None: "", "best": f" of the best peer ({verdict['to']})", "first": " of the small case"}
    return f"{verdict['limit']:g}" + of.get(verdict["of"], f" of {verdict['to']}")


def verdict_line(verdict):
    what = NAMES.get(verdict["figure"], verdict["figure"])
    limit = asked_for(verdict)
    if verdict["met"] is None:
        return f"  {what}: asked for {limit}; {verdict['row']}: not measured"
    value = f"{verdict['value']:.2f}" if verdict["to"] or verdict["value"] < 100 else f"{verdict['value']:.0f}"
    return f"  {what}: asked for {limit}; {verdict['row']}: {value}, {'met' if verdict['met'] else 'not met'}"


def print_case(name, summary):
    rows = {label: entry for label, entry in summary["rows"].items() if "median" in entry}
    columns = [column for column in COLUMNS if column[0] != summary["figure"]
               and any(value_of(entry, column[0]) is not None for entry in rows.values())]
    print(f"\n== {name}: {summary['title']}")
    lines = [["", f"{summary['unit']}: median (min..max)", "to best peer"] + [header for _, header, _ in columns]]
    for label, entry in summary["rows"].items():
        if "median" not in entry:
            lines.append([label, entry["note"]])
            continue
        ratio = f"{entry['to_best_peer']:.2f}" if "to_best_peer" in entry else ""
        cells = [pattern.format(value_of(entry, key)) if value_of(entry, key) is not None else "-"
                 for key, _, pattern in columns]
        lines.append([label, f"{number(entry['median'])} ({number(entry['min'])}..{number(entry['max'])})", ratio, *cells])
    whole = [line for line in lines if len(line) > 2]
    widths = [max(len(line[at]) for line in whole) for at in range(len(whole[0]))]
    widths[0] = max(len(line[0]) for line in lines)
    for line in lines:
        if len(line) == 2:
            print(f"{line[0]:{widths[0]}}  {line[1]}")
        else:
            print(f"{line[0]:{widths[0]}}  {line[1]:{widths[1]}}  "
                  + "  ".join(f"{cell:>{width}}" for cell, width in zip(line[2:], widths[2:])))
    for verdict in summary["targets"]:
        print(verdict_line(verdict))
    for label, entry in rows.items():
        if entry["calls"]:
            most = sorted(entry["calls"].items(), key=lambda pair: -pair[1])[:7]
            print(f"  calls a request, {label}: " + ", ".join(f"{call} {count:.2f}" for call, count in most))
        if entry["note"]:
            print(f"  {label}: {entry['note']}")
    print("  " + noise(rows), flush=True)


def noise(rows):
    """What else ran: the figures mean little when this is much."""
    rounds = [one for entry in rows.values() for one in entry["rounds"] if "foreign_percent" in one]
    if not rounds:
        return "foreign CPU use: not measured"
    foreign = [one["foreign_percent"] for one in rounds]
    return (f"foreign CPU use: median {statistics.median(foreign):.0f} %, most {max(foreign):.0f} % of the cores; "
            f"stolen by the host: most {max(one['stolen_percent'] for one in rounds):.0f} %")


def markdown(summaries):
    """The lines of the table that README shows."""
    labels = []
    for summary in summaries.values():
        labels += [label for label, entry in summary["rows"].items()
                   if label not in labels and entry["kind"] in ("tidegate", "peer") and not label.startswith("tidegate,")]
    labels.sort(key=lambda label: not label.startswith("tidegate"))
    yield "| case | " + " | ".join(labels) + " | floor | to best peer | asked for |"
    yield "|---|" + "---|" * (len(labels) + 3)
    for name, summary in summaries.items():
        if not set(labels) & set(summary["rows"]):
            continue
        first = next((entry for entry in summary["rows"].values() if entry["kind"] == "tidegate"), {})
        floors = [entry["median"] for entry in summary["rows"].values() if entry["kind"] == "floor" and "median" in entry]
        cells = [f"{name}: {summary['title']}, {summary['unit']}"]
        for label in labels:
            entry = summary["rows"].get(label, {})
            cells.append(number(entry["median"]) if "median" in entry else "-")
        verdict = next((one for one in summary["targets"] if one["figure"] == summary["figure"]), None)
        asked = "-"
        if verdict:
            asked = asked_for(verdict) + {True: ", met", False: ", not met", None: ""}[verdict["met"]]
        cells += [" / ".join(number(one) for one in floors) or "-",
                  f"{first['to_best_peer']:.2f}" if "to_best_peer" in first else "-", asked]
        yield "| " + " | ".join(cells) + " |"


def compare(summaries, earlier):
    """Lines: medians of this run against those of an earlier one."""
    for name, summary in summaries.items():
        before = earlier.get("cases", {}).get(name)
        if not before:
            continue
        for label, entry in summary["rows"].items():
            old = before["rows"].get(label, {})
            if "median" not in entry or not old.get("median"):
                continue
            change = entry["median"] / old["median"] - 1
            tie = TIE_BYTES if summary["figure"] == "bytes" else TIE
            verdict = "tie" if abs(change) < tie else "less" if change < 0 else "MORE"
            ratios = ""
            if "to_best_peer" in entry and "to_best_peer" in old:
                ratios = f"; to best peer {old['to_best_peer']:.2f} -> {entry['to_best_peer']:.2f}"
            yield (f"{name:12} {label:24} {number(old['median'])} -> {number(entry['median'])} {summary['unit']} "
                   f"({change:+.0%}, {verdict}){ratios}")
            for key in ("system_calls", "instructions"):
                now, then = value_of(entry, key), value_of(old, key)
                if now is not None and then:
                    yield f"{'':12} {'':24} {NAMES[key]} {number(then)} -> {number(now)} ({now / then - 1:+.1%})"
