"""`tidegate reload`: a new configuration in the running workers, all or nothing, no connection touched."""

import json
import os
import signal
import socket
import threading

import pytest

from support.client import Client, request
from support.daemon import basic
from support.ports import free_port
from support.wait import PATIENCE, duration, until


def respond(body):
    return [{"name": "all", "respond": {"status": 200, "body": body}}]


def listener(name, bind="127.0.0.1:0", **more):
    return {"name": name, "bind": bind, **more}


def text_of(tidegate, name="web"):
    with tidegate.connect(name) as client:
        return client.get("/").text


def test_a_reload_puts_the_new_configuration_in_force_in_the_running_workers(launch):
    tidegate = launch(basic(routes=respond("old\n"), upstreams=None))
    workers = tidegate.workers()
    assert text_of(tidegate) == "old\n"
    tidegate.change(routes=respond("new\n"))
    assert text_of(tidegate) == "old\n", "nothing happens before the reload"
    tidegate.ok("reload")
    assert text_of(tidegate) == "new\n"
    assert tidegate.workers() == workers


def test_a_reload_says_what_changed(launch):
    tidegate = launch(basic(routes=respond("old\n"), upstreams=None))
    tidegate.change(routes=respond("new\n"), timeouts={"keepalive": "33s"})
    said = tidegate.ok("reload").text
    assert "routes" in said and "keepalive" in said, said


def test_a_reload_of_the_same_configuration_has_nothing_to_do(tidegate):
    said = tidegate.ok("reload").text
    assert "nothing to do" in said.lower(), said
    forced = tidegate.ok("reload", "--force").text
    assert "nothing to do" not in forced.lower(), forced


def test_reload_as_json_is_one_object(launch):
    tidegate = launch(basic(routes=respond("old\n"), upstreams=None))
    tidegate.change(routes=respond("new\n"))
    answer = tidegate.ok("reload", "--json").json_lines[-1]
    assert answer["schema_version"] >= 1


@pytest.mark.parametrize("broken", ["{ \"listen\": ", "{}", "not json at all", None])
def test_a_broken_configuration_keeps_the_old_one_in_force(tidegate, broken):
    good = tidegate.config
    tidegate.write(broken if broken is not None else {**good, "upsteams": {}})
    with tidegate.connect() as client:
        assert client.get("/before").status == 200
        outcome = tidegate.cli("reload")
        assert outcome.code == 78, outcome.text
        assert str(tidegate.config_path) in outcome.text or "tidegate.json" in outcome.text, outcome.text
        assert "unchanged" in outcome.text, "it must say that the running configuration is unchanged"
        assert client.get("/after").status == 200
    tidegate.write(good)
    tidegate.ok("reload")


def test_every_fault_of_a_broken_configuration_is_named_with_its_place(tidegate):
    good = tidegate.config
    config = {**good, "upsteam": "x", "workers": "many", "timeouts": {"keepalive": 75}}
    tidegate.write(config)
    outcome = tidegate.cli("reload")
    assert outcome.code == 78
    for word in ("upsteam", "workers", "keepalive", "75s", "3 errors"):
        assert word in outcome.text, f"{word!r} is missing in:\n{outcome.text}"
    assert outcome.text.count("tidegate.json:") >= 3


def test_a_configuration_that_cannot_be_read_keeps_the_old_one(tidegate):
    tidegate.config_path.unlink()
    outcome = tidegate.cli("reload")
    assert outcome.code in (1, 78), outcome.text
    assert "tidegate.json" in outcome.text
    with tidegate.connect() as client:
        assert client.get("/").status == 200


def test_an_open_connection_gets_the_new_configuration_for_its_next_request(launch):
    tidegate = launch(basic(routes=respond("old\n"), upstreams=None))
    with tidegate.connect() as client:
        assert client.get("/").text == "old\n"
        tidegate.change(routes=respond("new\n"))
        tidegate.ok("reload")
        response = client.get("/")
        assert (response.text, response.get("connection")) == ("new\n", None)


def test_an_exchange_keeps_the_configuration_that_it_began_with(launch, origin):
    go = threading.Event()

    def slow(peer, _):
        peer.wait(go)
        peer.answer(200, b"from the origin\n")
    origin.handler = slow
    routes = [{"name": "r", "upstream": "app", "headers": {"response": {"set": {"X-Configuration": "old"}}}}]
    tidegate = launch(basic(origin.address, routes=routes))
    with tidegate.connect() as client:
        client.send(request())
        origin.wait_requests(1)
        tidegate.change(routes=respond("new\n"), upstreams=None)
        tidegate.ok("reload")
        assert text_of(tidegate) == "new\n"
        go.set()
        response = client.response()
        assert (response.text, response.get("x-configuration")) == ("from the origin\n", "old")


def test_an_upload_in_progress_survives_reloads(proxy, origin):
    origin.handler = lambda peer, got: peer.answer(200, got.body)
    tidegate = proxy()
    body = b"".join(b"%06d" % number for number in range(5000))
    with tidegate.connect() as client:
        client.send(request("POST", "/", f"Content-Length: {len(body)}"))
        for part in range(5):
            client.send(body[part * 6000:(part + 1) * 6000])
            tidegate.ok("reload", "--force")
        assert client.response("POST").body == body


def test_a_new_listener_accepts_and_a_dropped_one_refuses(launch):
    tidegate = launch(basic(routes=respond("one\n"), upstreams=None))
    kept = tidegate.addresses("web")
    tidegate.change(listeners=[listener("web"), listener("second")])
    tidegate.ok("reload")
    assert text_of(tidegate, "second") == "one\n"
    assert tidegate.addresses("web") == kept, "a listener that stays keeps its port"
    second = tidegate.addresses("second")[0]
    tidegate.change(listeners=[listener("web")])
    tidegate.ok("reload")

    def refuses():
        try:
            with Client(second, seconds=2) as client:
                client.get("/")
            return False
        except ConnectionRefusedError:
            return True
        except Exception:  # pylint: disable=broad-except
            return False
    until(refuses, "the dropped listener to refuse")
    assert text_of(tidegate) == "one\n"


def test_a_connection_of_a_dropped_listener_is_served_to_its_end(launch, origin):
    go = threading.Event()
    origin.handler = lambda peer, _: (peer.wait(go), peer.answer())
    tidegate = launch(basic(origin.address, listeners=[listener("web"), listener("second")]))
    with tidegate.connect("second") as client:
        client.send(request())
        origin.wait_requests(1)
        tidegate.change(listeners=[listener("web")])
        tidegate.ok("reload")
        go.set()
        assert client.response().status == 200


def test_an_address_in_use_keeps_the_old_configuration(launch):
    tidegate = launch(basic(routes=respond("old\n"), upstreams=None))
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = "127.0.0.1:%d" % holder.getsockname()[1]
        tidegate.change(listeners=[listener("web"), listener("second"), listener("third", taken)], routes=respond("new\n"))
        outcome = tidegate.cli("reload")
        assert outcome.code in (1, 6), outcome.text
        assert taken in outcome.text and "in use" in outcome.text, outcome.text
    assert text_of(tidegate) == "old\n"
    assert [one["name"] for one in tidegate.status()["listeners"]] == ["web"], "what was opened is closed again"
    tidegate.ok("reload")
    assert text_of(tidegate, "third") == "new\n"


def test_a_renamed_listener_keeps_its_socket(launch):
    port = free_port()
    tidegate = launch(basic(routes=respond("x\n"), upstreams=None, listeners=[listener("web", f"127.0.0.1:{port}")]))
    tidegate.change(listeners=[listener("other", f"127.0.0.1:{port}")])
    tidegate.ok("reload")
    assert text_of(tidegate, "other") == "x\n"


def test_a_change_of_the_worker_count_is_an_upgrade_and_says_so(launch):
    tidegate = launch(basic(routes=respond("x\n"), upstreams=None))
    before, pid = tidegate.status(), tidegate.pid
    for count in (3, 1):
        tidegate.change(workers=count)
        outcome = tidegate.ok("reload")
        assert "upgrade" in outcome.text.lower(), outcome.text
        status = tidegate.wait_generations(1)
        assert status["pid"] == pid
        assert status["generation"] > before["generation"]
        assert len(tidegate.workers()) == count
        for _ in range(10):
            assert text_of(tidegate) == "x\n"
        before = status


def test_upstreams_may_be_added_and_removed(launch, make_origin):
    first, second = make_origin(), make_origin()
    tidegate = launch(basic(first.address))
    with tidegate.connect() as client:
        client.get("/1")
        tidegate.write({**tidegate.config, "upstreams": {"other": {"endpoints": [second.address]}},
                        "routes": [{"name": "all", "upstream": "other"}]})
        tidegate.ok("reload")
        client.get("/2")
    assert [one.target for one in first.requests] == ["/1"]
    assert [one.target for one in second.requests] == ["/2"]
    assert first.peers[0].finished.wait(10 * PATIENCE), "the pool of a dropped upstream is closed"


def test_pooled_connections_survive_a_reload_that_does_not_concern_them(launch, origin):
    tidegate = launch(basic(origin.address))
    with tidegate.connect() as client:
        client.get("/1")
        tidegate.change(timeouts={"keepalive": "50s"})
        tidegate.ok("reload")
        client.get("/2")
    assert len(origin.peers) == 1


def test_many_reloads_at_once_all_succeed(launch):
    tidegate = launch(basic(routes=respond("0\n"), upstreams=None, workers=2))
    outcomes = []
    tidegate.change(routes=respond("1\n"))
    threads = [threading.Thread(target=lambda: outcomes.append(tidegate.cli("reload", "--force"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.code for one in outcomes] == [0] * 8, [one.text for one in outcomes]
    assert text_of(tidegate) == "1\n"
    assert len(tidegate.status()["generations"]) == 1


def test_included_files_are_read_again(launch):
    tidegate = launch(basic(routes=None, upstreams=None, include=["conf.d/*.json"]),
                      before=lambda it: write_part(it, respond("old\n")))
    assert text_of(tidegate) == "old\n"
    write_part(tidegate, respond("new\n"))
    tidegate.ok("reload")
    assert text_of(tidegate) == "new\n"


def write_part(tidegate, routes):
    folder = tidegate.directory / "conf.d"
    folder.mkdir(exist_ok=True)
    (folder / "routes.json").write_text(json.dumps({"routes": routes}))


def test_a_worker_that_hangs_does_not_hang_a_reload_for_ever(launch):
    """One of two workers is stopped: the reload is refused as a whole within the ready timeout, or waits for nobody else."""
    tidegate = launch(basic(routes=respond("old\n"), upstreams=None, workers=2, upgrade={"ready_timeout": duration(1)}))
    victim = tidegate.workers()[0]
    os.kill(victim, signal.SIGSTOP)
    tidegate.change(routes=respond("new\n"))
    outcome = tidegate.cli("reload")
    assert outcome.code in (1, 7), outcome.text
    os.kill(victim, signal.SIGCONT)
    for _ in range(8):
        assert text_of(tidegate) == "old\n", "all or nothing"
    tidegate.ok("reload")
    for _ in range(8):
        assert text_of(tidegate) == "new\n"
