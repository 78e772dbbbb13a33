"""What the new generation does not take stays with the old one and drains: nothing is lost, and everybody is told why."""

import resource
import threading
import time

import pytest

from support.certificates import make_pair
from support.daemon import basic, copied_binaries
from support.live import Live, LiveOrigin, listed
from support.wait import PATIENCE, duration, until

SOON = {"probation": "20ms", "drain": duration(20), "drain_tunnels": duration(20)}


class Declined:
    """An upgrade by which some connections do not move."""

    def __init__(self, tidegate, live, binary=None, is_told=True):
        """`is_told`: whether the log says anything of a hand-over."""
        self.is_told = is_told
        self.tidegate = tidegate
        self.live = live
        self.outcomes = []
        more = ("--binary", binary) if binary else ()
        self.thread = threading.Thread(target=lambda: self.outcomes.append(
            tidegate.cli("upgrade", "--force", "--json", *more)))

    def __enter__(self):
        self.thread.start()
        until(lambda: "hand over: " in self.tidegate.stderr if self.is_told else self._drains(), "the hand-over", 10)
        return self

    def _drains(self):
        return [one for one in self.tidegate.status()["generations"] if one["state"] == "draining"]

    def __exit__(self, *_):
        for one in self.live.all:
            self.live.do(lambda one=one: one.leave())
        self.thread.join()

    def told(self, **reasons):
        """Log, status and counters say so, while the old generation drains."""
        text = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
        [line] = [line for line in self.tidegate.stderr.splitlines() if "hand over: " in line]
        assert f"{sum(reasons.values())} declined ({text})" in line, line
        status = self.tidegate.status()
        [old] = [one for one in status["generations"] if one["number"] == 1]
        assert old["draining"]["declined"] == reasons, old
        counted = {name: count for name, count in status["counters"].items() if name.startswith("hand_over_declined_") and count}
        assert counted == {f"hand_over_declined_{reason}": count for reason, count in reasons.items()}
        assert f"declined ({text})" in self.tidegate.cli("status").out

    def stay(self, *kinds, count=None):
        """Those of these kinds (so many of them) are with the old generation, which serves them to their end."""
        lines = listed(self.tidegate)
        staying = [one for one in self.live.of(*kinds) if lines[one.port]["generation"] == 1]
        assert len(staying) == (count if count is not None else len(self.live.of(*kinds)))
        assert not any(lines[one.port].get("hand_overs") for one in staying)
        self.live.more(*self.live.all)
        asking = [one for one in staying if one.kind == "idle"]
        until(lambda: all(one.ended for one in asking), lambda: f"the end of {asking} after an answer")
        assert all(one.closes == 1 and one.answers == 2 for one in asking), "told so by the answer, and not before"
        assert not self.live.ended("tunnel")
        gone = [one for one in self.live.ended() if one not in asking]
        assert not gone, gone
        return staying

    def move(self, *kinds, count=None):
        """Those of these kinds (so many of them) are with the new generation."""
        def moved():
            lines = listed(self.tidegate)
            return [one for one in self.live.of(*kinds) if lines.get(one.port, {}).get("generation") == 2]
        count = count if count is not None else len(self.live.of(*kinds))
        # The last of them may be on their way when the old worker has told of all.
        until(lambda: len(moved()) >= count, lambda: f"{count} to have arrived, not {moved()}")
        moved = moved()
        assert len(moved) == count
        assert not any(one.ended or getattr(one, "closes", 0) for one in moved)

    def result(self, more=0, **reasons):
        """What the command says at its end: when all have left. `more`: how many may have been declined since."""
        self.__exit__()
        assert self.outcomes[0].code == 0, self.outcomes[0].text
        result = self.outcomes[0].json_lines[-1]
        assert set(result["declined"]) == set(reasons) and result["forced"] == 0, result
        assert all(0 <= result["declined"][reason] - count <= more for reason, count in reasons.items()), (result, reasons)
        return result


@pytest.fixture
def live_origin(make_origin):
    return LiveOrigin(make_origin)


@pytest.fixture
def declined(launch, live_origin):
    """`declined(load, change)`: a Tidegate with that load is upgraded to a configuration that `change` makes."""
    def make(load, change, upgrade=None, is_told=True, **options):
        tidegate = launch(basic(live_origin.address, upgrade={**SOON, **(upgrade or {})}), **options)
        live = Live(tidegate, live_origin, **load)
        live.__enter__()
        lives.append(live)
        tidegate.change(**change(tidegate))
        return Declined(tidegate, live, is_told=is_told)
    lives = []
    yield make
    for live in lives:
        live.__exit__(None)


def test_a_listener_that_is_gone(declined):
    with declined({"idle": 4, "tunnels": 3}, lambda _: {"listeners": [{"name": "new", "bind": "127.0.0.1:0"}]}) as case:
        case.told(listener=7)
        case.stay("idle", "tunnel")
        assert case.result(listener=7)["handed_over"]["idle"] == 0


def test_a_listener_that_speaks_tls_now(declined, tmp_path):
    pair = make_pair(tmp_path, "site", "a.example")

    def change(tidegate):
        return {"listeners": [{"name": "web", "bind": "127.0.0.1:0", "tls": {}}], "certificates": [pair.entry()]}
    with declined({"idle": 4, "tunnels": 3}, change) as case:
        case.told(listener=7)
        case.stay("idle", "tunnel")
        case.result(listener=7)


def test_a_route_that_is_gone(declined):
    """Its tunnels stay; who is between two requests has no route yet, and moves."""
    with declined({"idle": 4, "tunnels": 3}, lambda _: {"routes": [{"name": "other", "upstream": "app"}]}) as case:
        case.told(route=3)
        case.stay("tunnel")
        case.move("idle")
        assert case.result(route=3)["handed_over"]["idle"] == 4


def test_an_upstream_that_is_gone(declined, origin):
    """Tunnels to it stay, pooled connections to it are of no use to anybody."""
    with declined({"idle": 4, "tunnels": 3}, lambda _: {"upstreams": {"app": {"endpoints": [origin.address]}}}) as case:
        pooled = case.tidegate.counters()["hand_over_declined_upstream"] - 3
        assert pooled >= 1
        case.told(upstream=3 + pooled)
        origin.handler = lambda peer, got: peer.answer(200, got.target)
        case.stay("tunnel")
        case.move("idle")
        case.result(upstream=3 + pooled, more=10)
        # The Live looks at the origin of before for its questions.
        case.live.origin.origin.requests += origin.requests


@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_ip"])
def test_a_limit_of_the_new_configuration(declined, limit):
    with declined({"idle": 10}, lambda _: {"limits": {limit: 4}}) as case:
        case.told(limits=6)
        case.move("idle", count=4)
        case.stay("idle", count=6)
        assert case.result(limits=6)["handed_over"]["idle"] == 4


def test_a_descriptor_limit_of_the_new_worker(declined):
    def change(tidegate):
        # Inherited by who comes now; the old worker has its own.
        resource.prlimit(tidegate.pid, resource.RLIMIT_NOFILE, (96, 96))
        return {}
    with declined({"idle": 60, "tunnels": 20}, change) as case:
        kept = case.tidegate.counters()["hand_over_declined_descriptors"]
        case.told(descriptors=kept)
        moved = case.tidegate.counters()["handed_over_idle"] + case.tidegate.counters()["handed_over_tunnels"]
        assert 0 < moved < 80 <= moved + kept
        case.move("idle", "tunnel", count=moved)
        case.stay("idle", "tunnel", count=80 - moved)
        # Connections to the origin of the last answers, which nobody takes either.
        case.result(descriptors=kept, more=100)


def test_a_declined_tunnel_lives_until_the_deadline_of_the_old_generation(declined):
    case = declined({"idle": 1, "tunnels": 2}, lambda _: {"routes": [{"name": "other", "upstream": "app"}]},
                    upgrade={"drain_tunnels": duration(2)})
    with case:
        began = time.monotonic()
        case.stay("tunnel")
        until(lambda: len(case.live.ended("tunnel")) == 2, "the deadline", 5)
        # The deadline counts from before the hand-over.
        assert all(1 * PATIENCE < one.ended[0] - began < 3 * PATIENCE for one in case.live.ended("tunnel"))
    assert case.outcomes[0].json_lines[-1]["forced"] == 2
    line = case.tidegate.logged(count=2, status=101)
    assert (line["reason"], line["generation"]) == ("drain_deadline", 1)


def test_without_a_hand_over_all_drains_as_ever(declined):
    with declined({"idle": 4, "tunnels": 3}, lambda _: {}, upgrade={"hand_over": False}, is_told=False) as case:
        case.stay("idle", "tunnel")
        assert case.result()["handed_over"] == {"idle": 0, "tunnels": 0, "upstream": 0}


def test_a_record_that_the_new_worker_does_not_know(launch, live_origin):
    """An upgrade across versions: it declines everything, also what comes to a place where it could move later."""
    tidegate = launch(basic(live_origin.address, upgrade=SOON), env={"TIDEGATE_TEST_FAULTS": "1"})
    binary = copied_binaries(tidegate.directory / "next")
    (binary.parent / "tidegate.fault").write_text("record:fail")
    with Live(tidegate, live_origin, idle=4, tunnels=3, held=2) as live:
        with Declined(tidegate, live, binary) as case:
            pooled = tidegate.counters()["hand_over_declined_record"] - 7
            case.told(record=7 + pooled)
            case.stay("idle", "tunnel")
            live_origin.release.set()
            until(lambda: all(one.answers for one in live.of("held")), "the answers that were kept back")
            # Offered when its exchange ends: who asks at once is served before that is declined.
            until(lambda: live.ask(*[one for one in live.of("held") if not one.closes]) or
                  all(one.closes for one in live.of("held")), "those who were inside an exchange to be told")
            until(lambda: all(one.ended for one in live.of("held")), "their end")
            # Connections to the origin of the last answers, which nobody takes either.
            case.result(record=9 + pooled, more=10)
        assert all(one.closes == 1 for one in live.of("idle", "held"))


def test_a_new_binary_that_knows_nothing_of_a_hand_over(launch, live_origin):
    """It takes no notice of the channel, which ends when the old one has waited: then the drain is the ordinary one."""
    tidegate = launch(basic(live_origin.address, upgrade=SOON), env={"TIDEGATE_TEST_FAULTS": "1"})
    binary = copied_binaries(tidegate.directory / "next")
    (binary.parent / "tidegate.fault").write_text("adopt_from:fail")
    with Live(tidegate, live_origin, idle=4, tunnels=3) as live:
        with Declined(tidegate, live, binary) as case:
            case.stay("idle", "tunnel")
            assert case.result()["handed_over"] == {"idle": 0, "tunnels": 0, "upstream": 0}
