"""How connections of HTTP/2 end: GOAWAY with the largest identifier, a PING, the final GOAWAY (RFC 9113 section 6.8), and the
streams in flight finish. On `stop`, on an upgrade, after `keepalive`."""

import os
import signal
import threading

import pytest

from support import h2_frames as h2
from support import report
from support.certificates import make_pair, trusting
from support.daemon import basic, clear
from support.errors import expect_line
from support.h2 import H2, open_h2
from support.h2_frames import LARGEST_WINDOW, NO_ERROR
from support.wait import PATIENCE, duration, stays, until
from support.wire import Ended


@pytest.fixture
def front(launch, origin):
    return lambda **changes: launch(clear(origin.address, **changes))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return make_pair(tmp_path_factory.mktemp("certificates"), "a.example")


def secure(origin, pair, **changes):
    return basic(origin.address, listeners=[{"name": "web", "bind": "127.0.0.1:0", "tls": {}}], certificates=[pair.entry()],
                 **changes)


def held(go, body=b"held\n"):
    """A script that answers when `go` is set."""
    def script(peer):
        peer.request()
        peer.wait(go)
        peer.answer(200, body)
    return script


def goaways(client):
    return [one for one in client.frames if one.kind == h2.GOAWAY]


def first_goaway(client):
    client.until(lambda: goaways(client), "the first GOAWAY")
    one = goaways(client)[0]
    assert (one.code, one.last) == (NO_ERROR, LARGEST_WINDOW), str(one)
    client.until(lambda: any(frame.kind == h2.PING and not frame.ack for frame in client.frames), "the PING behind it")
    return one


def begin_stop(tidegate):
    tidegate.signal(signal.SIGTERM)


def begin_upgrade(tidegate):
    threading.Thread(target=lambda: tidegate.cli("upgrade", "--force"), daemon=True).start()


@pytest.mark.parametrize("begin", [begin_stop, begin_upgrade], ids=["stop", "upgrade"])
def test_goaway_ping_goaway_and_the_streams_in_flight_finish(front, origin, begin):
    go = threading.Event()
    origin.next(held(go), held(go, b"late\n"))
    tidegate = front()
    client = tidegate.h2(polite=False)
    client.send(h2.settings(ack=True))
    stream = client.ask("/held")
    origin.wait_requests(1)
    begin(tidegate)
    first_goaway(client)
    # The client has not seen the GOAWAY yet when it opens one more: it is served.
    late = client.ask("/late")
    origin.wait_requests(2)
    assert len(goaways(client)) == 1, "the final GOAWAY waits for the PING's acknowledgement"
    ping = [frame for frame in client.frames if frame.kind == h2.PING and not frame.ack][0]
    client.send(h2.ping(ping.octets, ack=True))
    client.until(lambda: len(goaways(client)) == 2, "the final GOAWAY")
    final = goaways(client)[1]
    assert (final.code, final.last) == (NO_ERROR, late), str(final)
    # What comes later is not dealt with, and harms nobody.
    client.send(h2.get(late + 2, "/never"))
    go.set()
    assert client.answer(stream).body == b"held\n"
    assert client.answer(late).body == b"late\n"
    client.end()
    assert "/never" not in [one.target for one in origin.requests]
    assert client.of(late + 2).status is None
    client.close()
    if begin is begin_stop:
        assert tidegate.wait_exit() == 0
    else:
        tidegate.wait_generations(1)


@pytest.mark.parametrize("begin", [begin_stop, begin_upgrade], ids=["stop", "upgrade"])
def test_an_idle_connection_is_ended_at_once(front, begin):
    tidegate = front(shutdown={"timeout": "30s"}, upgrade={"drain": "30s"})
    with tidegate.h2() as client:
        assert client.get("/").status == 200
        begin(tidegate)
        final = client.end()
        assert (final.code, final.last) == (NO_ERROR, 1), str(final)
    if begin is begin_stop:
        assert tidegate.wait_exit(10) == 0
    else:
        tidegate.wait_generations(1, 10)


def test_a_client_that_has_asked_nothing_is_told_as_well(front):
    tidegate = front(shutdown={"timeout": "30s"})
    with tidegate.h2() as client:
        begin_stop(tidegate)
        final = client.end()
        assert (final.code, final.last) == (NO_ERROR, 0), str(final)
    assert tidegate.wait_exit(10) == 0


def test_a_client_that_answers_no_ping_is_ended_by_the_deadline(front):
    tidegate = front(shutdown={"timeout": "1s"})
    with tidegate.h2(polite=False) as client:
        client.send(h2.settings(ack=True))
        begin_stop(tidegate)
        first_goaway(client)
        client.end()
    assert tidegate.wait_exit(10) == 0


def test_a_client_that_is_silent_after_its_preface_does_not_hold_a_stop(front):
    tidegate = front(shutdown={"timeout": "1s"})
    with tidegate.h2():
        begin_stop(tidegate)
        assert tidegate.wait_exit(10) == 0


def test_a_stop_serves_who_has_connected_and_begins_its_handshake_then(launch, origin, pair):
    """What a stop does for the first octets of a handshake ends with them: the request lasts longer than that."""
    go = threading.Event()
    origin.next(held(go))
    tidegate = launch(secure(origin, pair, shutdown={"timeout": "30s"}))
    with tidegate.connect() as raw:
        until(lambda: tidegate.counters()["connections_active"] == 1, "the connection to be accepted")
        begin_stop(tidegate)
        until(lambda: "STOPPING=1" in tidegate.notify.lines(), "STOPPING=1")
        sock = trusting(pair, alpn=["h2"]).wrap_socket(raw.sock, server_hostname="a.example")
        with H2(sock) as client:
            # At once: who knows of the GOAWAY asks elsewhere.
            stream = client.new_stream()
            client.send(h2.PREFACE + client.settings() + h2.get(stream, "/held"))
            origin.wait_requests(1)
            stays(tidegate.worker_processes, "the worker has died", 2.5)
            go.set()
            assert client.answer(stream).body == b"held\n"
    assert tidegate.wait_exit(10) == 0


def test_what_does_not_end_by_the_deadline_is_cut_and_reported(front, origin):
    go = threading.Event()
    origin.next(held(go))
    tidegate = front(shutdown={"timeout": "500ms"})
    with tidegate.h2() as client:
        stream = client.ask("/stuck")
        origin.wait_requests(1)
        begin_stop(tidegate)
        try:
            client.outcome(stream)
        except Ended:
            pass
        known = client.of(stream)
        assert known.status in (None, 503) and not (known.ended and known.status == 200), known.raw
        assert tidegate.wait_exit(10) == 0
    go.set()
    line = tidegate.logged(path="/stuck")
    expect_line(line, "drain_deadline")
    assert line.get("status") == known.status, line


def test_an_upload_under_way_finishes_while_it_drains(front, origin):
    origin.handler = lambda peer, got: peer.answer(200, b"%d" % len(got.body))
    tidegate = front()
    with tidegate.h2() as client:
        stream = client.new_stream()
        client.send(h2.post(stream, "/upload"))
        client.send_body(stream, b"u" * 100000, end=False)
        begin_upgrade(tidegate)
        first_goaway(client)
        client.send_body(stream, b"u" * 500000)
        assert client.answer(stream).body == b"600000"
        client.end()
    tidegate.wait_generations(1)


def test_a_reload_touches_no_connection(front, origin):
    go = threading.Event()
    origin.next(held(go))
    tidegate = front()
    with tidegate.h2() as client:
        stream = client.ask("/held")
        origin.wait_requests(1)
        tidegate.ok("reload", "--force")
        assert client.get("/beside").status == 200
        go.set()
        assert client.answer(stream).body == b"held\n"
        assert not goaways(client)


def test_an_idle_connection_ends_after_keepalive(front):
    with front(timeouts={"keepalive": duration(0.3)}).h2() as client:
        assert client.get("/").status == 200
        final = client.end()
        assert final and (final.code, final.last) == (NO_ERROR, 1), final


def test_a_connection_with_a_stream_is_not_idle(front, origin):
    go = threading.Event()
    origin.next(held(go))
    with front(timeouts={"keepalive": duration(0.3)}).h2() as client:
        stream = client.ask("/held")
        origin.wait_requests(1)
        assert client.silent(0.8 * PATIENCE)
        go.set()
        assert client.answer(stream).body == b"held\n"


def test_the_end_of_a_connection_over_tls_is_announced(launch, origin, pair):
    """GOAWAY, then close_notify: nobody could have cut it short."""
    tidegate = launch(secure(origin, pair, timeouts={"keepalive": "300ms"}))
    with open_h2(tidegate.address(), context=trusting(pair, alpn=["h2"])) as client:
        assert client.get("/", authority="a.example").status == 200
        # An end without close_notify would be an error.
        client.sock.suppress_ragged_eofs = False
        assert client.end().code == NO_ERROR


def test_a_killed_worker_takes_its_connections_along_and_no_others(front, origin):
    tidegate = front(workers=1)
    with tidegate.h2() as client:
        assert client.get("/").status == 200
        os.kill(tidegate.workers()[0], signal.SIGKILL)
        client.expect_gone()

    def again():
        try:
            with tidegate.h2() as client:
                return client.get("/after").status == 200
        except (Ended, OSError):
            return False
    until(again, "an answer of the next worker")
    tidegate.tolerate_crashes = True


class Obedient:
    """A client that asks without pause, on a new connection once it is told to go away; what it is owed it must get."""

    def __init__(self, tidegate, context):
        self.tidegate = tidegate
        self.context = context
        self.answers = self.connections = 0
        self.failures = []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.tidegate.address()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

    def run(self):
        try:
            while not self.stop.is_set():
                self.connection()
        except (AssertionError, Ended, OSError) as wrong:
            self.failures.append(repr(wrong))

    def connection(self):
        with open_h2(self.tidegate.address(), context=self.context) as client:
            self.connections += 1
            while not self.stop.is_set() and client.goaway is None:
                streams = [client.ask(f"/{number}", body=b"b" * 2000 if number else None,
                                      method="POST" if number else "GET", authority="a.example") for number in range(3)]
                for stream in streams:
                    # RFC 9113 section 6.8: streams above the identifier of a GOAWAY were not dealt with.
                    if client.goaway and stream > client.goaway.last:
                        break
                    assert client.answer(stream).status == 200
                    self.answers += 1


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_no_request_is_lost_to_upgrades_and_reloads(launch, origin, pair, tls):
    tidegate = launch(secure(origin, pair, workers=2) if tls else clear(origin.address, workers=2))
    clients = [Obedient(tidegate, trusting(pair, alpn=["h2"]) if tls else None) for _ in range(4)]
    for one in clients:
        one.__enter__()
    try:
        for number in range(6):
            before = [one.answers for one in clients]
            until(lambda before=before: any(one.failures for one in clients)
                  or all(one.answers > then + 5 for one, then in zip(clients, before)), "further answers")
            tidegate.ok(*(("upgrade", "--force") if number % 2 else ("reload", "--force")))
    finally:
        for one in clients:
            one.__exit__()
    assert not any(one.failures for one in clients), [one.failures for one in clients]
    assert sum(one.connections for one in clients) >= 8, "the upgrades have moved the clients"
    answers = sum(one.answers for one in clients)
    until(lambda: tidegate.counters()["responses_2xx"] >= answers, "all answers counted")
    report.add([f"HTTP/2{' over TLS' if tls else ''}: {answers} answers on {sum(one.connections for one in clients)} connections "
                f"through 3 upgrades and 3 reloads, none lost"])
