"""Which version a connection speaks: by ALPN with TLS, by the first octets without (RFC 9113 section 3)."""

import ssl

import pytest

from support import h2_frames as h2
from support.certificates import TlsClient, make_pair, trusting
from support.client import request
from support.daemon import CLEAR, basic, clear
from support.errors import expect_error
from support.h2 import H2, open_h2, raw_h2
from support.wait import until


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return make_pair(tmp_path_factory.mktemp("certificates"), "a.example")


def secure(origin, pair, **listener):
    return basic(origin.address, listeners=[{"name": "web", "bind": "127.0.0.1:0", "tls": {}, **listener}],
                 certificates=[pair.entry()])


def chosen(tidegate, pair, alpn):
    with TlsClient(tidegate.address(), trusting(pair, alpn=alpn), "a.example") as client:
        return client.sock.selected_alpn_protocol()


def test_with_tls_both_are_spoken_and_http2_is_preferred(launch, origin, pair):
    tidegate = launch(secure(origin, pair))
    assert chosen(tidegate, pair, ["http/1.1", "h2"]) == "h2"
    assert chosen(tidegate, pair, ["h2", "http/1.1"]) == "h2"
    assert chosen(tidegate, pair, ["http/1.1"]) == "http/1.1"
    assert chosen(tidegate, pair, ["spdy/3", "http/1.1"]) == "http/1.1"
    assert chosen(tidegate, pair, None) is None


def test_what_was_chosen_is_spoken(launch, origin, pair):
    tidegate = launch(secure(origin, pair))
    with open_h2(tidegate.address(), context=trusting(pair, alpn=["h2"])) as client:
        assert client.get("/h2", authority="a.example").status == 200
    for alpn in (["http/1.1"], None):
        with TlsClient(tidegate.address(), trusting(pair, alpn=alpn), "a.example") as client:
            assert client.get("/h1").status == 200
    line = tidegate.logged(path="/h2")
    assert (line["proto"], line["tls"], line["host"]) == ("HTTP/2.0", "TLSv1.3", "a.example"), line
    assert tidegate.logged(path="/h1")["proto"] == "HTTP/1.1"
    assert origin.requests[0].get("x-forwarded-proto") == "https"


def test_nothing_in_common_is_a_failed_handshake(launch, origin, pair):
    """RFC 7301 section 3.2."""
    tidegate = launch(secure(origin, pair))
    with pytest.raises(ssl.SSLError):
        chosen(tidegate, pair, ["h3"])
    until(lambda: tidegate.counters()["tls_handshakes_failed"] == 1, "one failed handshake counted")


@pytest.mark.parametrize("protocols,wanted", [(["h1"], "http/1.1"), (["h1", "h2"], "http/1.1"), (["h2"], "h2")])
def test_a_listener_may_speak_less_or_prefer_otherwise(launch, origin, pair, protocols, wanted):
    tidegate = launch(secure(origin, pair, protocols=protocols))
    assert chosen(tidegate, pair, ["h2", "http/1.1"]) == wanted


def test_http2_over_tls_1_2_has_what_rfc_9113_wants(launch, origin, pair):
    """RFC 9113 section 9.2: no renegotiation, no compression, ephemeral keys, no CBC."""
    tidegate = launch(secure(origin, pair))
    context = trusting(pair, version=ssl.TLSVersion.TLSv1_2, alpn=["h2"])
    with open_h2(tidegate.address(), context=context) as client:
        assert client.sock.compression() is None
        assert "ECDHE" in client.sock.cipher()[0] and ("GCM" in client.sock.cipher()[0] or "CHACHA" in client.sock.cipher()[0])
        assert client.get("/", authority="a.example").status == 200


def test_a_preface_after_http_1_was_chosen_is_no_http2(launch, origin, pair):
    tidegate = launch(secure(origin, pair))
    with TlsClient(tidegate.address(), trusting(pair, alpn=["http/1.1"]), "a.example") as client:
        client.send(h2.PREFACE + h2.settings())
        expect_error(tidegate, client.response(), "method_not_implemented")
    assert not origin.requests


def test_http_1_after_http2_was_chosen_is_no_preface(launch, origin, pair):
    tidegate = launch(secure(origin, pair))
    with raw_h2(tidegate.address(), trusting(pair, alpn=["h2"])) as client:
        client.send(request("GET", "/"))
        assert b"200" not in client.expect_gone()
    assert not origin.requests


# Without TLS.

def test_without_h2c_a_preface_is_a_request_of_http_1(launch, origin):
    tidegate = launch(basic(origin.address))
    with tidegate.connect() as client:
        client.send(h2.PREFACE + h2.settings())
        expect_error(tidegate, client.response(), "method_not_implemented")


def test_with_both_the_first_octets_tell(launch, origin):
    tidegate = launch(clear(origin.address))
    with tidegate.connect() as client:
        assert client.get("/h1").status == 200
    with tidegate.h2() as client:
        assert client.get("/h2").status == 200
    assert tidegate.logged(path="/h2")["proto"] == "HTTP/2.0" and tidegate.logged(path="/h1")["proto"] == "HTTP/1.1"


@pytest.mark.parametrize("method", ["PROPFIND", "PUT", "POST", "PATCH"])
def test_a_method_that_begins_like_the_preface_is_a_method(launch, origin, method):
    tidegate = launch(clear(origin.address))
    octets = request(method, "/p", body=b"")
    with tidegate.connect() as client:
        client.send(*[octets[at:at + 1] for at in range(len(octets))])
        assert client.response(method).status == 200
    assert origin.requests[0].method == method


def test_a_preface_octet_by_octet_is_one(launch, origin):
    tidegate = launch(clear(origin.address))
    with raw_h2(tidegate.address()) as client:
        octets = h2.PREFACE + client.settings() + h2.get(1)
        client.send(*[octets[at:at + 1] for at in range(len(octets))])
        assert client.answer(1).status == 200


def test_http_1_upgrades_to_nothing(launch, origin):
    """RFC 9113 section 3.1 has no Upgrade: h2c any more."""
    tidegate = launch(clear(origin.address))
    with tidegate.connect() as client:
        answer = client.get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
        assert answer.status == 200 and answer.get("upgrade") is None
    assert origin.requests[0].get("upgrade") is None


def test_h2c_alone_speaks_no_http_1(launch, origin):
    tidegate = launch(basic(origin.address, listeners=[{**CLEAR, "protocols": ["h2c"]}]))
    with tidegate.h2() as client:
        assert client.get("/").status == 200
    with tidegate.connect() as client:
        client.send(request("GET", "/no"))
        assert b" 200 " not in client.expect_gone()
    assert [one.target for one in origin.requests] == ["/"]


def test_a_unix_socket_speaks_http2_too(launch, origin, tmp_path):
    path = tmp_path / "front.sock"
    tidegate = launch(basic(origin.address, listeners=[{"name": "web", "bind": f"unix:{path}", "protocols": ["h1", "h2c"]}]))
    with open_h2(f"unix:{path}") as client:
        assert client.get("/").status == 200
    assert tidegate.logged(path="/")["proto"] == "HTTP/2.0"


def test_a_reload_may_change_what_a_listener_speaks(launch, origin):
    tidegate = launch(clear(origin.address))
    with tidegate.h2() as client:
        assert client.get("/before").status == 200
        tidegate.change(listeners=[{**CLEAR, "protocols": ["h1"]}])
        tidegate.ok("reload")
        assert client.get("/after").status == 200, "a connection that is there goes on"
    with tidegate.connect() as client:
        client.send(h2.PREFACE + h2.settings())
        expect_error(tidegate, client.response(), "method_not_implemented")


@pytest.mark.parametrize("listener,words", [
    ({"protocols": ["h2"]}, ["h2c"]), ({"protocols": ["h3"]}, ["protocols", "h3"]), ({"protocols": []}, ["protocols"]),
    ({"protocols": ["h1", "h1"]}, ["twice"]), ({"protocols": ["h2c"], "tls": {}}, ["h2"])])
def test_check_names_protocols_that_cannot_be(launch, origin, pair, listener, words):
    tidegate = launch(basic(origin.address))
    tidegate.write(basic(origin.address, listeners=[{"name": "web", "bind": "127.0.0.1:0", **listener}],
                         certificates=[pair.entry()]))
    outcome = tidegate.cli("check", str(tidegate.config_path))
    assert outcome.code == 78 and all(word in outcome.text for word in words), outcome.text


def test_settings_of_the_server_are_sane(launch, origin):
    with launch(clear(origin.address)).h2() as client:
        assert isinstance(client, H2)
        assert 100 <= client.peer[h2.MAX_CONCURRENT_STREAMS] <= 1000, "RFC 9113 section 6.5.2: not smaller than 100"
        assert client.peer[h2.ENABLE_CONNECT_PROTOCOL] == 1
        assert client.peer[h2.MAX_FRAME_SIZE] == 16384
        assert 16384 <= client.peer[h2.MAX_HEADER_LIST_SIZE] <= 2**20
        assert client.peer.get(h2.NO_RFC7540_PRIORITIES, 1) == 1


def test_connections_and_streams_are_counted(launch, origin):
    tidegate = launch(clear(origin.address))
    for _ in range(2):
        with tidegate.h2() as client:
            for _ in range(3):
                assert client.get("/").status == 200
            client.leave(client.ask("/left"))
            client.roundtrip()
    with tidegate.connect() as client:
        assert client.get("/").status == 200
    until(lambda: tidegate.counters()["connections_active"] == 0, "the end of all connections")
    counters = tidegate.counters()
    assert (counters["h2_connections"], counters["h2_streams"], counters["h2_streams_reset"]) == (2, 8, 2), counters
    assert counters["connections_accepted"] == 3 and counters["responses_2xx"] >= 7


def test_each_stream_has_its_line_in_the_log(launch, origin):
    tidegate = launch(clear(origin.address))
    with tidegate.h2() as client:
        for number in range(3):
            assert client.get(f"/{number}", body=b"b" * 1000, method="POST").status == 200
        port = client.port
    lines = [tidegate.logged(path=f"/{number}") for number in range(3)]
    assert len({line["id"] for line in lines}) == 3 and {line["peer"] for line in lines} == {f"127.0.0.1:{port}"}
    for line in lines:
        assert line["bytes_in"] >= 1000 and line["bytes_out"] >= 6 and line["method"] == "POST" and line["status"] == 200, line
        assert "reason" not in line and line["proto"] == "HTTP/2.0" and line["upstream_status"] == 200


def test_a_preface_that_does_not_come_is_not_waited_for(launch, origin):
    """RFC 9113 section 3.4: the client speaks first, the preface and its SETTINGS."""
    tidegate = launch(basic(origin.address, listeners=[{"name": "web", "bind": "127.0.0.1:0", "protocols": ["h2c"]}],
                            timeouts={"request_head": "300ms"}))
    with tidegate.connect() as silent:
        silent.expect_gone()
    assert tidegate.logged(reason="h2_preface_timeout")["proto"] == "HTTP/2.0"
