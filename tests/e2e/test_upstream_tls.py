"""TLS towards upstreams: what is verified and what is said where it fails, sessions, reloads, ends, tunnels."""

import asyncio
import os
import shutil
import ssl
import tempfile
import threading

import pytest
import websockets

from support.certificates import make_authority, make_pair, serving
from support.client import request
from support.daemon import basic, merged
from support.errors import expect_error, expect_line
from support.wait import until

MIB = 1 << 20
NAME = "app.example"
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
ASK = ("Connection: Upgrade", "Upgrade: raw/1")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw/1\r\n\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("authority"), "ca")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture(scope="module")
def site(authority):
    """The certificate of an endpoint as it should be."""
    return authority.sign("site", NAME)


@pytest.fixture
def secure_origin(make_origin, site):
    return make_origin(tls=serving(site))


def behind(origin, authority, name=NAME, tls=None, **changes):
    """A configuration whose upstream trusts `authority` and wants `name`."""
    settings = {"ca": str(authority.pair.cert), "server_name": name, **(tls or {})}
    secured = {"upstreams": {"app": {"tls": {key: value for key, value in settings.items() if value is not None}}}}
    return basic(origin.address, **merged(secured, changes))


def get(tidegate, target="/"):
    with tidegate.connect() as client:
        return client.get(target)


# What is verified.

@pytest.mark.parametrize("version", VERSIONS)
def test_requests_go_over_tls(launch, make_origin, authority, site, version):
    asked = []
    context = serving(site, version=version)
    context.sni_callback = lambda sock, name, _: asked.append(name)
    origin = make_origin(tls=context)
    origin.handler = lambda peer, got: peer.answer(body=got.body)
    tidegate = launch(behind(origin, authority))
    body = os.urandom(5 * MIB)
    with tidegate.connect() as client:
        for _ in range(3):
            client.send(request("POST", "/", body=body))
            assert client.response().body == body
    assert asked == [NAME], "one connection, with the name"
    assert origin.peers[0].sock.selected_alpn_protocol() == "http/1.1"
    assert tidegate.logged(count=3, path="/")["reused"] is True
    until(lambda: tidegate.counters()["upstream_tls_handshakes"] == 1, "one handshake counted")


def test_the_name_is_the_endpoints_host_unless_given(launch, make_origin, authority):
    asked = []
    context = serving(authority.sign("local", "localhost"))
    context.sni_callback = lambda sock, name, _: asked.append(name)
    origin = make_origin(tls=context)
    tidegate = launch(basic(origin.address.replace("127.0.0.1", "localhost"),
                            upstreams={"app": {"tls": {"ca": str(authority.pair.cert)}}}))
    assert get(tidegate).status == 200 and asked == ["localhost"]


def test_an_address_is_verified_and_not_asked_for(launch, make_origin, authority):
    asked = []
    context = serving(authority.sign("address", "IP:127.0.0.1"))
    context.sni_callback = lambda sock, name, _: asked.append(name)
    origin = make_origin(tls=context)
    tidegate = launch(behind(origin, authority, name=None))
    assert get(tidegate).status == 200 and asked == [None]
    tidegate.write(behind(origin, authority, name="127.0.0.2"))
    tidegate.ok("reload")
    line = expect_error(tidegate, get(tidegate), "upstream_tls_verify")
    assert "IP address mismatch: the certificate is for 127.0.0.1, not for 127.0.0.2" in line["detail"], line


@pytest.mark.parametrize("case, words", [
    ("other", "hostname mismatch: the certificate is for other.example, *.more.example, not for app.example"),
    ("expired", "certificate has expired"), ("unknown", "unable to get local issuer certificate"),
    ("itself", "self-signed certificate"), ("client", "unsuitable certificate purpose")])
def test_a_certificate_that_is_not_good_gets_no_request(launch, make_origin, authority, stranger, tmp_path, case, words):
    pair = {"other": lambda: authority.sign("other", "other.example", "*.more.example"),
            "expired": lambda: authority.sign("expired", NAME, valid=("-days", "-1")),
            "unknown": lambda: stranger.sign("unknown", NAME),
            "itself": lambda: make_pair(tmp_path, NAME),
            "client": lambda: authority.sign("client-only", NAME, usage="clientAuth")}[case]()
    origin = make_origin(tls=serving(pair))
    tidegate = launch(behind(origin, authority))
    with tidegate.connect() as client:
        line = expect_error(tidegate, client.get(), "upstream_tls_verify", closes=False)
        assert words in line["detail"], line
        assert line["attempts"] == 2, "nothing was sent, so it is tried again"
    assert not origin.requests
    until(lambda: tidegate.counters()["upstream_tls_handshakes_failed"] == 2, "two failed handshakes counted")
    tidegate.write(behind(origin, authority, tls={"verify": False, "ca": None}))
    tidegate.ok("reload")
    assert get(tidegate).status == 200, "whoever verifies nothing is served"


def test_a_client_certificate_is_shown(launch, make_origin, authority, site):
    origin = make_origin(tls=serving(site, clients=authority))
    mine = authority.sign("mine", usage="clientAuth")
    tidegate = launch(behind(origin, authority, tls={"client_cert": str(mine.cert), "client_key": {"file": str(mine.key)}}))
    assert get(tidegate).status == 200
    subject = dict(field[0] for field in origin.peers[0].sock.getpeercert()["subject"])
    assert subject["commonName"] == "mine"
    secret = mine.key.read_text().splitlines()[1]
    for command in (["check", "--print", str(tidegate.config_path)], ["status", "--json"]):
        outcome = tidegate.cli(*command)
        assert outcome.code == 0 and secret not in outcome.text and "BEGIN" not in outcome.text
    assert secret not in tidegate.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_an_endpoint_that_misses_a_client_certificate_says_so(launch, make_origin, authority, site, version):
    origin = make_origin(tls=serving(site, clients=authority, version=version))
    tidegate = launch(behind(origin, authority))
    response = get(tidegate)
    line = tidegate.logged(id=response.get("x-request-id"))
    if version == ssl.TLSVersion.TLSv1_2:
        expect_line(line, "upstream_tls_alert", status=502)
        assert "alert" in line["detail"], line
        assert response.get("proxy-status").startswith("tidegate; error=tls_alert_received")
    else:
        # The handshake was over for us: the alert may be lost to the reset that follows it.
        assert line["reason"] in ("upstream_tls_alert", "upstream_reset"), line
    assert response.status == 502 and not origin.requests


# Handshakes that fail otherwise.

def test_an_endpoint_without_tls_is_said_to_have_none(launch, origin, authority):
    origin.forever(lambda peer: (peer.some(), peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")))
    tidegate = launch(behind(origin, authority))
    line = expect_error(tidegate, get(tidegate), "upstream_tls_handshake", closes=None)
    assert "wrong version number" in line["detail"] or "packet length" in line["detail"], line


def test_an_endpoint_that_leaves_in_the_handshake_is_tried_again(launch, origin, authority):
    origin.forever(lambda peer: peer.some())
    tidegate = launch(behind(origin, authority))
    line = expect_error(tidegate, get(tidegate), "upstream_tls_handshake")
    assert line["attempts"] == 2 and len(origin.peers) == 2
    # One that resets, within the handshake: at once it may be heard by connect already.
    origin.forever(lambda peer: (peer.some(), peer.reset()))
    line = expect_error(tidegate, get(tidegate), "upstream_tls_handshake")
    assert "handshake" in line["detail"], line


def test_another_endpoint_is_asked_where_one_is_not_who_it_should_be(launch, make_origin, authority, site):
    wrong = make_origin(tls=serving(authority.sign("wrong", "wrong.example")))
    right = make_origin(tls=serving(site))
    config = behind(wrong, authority)
    config["upstreams"]["app"]["endpoints"].append(right.address)
    tidegate = launch(config)
    with tidegate.connect() as client:
        assert [client.get().status for _ in range(4)] == [200] * 4
    assert len(right.requests) == 4 and not wrong.requests


def test_a_handshake_that_hangs_ends_with_upstream_connect(launch, origin, authority):
    gone = []
    origin.forever(lambda peer: gone.append(peer.expect_gone()))
    tidegate = launch(behind(origin, authority, timeouts={"upstream_connect": "300ms"},
                             upstreams={"app": {"retry": {"attempts": 0}}}))
    with tidegate.connect() as client:
        expect_error(tidegate, client.get(), "upstream_connect_timeout", closes=False)
    until(lambda: len(gone) == 1, "the connection closed")
    # A client that leaves meanwhile takes the handshake along.
    tidegate.change(timeouts={"upstream_connect": "30s"})
    tidegate.ok("reload")
    client = tidegate.connect()
    client.send(request())
    origin.wait_peers(2)
    client.reset()
    until(lambda: len(gone) == 2, "the handshake given up")
    expect_line(tidegate.logged(reason="client_closed"), "client_closed")


# Sessions and connections.

@pytest.mark.parametrize("version", VERSIONS)
def test_sessions_are_resumed_also_after_a_reload(launch, make_origin, authority, site, version):
    origin = make_origin(tls=serving(site, version=version))
    tidegate = launch(behind(origin, authority, timeouts={"upstream_idle": "1ms"}))
    for number in range(3):
        assert get(tidegate).status == 200
        until(lambda count=number: origin.peers[count].finished.is_set(), "the connection closed")
    assert [peer.tls_resumed for peer in origin.peers] == [False, True, True]
    # The upstream is made anew, its TLS is as before.
    tidegate.change(upstreams={"app": {"balance": "least_connections"}})
    tidegate.ok("reload")
    assert get(tidegate).status == 200
    assert origin.peers[3].tls_resumed
    # What was given under other settings is not used under these.
    tidegate.change(upstreams={"app": {"tls": {"verify": False, "ca": None}}})
    tidegate.ok("reload")
    assert get(tidegate).status == 200
    assert not origin.peers[4].tls_resumed
    until(lambda: tidegate.counters()["upstream_tls_resumed"] == 3, "three resumed handshakes counted")


def test_a_connection_that_the_origin_closes_is_forgotten(launch, secure_origin, authority):
    done = threading.Event()

    def once(peer):
        peer.request()
        peer.answer()
        peer.wait(done)
        peer.sock.unwrap()
    secure_origin.next(once)
    tidegate = launch(behind(secure_origin, authority))
    with tidegate.connect() as client:
        assert client.get().status == 200
        done.set()
        until(lambda: tidegate.counters()["upstream_connections"] == 0, "the connection forgotten")
        assert client.get().status == 200
    assert len(secure_origin.peers) == 2


def test_a_reload_that_trusts_another_uses_no_old_connection(launch, secure_origin, authority, stranger, tmp_path):
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(authority.pair.cert.read_bytes())
    tidegate = launch(behind(secure_origin, authority, tls={"ca": str(trusted)}))
    with tidegate.connect() as client:
        assert client.get().status == 200
        trusted.write_bytes(stranger.pair.cert.read_bytes())
        said = tidegate.ok("reload").text
        assert "ca.pem has other certificates" in said, said
        expect_error(tidegate, client.get(), "upstream_tls_verify", closes=False)
        trusted.write_bytes(authority.pair.cert.read_bytes())
        tidegate.ok("reload")
        assert client.get().status == 200
        assert "nothing to do" in tidegate.ok("reload").text
        # A file that is of no use changes nothing.
        trusted.write_text("no PEM")
        outcome = tidegate.cli("reload")
        assert outcome.code == 78 and "ca.pem" in outcome.text, outcome.text
        assert client.get().status == 200
    assert len(secure_origin.requests) == 3


def test_files_that_change_on_disk_are_loaded_where_they_are_watched(launch, secure_origin, authority, stranger, tmp_path):
    trusted, fresh = tmp_path / "ca.pem", tmp_path / "ca.new"
    trusted.write_bytes(stranger.pair.cert.read_bytes())
    tidegate = launch(behind(secure_origin, authority, tls={"ca": str(trusted)}, watch=True))
    with tidegate.connect() as client:
        expect_error(tidegate, client.get(), "upstream_tls_verify", closes=False)
        fresh.write_bytes(authority.pair.cert.read_bytes())
        fresh.replace(trusted)
        until(lambda: client.get().status == 200, "the new file in force")


def test_an_upgrade_keeps_serving(launch, secure_origin, authority):
    tidegate = launch(behind(secure_origin, authority))
    with tidegate.connect() as client:
        assert client.get().status == 200
        tidegate.ok("upgrade", "--force", "--detach")
        assert client.get().status == 200
    tidegate.wait_generations(1)
    assert get(tidegate).status == 200
    assert all(line["status"] == 200 for line in tidegate.access_lines())


# Ends.

def test_a_body_that_is_cut_is_never_whole(launch, secure_origin, authority):
    def with_length(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    def to_the_end(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
    for script in (with_length, to_the_end):
        secure_origin.next(script)
    tidegate = launch(behind(secure_origin, authority))
    for number in (1, 2):
        with tidegate.connect() as client:
            client.send(request())
            head = client.response_head()
            assert head.status == 200
            rest = client.expect_gone()
            assert b"half" in rest and not rest.endswith(b"0\r\n\r\n"), rest
        expect_line(tidegate.logged(count=number, reason="upstream_truncated"), "upstream_truncated", status=200)
    assert "close_notify" in tidegate.access_lines()[-1]["detail"]


def test_a_body_that_ends_with_a_close_notify_is_whole(launch, secure_origin, authority):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        peer.sock.unwrap()
    secure_origin.next(script)
    tidegate = launch(behind(secure_origin, authority))
    response = get(tidegate)
    assert response.body == b"all of it" and response.framing == "chunked"
    assert "reason" not in tidegate.logged(path="/")


def test_an_early_answer_and_a_slow_reader_are_served(launch, secure_origin, authority):
    payload = os.urandom(MIB) * 8

    def script(peer):
        peer.request_head()
        peer.answer(200, payload)
        peer.expect_gone()
    secure_origin.next(script)
    tidegate = launch(behind(secure_origin, authority))
    with tidegate.connect(receive_buffer=4096) as client:
        client.send(request("POST", "/", "Content-Length: 1000000") + b"x" * 1000)
        assert client.response().body == payload


# Tunnels.

@pytest.mark.parametrize("version", VERSIONS)
def test_the_clients_end_is_passed_on_and_the_answer_still_comes(launch, make_origin, authority, site, version):
    origin = make_origin(tls=serving(site, version=version))

    def script(peer):
        peer.request()
        peer.send(SWITCH)
        # Without a close_notify the end would be an error.
        peer.sock.suppress_ragged_eofs = False
        peer.send(b"answer to " + peer.to_end())
        peer.sock.unwrap()
    origin.next(script)
    tidegate = launch(behind(origin, authority))
    with tidegate.connect() as client:
        client.send(request("GET", "/tunnel", *ASK))
        assert client.response().status == 101
        client.send(b"question")
        client.half_close()
        assert client.to_end() == b"answer to question"
    assert "reason" not in tidegate.logged(path="/tunnel")


def test_a_tunnel_that_is_cut_is_no_clean_end(launch, secure_origin, authority):
    def script(peer):
        peer.request()
        peer.send(SWITCH + b"first words")
    secure_origin.next(script)
    tidegate = launch(behind(secure_origin, authority))
    with tidegate.connect() as client:
        client.send(request("GET", "/tunnel", *ASK))
        assert client.response().status == 101
        assert client.expect_gone() == b"first words"
    line = tidegate.logged(path="/tunnel")
    assert line["who"] == "upstream" and "close_notify" in line["detail"], line


def test_a_websocket_goes_over_tls(launch, site, authority):
    async def main():
        async def echo(connection):
            async for message in connection:
                await connection.send(message)
        server = await websockets.serve(echo, "127.0.0.1", 0, ssl=serving(site), max_size=None)
        address = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        config = basic(address, upstreams={"app": {"tls": {"ca": str(authority.pair.cert), "server_name": NAME}}})
        tidegate = await loop.run_in_executor(None, lambda: launch(config))
        front = await loop.run_in_executor(None, tidegate.port)
        async with websockets.connect(f"ws://127.0.0.1:{front}/chat", max_size=None) as connection:
            for message in ("hello", b"\x00\x01binary", "x" * 300000, ""):
                await connection.send(message)
                assert await asyncio.wait_for(connection.recv(), 30) == message
        server.close()
        await server.wait_closed()
        return tidegate
    line = asyncio.run(main()).logged(path="/chat")
    assert line["status"] == 101 and "reason" not in line, line


# Whom the system trusts.

def test_the_system_is_trusted_where_nobody_is_named(launch, secure_origin, authority, stranger, tmp_path):
    system = tmp_path / "system.pem"
    system.write_bytes(stranger.pair.cert.read_bytes() + authority.pair.cert.read_bytes())
    config = basic(secure_origin.address, upstreams={"app": {"tls": {"server_name": NAME}}})
    tidegate = launch(config, env={"SSL_CERT_FILE": str(system)})
    assert get(tidegate).status == 200
    assert "nothing to do" in tidegate.ok("reload").text
    # What the system trusts changes with a reload, too.
    system.write_bytes(stranger.pair.cert.read_bytes())
    assert "system.pem has changed" in tidegate.ok("reload").text
    expect_error(tidegate, get(tidegate), "upstream_tls_verify")
    system.unlink()
    outcome = tidegate.cli("reload")
    assert outcome.code == 78 and "system.pem: No such file" in outcome.text and "ca-certificates" in outcome.text, outcome.text
    system.write_bytes(authority.pair.cert.read_bytes())
    tidegate.ok("upgrade", "--force")
    assert get(tidegate).status == 200


# What check says.

def checked(tidegate, config):
    tidegate.write(config)
    return tidegate.cli("check", str(tidegate.config_path))


def test_check_names_what_cannot_be_used(launch, secure_origin, authority, stranger, tmp_path):
    tidegate = launch(behind(secure_origin, authority))
    mine, other = authority.sign("check-mine", usage="clientAuth"), stranger.sign("check-other")
    mine.key.chmod(0o644)
    good = {"client_cert": str(mine.cert), "client_key": {"file": str(mine.key)}}
    outcome = checked(tidegate, behind(secure_origin, authority, tls=good))
    assert outcome.code == 0 and "check-mine.key" in outcome.text and "everybody" in outcome.text, outcome.text
    for tls, words in (
            ({**good, "client_key": {"file": str(other.key)}}, ["check-mine.pem", "the key belongs to another certificate"]),
            ({"ca": str(tmp_path / "none.pem")}, ["none.pem", "No such file"]),
            ({"ca": str(mine.key)}, ["check-mine.key", "no certificate"]),
            ({"client_cert": str(mine.cert)}, ["without its key", "client_key"]),
            ({"client_key": good["client_key"]}, ["without its certificate", "client_cert"]),
            ({"server_name": "*.example"}, ["not the name of one server"]),
            ({"verfy": False}, ["did you mean"])):
        outcome = checked(tidegate, behind(secure_origin, authority, tls=tls))
        assert outcome.code == 78 and all(word in outcome.text for word in words), outcome.text
    nameless = basic("unix:/run/app.sock", upstreams={"app": {"tls": {"ca": str(authority.pair.cert)}}})
    outcome = checked(tidegate, nameless)
    assert outcome.code == 78 and "has no name" in outcome.text and "server_name" in outcome.text, outcome.text
    outcome = checked(tidegate, behind(secure_origin, authority, tls={"verify": False}))
    assert outcome.code == 0 and "nothing is verified" in outcome.text, outcome.text


def test_a_unix_socket_is_spoken_to_over_tls(launch, make_origin, authority, site):
    folder = tempfile.mkdtemp(prefix="tg-")
    os.chmod(folder, 0o755)
    origin = make_origin(path=f"{folder}/app.sock", tls=serving(site))
    tidegate = launch(behind(origin, authority))
    assert get(tidegate).status == 200
    tidegate.write(behind(origin, authority, name=None, tls={"verify": False, "ca": None}))
    tidegate.ok("reload")
    assert get(tidegate).status == 200
    shutil.rmtree(folder)
