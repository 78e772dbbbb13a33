"""The access log and the error log: fields, redaction, escapes, a full disk."""

import re
import time

from support.client import chunk, request
from support.daemon import basic
from support.wait import until


def test_a_line_has_every_field(launch, origin):
    def handler(peer, got):
        peer.answer(201, b"12345")
    origin.handler = handler
    tidegate = launch(basic(origin.address, logging={"access": {"request_headers": ["User-Agent", "X-None"]}}))
    began = time.time()
    with tidegate.connect() as client:
        client.send(request("POST", "/path?a=b", "User-Agent: test/1", body=b"abc", host="Example.org:80"))
        assert client.response("POST").status == 201
        line = tidegate.logged(path="/path?a=b")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["ts"])
        assert line["client_ip"] == "127.0.0.1" and str(client.port) in line["peer"]
    expected = {"listener": "web", "method": "POST", "status": 201, "route": "all", "upstream": "app", "endpoint": origin.address,
                "upstream_status": 201, "attempts": 1, "reused": False, "generation": 1}
    assert {key: line.get(key) for key in expected} == expected
    assert line["id"] == origin.requests[0].get("x-request-id")
    assert line["host"].lower().startswith("example.org") and line["proto"] in ("http/1.1", "HTTP/1.1", "h1")
    assert line["bytes_in"] >= 3 and line["bytes_out"] >= 5
    for name in ("time_total", "time_connect", "time_first_byte"):
        assert 0 <= line[name] < 60, name
    assert line["time_total"] <= time.time() - began
    assert "reason" not in line, "absent when all is well"
    assert "test/1" in str(line) and "X-None: " not in str(line)


def test_a_second_request_says_that_connections_were_reused(tidegate):
    with tidegate.connect() as client:
        client.get("/1")
        client.get("/2")
    assert tidegate.logged(path="/2")["reused"] is True


def test_the_query_is_redacted_where_asked_and_nothing_else(launch, origin):
    tidegate = launch(basic(origin.address, logging={"access": {"redact": {"query": ["token", "key"]}}}))
    with tidegate.connect() as client:
        client.get("/p?a=1&token=s3cret&b=2&key=hunter2&tokens=kept&TOKEN=shout")
    assert origin.requests[0].target == "/p?a=1&token=s3cret&b=2&key=hunter2&tokens=kept&TOKEN=shout"
    text = until(lambda: tidegate.access_path.read_text(), "the access log")
    assert "s3cret" not in text and "hunter2" not in text


def test_secrets_in_headers_are_never_logged(launch, origin):
    tidegate = launch(basic(origin.address, logging={"level": "debug"}))
    origin.handler = lambda peer, _: peer.answer(200, b"x", "Set-Cookie: sid=hunter3")
    with tidegate.connect() as client:
        client.get("/", "Authorization: Basic hunter1", "Cookie: sid=hunter2", "Proxy-Authorization: Basic hunter4")
    tidegate.logged(path="/")
    assert "hunter" not in tidegate.access_path.read_text() + tidegate.stderr


def test_asking_for_a_secret_header_does_not_log_it(launch, origin):
    tidegate = launch(basic(origin.address, logging={"access": {"request_headers": ["Accept", "Cookie", "Authorization"]}}), ready=False)
    if tidegate.process.poll() is None:
        try:
            tidegate.wait_ready()
        except AssertionError:
            assert tidegate.process.poll() == 78
            return
        with tidegate.connect() as client:
            client.get("/", "Authorization: Basic hunter1", "Cookie: sid=hunter2")
        tidegate.logged(path="/")
        assert "hunter" not in tidegate.access_path.read_text()


def test_control_octets_and_quotes_are_escaped(launch, origin):
    tidegate = launch(basic(origin.address, logging={"access": {"request_headers": ["User-Agent"]}}))
    with tidegate.connect() as client:
        client.get("/a\"b\\c%0A", "User-Agent: a\"b\\c\td\xff\xe4")
        client.get("/next")
    lines = until(lambda: len(tidegate.access_lines()) >= 2 and tidegate.access_lines(), "two lines")
    assert len(lines) == 2, "each line is one JSON object"
    raw = tidegate.access_path.read_bytes()
    raw.decode("utf-8")
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", raw)


def test_an_aborted_request_has_a_line_too(tidegate, origin):
    origin.handler = lambda peer, _: peer.expect_gone()
    client = tidegate.connect()
    client.send(request("GET", "/aborted"))
    origin.wait_requests(1)
    client.reset()
    assert tidegate.logged(path="/aborted")["reason"] == "client_closed"


def test_bytes_are_counted_as_they_went(tidegate, origin):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk(b"x" * 5000), chunk(b"y" * 5000), b"0\r\n\r\n")
    origin.next(script)
    with tidegate.connect() as client:
        client.send(request("POST", "/sized", body=b"z" * 3000))
        client.response("POST")
    line = tidegate.logged(path="/sized")
    assert 10000 <= line["bytes_out"] < 10600 and 3000 <= line["bytes_in"] < 3400, line


def test_a_full_disk_under_the_access_log_does_not_disturb_traffic(launch, origin):
    tidegate = launch(basic(origin.address, logging={"access": {"path": "/dev/full"}}))
    with tidegate.connect() as client:
        for _ in range(200):
            assert client.get("/").status == 200
    until(lambda: re.search(r"/dev/full|access log", tidegate.stderr), "a word in the error log")
    complaints = [line for line in tidegate.stderr.splitlines() if "/dev/full" in line or "No space" in line or "no space" in line]
    assert len(complaints) < 20, "said now and then, not for each line"
    until(lambda: tidegate.counters()["log_lines_dropped"] >= 200, "every line counted as dropped")
    assert tidegate.counters()["log_lines_dropped"] == 200, "each once"


def test_an_error_log_on_a_full_disk_does_not_disturb_traffic(launch, origin):
    tidegate = launch(basic(origin.address, logging={"level": "debug", "error": "/dev/full"}))
    with tidegate.connect() as client:
        for _ in range(50):
            assert client.get("/").status == 200
    tidegate.ok("reload", "--force")


def test_the_error_log_can_be_a_file(launch, origin):
    tidegate = launch(basic("no-such-host.invalid:80", logging={"error": "@DIR@/error.log"}))
    with tidegate.connect() as client:
        client.get("/")
    until(lambda: "no-such-host.invalid" in (tidegate.directory / "error.log").read_text(), "the warning in the file")


def test_a_log_that_cannot_be_opened_refuses_the_start_and_is_named(launch, origin):
    tidegate = launch(basic(origin.address, logging={"access": {"path": "/no/such/folder/access.log"}}), ready=False)
    assert tidegate.wait_exit() in (1, 78)
    assert "/no/such/folder/access.log" in tidegate.stderr


def test_a_log_that_cannot_be_opened_refuses_a_reload(tidegate):
    tidegate.change(logging={"access": {"path": "/no/such/folder/access.log"}})
    outcome = tidegate.cli("reload")
    assert outcome.code in (1, 78) and "/no/such/folder/access.log" in outcome.text
    with tidegate.connect() as client:
        client.get("/still")
    tidegate.logged(path="/still")


def test_every_request_has_exactly_one_line_under_load(launch, origin):
    tidegate = launch(basic(origin.address, workers=2))
    clients = [tidegate.connect() for _ in range(20)]
    for turn in range(25):
        for number, client in enumerate(clients):
            client.send(request("GET", f"/{number}.{turn}"))
        for client in clients:
            assert client.response().status == 200
    for client in clients:
        client.close()
    until(lambda: len(tidegate.access_lines()) >= 500, "500 lines")
    paths = [line["path"] for line in tidegate.access_lines()]
    assert sorted(paths) == sorted(f"/{number}.{turn}" for number in range(20) for turn in range(25))
    assert len({line["id"] for line in tidegate.access_lines()}) == 500


def test_no_access_log_unless_asked(launch, origin):
    tidegate = launch(basic(origin.address, logging={"access": None}))
    with tidegate.connect() as client:
        assert client.get("/").status == 200
    assert not tidegate.access_path.exists()
