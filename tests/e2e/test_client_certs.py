"""Certificates of clients: who is served, what the origin is told, and that nobody can tell it something else."""

import base64
import ssl
import subprocess
import threading

import pytest

from support.certificates import TlsClient, issue, make_pair, trusting
from support.client import request
from support.daemon import basic
from support.errors import TABLE, expect_error, expect_line
from support.h2 import open_h2
from support.wait import until

VERIFY, SUBJECT, CERT = "X-Client-Cert-Verify", "X-Client-Cert-Subject", "Client-Cert"
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pki")
    ca, other = make_pair(folder, "ca"), make_pair(folder, "other-ca")
    return {"site": make_pair(folder, "a.example"), "ca": ca, "other-ca": other, "folder": folder,
            "ann": issue(folder, "ann", ca, subject="/O=Example/CN=Ann"), "eve": issue(folder, "eve", other),
            "server": issue(folder, "server", ca, usage="serverAuth"),
            "odd": issue(folder, "odd", ca, subject="/CN=J\u00fcrgen,\"\\/X: y\\nz")}


def asking(origin, pki, *, ca="ca", **tls):
    return basic(origin.address, certificates=[pki["site"].entry()], logging={"level": "debug"}, listeners=[
        {"name": "web", "bind": "127.0.0.1:0", "tls": {"client_ca": str(pki[ca].cert), **tls}}])


def context_of(pki, own=None, version=None):
    return trusting(pki["site"], version=version, own=pki[own] if own else None)


def opened(tidegate, context, session=None, listener="web"):
    return TlsClient(tidegate.addresses(listener)[0], context, "a.example", session=session)


def told(origin, name):
    return origin.requests[-1].all(name)


def is_refused(tidegate, context, **options):
    """With TLS 1.3 the client hears of it after its side of the handshake is over."""
    try:
        with opened(tidegate, context, **options) as client:
            client.send(request())
            return client.sock.recv(1) == b""
    except (ssl.SSLError, ConnectionError):
        return True


@pytest.mark.parametrize("version", VERSIONS)
def test_a_required_certificate_is_required(launch, origin, pki, version):
    tidegate = launch(asking(origin, pki))
    with opened(tidegate, context_of(pki, "ann", version)) as client:
        assert client.get("/").status == 200
    for own, reason in ((None, "peer did not return a certificate"), ("eve", "unable to get local issuer certificate"),
                        ("server", "unsuitable certificate purpose")):
        assert is_refused(tidegate, context_of(pki, own, version))
        until(lambda reason=reason: reason in tidegate.stderr, f"the log to say: {reason}")
    assert len(origin.requests) == 1
    until(lambda: tidegate.counters()["tls_handshakes_failed"] == 3, "three failed handshakes counted")
    # Nobody has asked for headers.
    assert not told(origin, VERIFY) and not told(origin, CERT)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_optional_certificate_is_told_about(launch, origin, pki, version):
    tidegate = launch(asking(origin, pki, client_auth="optional", client_headers=True))
    for own, verify in (("ann", "SUCCESS"), (None, "NONE"), ("eve", "FAILED:unable to get local issuer certificate"),
                        ("server", "FAILED:unsuitable certificate purpose")):
        with opened(tidegate, context_of(pki, own, version)) as client:
            assert client.get("/").status == 200
        assert told(origin, VERIFY) == [verify]
        assert bool(told(origin, SUBJECT)) == bool(told(origin, CERT)) == (own == "ann")
    with opened(tidegate, context_of(pki, "ann", version)) as client:
        assert client.get("/").status == 200
    assert told(origin, SUBJECT) == ["CN=Ann,O=Example"]
    der = ssl.PEM_cert_to_DER_cert(pki["ann"].cert.read_text())
    assert told(origin, CERT) == [":" + base64.b64encode(der).decode() + ":"]


def test_a_subject_cannot_end_a_line(launch, origin, pki):
    tidegate = launch(asking(origin, pki, client_headers=True))
    with opened(tidegate, context_of(pki, "odd")) as client:
        assert client.get("/").status == 200
    subject, = told(origin, SUBJECT)
    assert subject.startswith("CN=J\\C3\\BCrgen\\,\\\"") and subject.isascii() and subject.isprintable(), subject


@pytest.mark.parametrize("own, verify", [("ann", ["SUCCESS"]), (None, ["NONE"])])
def test_what_a_client_says_itself_is_dropped(launch, origin, pki, own, verify):
    tidegate = launch(asking(origin, pki, client_auth="optional", client_headers=True))
    forged = [f"{name}: SUCCESS" for name in (VERIFY, "x_client_cert_verify", "X-Client_Cert-Verify", "X-Client-Cert-Fingerprint")]
    forged += [f"{SUBJECT}: CN=root", f"{CERT}: :AAAA:", "Client_Cert: :AAAA:", "Client-Cert-Chain: :AAAA:",
               f"Connection: {VERIFY}, {CERT}", "Client-Certainly: kept"]
    with opened(tidegate, context_of(pki, own)) as client:
        client.send(request("GET", "/", *forged))
        assert client.response().status == 200
    names = [name for name in origin.requests[-1].names() if "client" in name]
    ours = ["x-client-cert-verify"] + (["x-client-cert-subject", "client-cert"] if own else [])
    assert sorted(names) == sorted(ours + ["client-certainly"])
    assert told(origin, VERIFY) == verify


def test_names_are_dropped_on_other_listeners_too(launch, origin, pki):
    config = asking(origin, pki, client_headers=True)
    config["listeners"].append({"name": "plain", "bind": "127.0.0.1:0", "trusted_proxies": ["127.0.0.0/8"]})
    tidegate = launch(config)
    forged = [f"{VERIFY}: SUCCESS", f"{CERT}: :AAAA:"]
    with tidegate.connect("plain") as client:
        assert client.get("/", *forged).status == 200
        assert not told(origin, VERIFY) and not told(origin, CERT)
        # A listener that is gone from the configuration has connections still.
        config["listeners"].pop()
        tidegate.write(config)
        tidegate.ok("reload")
        assert client.get("/", *forged).status == 200
        assert not told(origin, VERIFY) and not told(origin, CERT)
    # Where nobody asks for them they are fields like others.
    config["listeners"] = [{"name": "plain", "bind": "127.0.0.1:0"}]
    config["certificates"] = []
    tidegate = launch(config)
    with tidegate.connect("plain") as client:
        assert client.get("/", *forged).status == 200
        assert told(origin, VERIFY) == ["SUCCESS"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_resumed_session_keeps_its_certificate(launch, origin, pki, version):
    tidegate = launch(asking(origin, pki, client_headers=True))
    context = context_of(pki, "ann", version)
    with opened(tidegate, context) as client:
        assert client.get("/").status == 200
        session = client.sock.session
    with opened(tidegate, context, session=session) as client:
        assert client.sock.session_reused and client.get("/").status == 200
    assert told(origin, SUBJECT) == ["CN=Ann,O=Example"] and told(origin, VERIFY) == ["SUCCESS"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_no_way_round_a_certificate(launch, origin, pki, version):
    config = asking(origin, pki)
    config["listeners"].append({"name": "open", "bind": "127.0.0.1:0", "tls": {}})
    config["listeners"].append({"name": "lax", "bind": "127.0.0.1:0",
                                "tls": {"client_ca": str(pki["ca"].cert), "client_auth": "optional"}})
    tidegate = launch(config)
    context = context_of(pki, None, version)
    for listener in ("open", "lax"):
        with opened(tidegate, context, listener=listener) as client:
            assert client.get("/").status == 200
            session = client.sock.session
        assert is_refused(tidegate, context, session=session)
    assert len(origin.requests) == 2


def test_a_reload_with_another_authority_ends_old_sessions(launch, origin, pki):
    tidegate = launch(asking(origin, pki, client_headers=True))
    context = context_of(pki, "ann")
    with opened(tidegate, context) as client:
        assert client.get("/").status == 200
        session = client.sock.session
        tidegate.write(asking(origin, pki, ca="other-ca", client_headers=True))
        said = tidegate.ok("reload").text
        assert "client_ca" in said, said
        misdirected(tidegate, client.get("/"))
        assert client.sock.recv(1) == b"", "it was told to come again, and the connection ends"
    assert is_refused(tidegate, context, session=session)
    with opened(tidegate, context_of(pki, "eve")) as client:
        assert client.get("/").status == 200


def misdirected(tidegate, answer):
    return expect_error(tidegate, answer, "client_verification_changed", closes=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_reload_that_demands_a_certificate_reaches_open_connections(launch, origin, pki, version):
    """Who has shown a good one goes on; who has none is sent to a new handshake, with what it sends along."""
    tidegate = launch(asking(origin, pki, client_auth="optional", client_headers=True))
    ann, eve, nobody, poster = clients = [opened(tidegate, context_of(pki, own, version)) for own in ("ann", "eve", None, None)]
    for client in clients:
        assert client.get("/").status == 200
    tidegate.write(asking(origin, pki, client_headers=True))
    tidegate.ok("reload")
    served = len(origin.requests)
    for client in (eve, nobody):
        misdirected(tidegate, client.get("/"))
    poster.send(request("POST", "/", "Content-Length: 5") + b"01234")
    misdirected(tidegate, poster.response())
    assert len(origin.requests) == served, "nobody unverified reaches the origin"
    assert ann.get("/").status == 200 and told(origin, VERIFY) == ["SUCCESS"]
    # What asks for less, or for the same in another way, touches nobody.
    for less in ({"client_auth": "optional"}, {"hsts": "1d"}, {"profile": "modern"}):
        tidegate.write(asking(origin, pki, client_headers=True, **less))
        tidegate.ok("reload")
        assert ann.get("/").status == 200
    for client in clients:
        client.close()


def test_a_reload_that_asks_for_certificates_at_all_reaches_open_connections(launch, origin, pki):
    open_to_all = asking(origin, pki)
    open_to_all["listeners"][0]["tls"] = {}
    tidegate = launch(open_to_all)
    with opened(tidegate, context_of(pki, "ann")) as lax, opened(tidegate, context_of(pki, "ann")) as strict:
        assert lax.get("/").status == strict.get("/").status == 200
        tidegate.write(asking(origin, pki, client_auth="optional", client_headers=True))
        tidegate.ok("reload")
        assert lax.get("/").status == 200 and told(origin, VERIFY) == ["NONE"], "it was not asked, and need not have one"
        tidegate.write(asking(origin, pki))
        tidegate.ok("reload")
        misdirected(tidegate, strict.get("/"))
        tidegate.write(open_to_all)
        tidegate.ok("reload")
        assert lax.get("/").status == 200, "nobody is asked any more"


def test_an_authority_is_replaced_and_only_who_it_vouched_for_notices(launch, origin, pki, tmp_path):
    """As it is done: the next one is added, clients get new certificates, the old one goes."""
    vouching = tmp_path / "vouching.pem"
    vouching.write_bytes(pki["ca"].cert.read_bytes())

    def config(**changes):
        made = asking(origin, pki, **changes)
        made["listeners"][0]["tls"]["client_ca"] = str(vouching)
        return made
    tidegate = launch(config())
    with opened(tidegate, context_of(pki, "ann")) as ann:
        assert ann.get("/").status == 200
        vouching.write_bytes(pki["other-ca"].cert.read_bytes() + b"\n" + pki["ca"].cert.read_bytes())
        tidegate.ok("reload")
        assert ann.get("/").status == 200
        with opened(tidegate, context_of(pki, "eve")) as eve:
            assert eve.get("/").status == 200
            vouching.write_bytes(pki["other-ca"].cert.read_bytes())
            tidegate.ok("reload")
            misdirected(tidegate, ann.get("/"))
            assert eve.get("/").status == 200


def test_another_name_is_no_way_round_a_certificate(launch, origin, pki):
    open_to_all = asking(origin, pki)
    open_to_all["listeners"][0]["tls"] = {}
    tidegate = launch(open_to_all)
    with opened(tidegate, context_of(pki, "ann")) as client:
        assert client.get("/").status == 200
        renamed = asking(origin, pki)
        renamed["listeners"][0]["name"] = "renamed"
        renamed["listeners"][0]["bind"] = tidegate.addresses("web")[0]
        tidegate.write(renamed)
        tidegate.ok("reload")
        misdirected(tidegate, client.get("/"))


def test_what_a_request_that_runs_has_begun_with_stays(launch, origin, pki):
    go = threading.Event()
    origin.handler = lambda peer, got: (peer.wait(go), peer.answer())
    tidegate = launch(asking(origin, pki))
    with opened(tidegate, context_of(pki, "ann")) as client:
        client.send(request())
        until(lambda: origin.requests, "the request to be with the origin")
        tidegate.write(asking(origin, pki, ca="other-ca"))
        tidegate.ok("reload")
        go.set()
        assert client.response().status == 200
        misdirected(tidegate, client.get("/"))


def test_streams_of_http2_are_sent_to_a_new_handshake(launch, origin, pki):
    """The stream gets its answer, the connection GOAWAY; a stream that was open before ends well."""
    go = threading.Event()

    def held(peer, got):
        if got.target == "/held":
            peer.wait(go)
        peer.answer()
    origin.handler = held

    def both(**tls):
        config = asking(origin, pki, **tls)
        config["listeners"][0]["protocols"] = ["h2", "h1"]
        return config
    tidegate = launch(both())
    with open_h2(tidegate.addresses("web")[0], context=trusting(pki["site"], alpn=["h2"], own=pki["ann"])) as client:
        assert client.get("/").status == 200
        early = client.ask("/held")
        until(lambda: len(origin.requests) == 2, "the stream to be with the origin")
        tidegate.write(both(ca="other-ca"))
        tidegate.ok("reload")
        answer = client.get("/")
        assert answer.status == TABLE["client_verification_changed"].status
        expect_line(tidegate.logged(id=answer.get("x-request-id")), "client_verification_changed", status=421)
        client.until(lambda: client.goaway, "GOAWAY")
        assert client.goaway.code == 0 and client.goaway.last > early
        go.set()
        assert client.answer(early).status == 200
        client.end()


def test_headers_that_a_reload_switches_on_tell_the_truth_of_open_connections(launch, origin, pki):
    tidegate = launch(asking(origin, pki, client_auth="optional"))
    with opened(tidegate, context_of(pki, "ann")) as ann, opened(tidegate, context_of(pki)) as nobody:
        for client in (ann, nobody):
            assert client.get("/").status == 200 and not told(origin, VERIFY) and not told(origin, CERT)
        tidegate.write(asking(origin, pki, client_auth="optional", client_headers=True))
        tidegate.ok("reload")
        assert ann.get("/").status == 200
        assert told(origin, VERIFY) == ["SUCCESS"] and told(origin, SUBJECT) == ["CN=Ann,O=Example"] and told(origin, CERT)
        assert nobody.get("/").status == 200
        assert told(origin, VERIFY) == ["NONE"] and not told(origin, CERT)


def test_an_expired_certificate_is_refused(launch, origin, pki):
    expired = pki["folder"] / "late.pem"
    subprocess.run(["openssl", "req", "-new", "-key", pki["ann"].key, "-subj", "/CN=late", "-out", f"{expired}.csr"], check=True)
    subprocess.run(["openssl", "x509", "-req", "-in", f"{expired}.csr", "-CA", pki["ca"].cert, "-CAkey", pki["ca"].key,
                    "-CAcreateserial", "-days", "-1", "-out", expired], check=True, capture_output=True)
    tidegate = launch(asking(origin, pki))
    context = context_of(pki)
    context.load_cert_chain(expired, pki["ann"].key)
    assert is_refused(tidegate, context)
    until(lambda: "certificate has expired" in tidegate.stderr, "the log to say why")


def test_what_vouches_for_nobody_is_refused_by_check(launch, origin, pki, tmp_path):
    tidegate = launch(asking(origin, pki))
    broken = tmp_path / "ca.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    config = asking(origin, pki)
    config["listeners"][0]["tls"]["client_ca"] = str(broken)
    tidegate.write(config)
    outcome = tidegate.cli("reload")
    assert outcome.code != 0 and "ca.pem" in outcome.text, outcome.text
    with opened(tidegate, context_of(pki, "ann")) as client:
        assert client.get("/").status == 200
