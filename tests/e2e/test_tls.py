"""TLS towards clients: handshakes, certificates by name, reloads, and what `check` says about certificates."""

import os
import signal
import ssl
import subprocess

import pytest

from support.certificates import TlsClient, make_pair, trusting
from support.client import request
from support.daemon import basic
from support.wait import duration, stays, until

MIB = 1 << 20
FAILED, TIMEOUT, EVICTED = "tls_handshake_failed", "tls_handshake_timeout", "tls_handshake_evicted"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    return {"a": make_pair(folder, "a.example"), "b": make_pair(folder, "b.example", "*.b.example", "b.example"),
            "rsa": make_pair(folder, "a-rsa", "a.example", kind="rsa"), "next": make_pair(folder, "next", "a.example")}


def secure(origin, *entries, tls=None, **changes):
    """A configuration with one TLS listener."""
    return basic(origin.address, listeners=[{"name": "web", "bind": "127.0.0.1:0", "tls": tls or {}}],
                 certificates=list(entries), **changes)


def open_tls(tidegate, context, name="a.example", **options):
    return TlsClient(tidegate.addresses()[0], context, name, **options)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_requests_are_served_over_tls(launch, origin, pairs, version):
    tidegate = launch(secure(origin, pairs["a"].entry()))
    with open_tls(tidegate, trusting(pairs["a"], version=version, alpn=["http/1.1"])) as client:
        assert client.sock.selected_alpn_protocol() == "http/1.1"
        for _ in range(3):
            assert client.get("/").status == 200
    fields = origin.requests[0].fields
    assert ("X-Forwarded-Proto", "https") in [tuple(field) for field in fields], fields
    assert tidegate.logged(path="/")["tls"] == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
    until(lambda: tidegate.counters()["tls_handshakes"] == 1, "one handshake counted")


def test_large_bodies_pass_in_both_directions(launch, origin, pairs):
    origin.handler = lambda peer, got: peer.answer(body=got.body)
    tidegate = launch(secure(origin, pairs["a"].entry()))
    body = os.urandom(5 * MIB)
    with open_tls(tidegate, trusting(pairs["a"])) as client:
        client.send(request("POST", "/", body=body))
        assert client.response().body == body
        assert client.get("/").status == 200


def test_a_certificate_is_chosen_by_name(launch, origin, pairs):
    tidegate = launch(secure(origin, pairs["a"].entry(), pairs["b"].entry()))
    context = trusting(pairs["a"], pairs["b"])
    for name, subject in (("a.example", "a.example"), ("www.b.example", "*.b.example"), ("b.example", "*.b.example"),
                          ("A.EXAMPLE", "a.example")):
        with open_tls(tidegate, context, name) as client:
            assert client.subject == subject
    context.check_hostname = False
    for name in ("other.example", "x.www.b.example", None):
        with open_tls(tidegate, context, name) as client:
            assert client.subject == "a.example", "the first is for the others"


def test_a_name_may_have_a_certificate_of_each_kind(launch, origin, pairs):
    tidegate = launch(secure(origin, pairs["a"].entry(), pairs["rsa"].entry()))
    for algorithms, pair in (("ECDHE-ECDSA-AES128-GCM-SHA256", "a"), ("ECDHE-RSA-AES128-GCM-SHA256", "rsa")):
        context = trusting(pairs[pair], version=ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(algorithms)
        with open_tls(tidegate, context) as client:
            assert client.sock.cipher()[0] == algorithms


def test_the_modern_profile_speaks_1_3_only(launch, origin, pairs):
    tidegate = launch(secure(origin, pairs["a"].entry(), tls={"profile": "modern"}))
    with open_tls(tidegate, trusting(pairs["a"])) as client:
        assert client.sock.version() == "TLSv1.3" and client.get("/").status == 200
    with pytest.raises(ssl.SSLError):
        open_tls(tidegate, trusting(pairs["a"], version=ssl.TLSVersion.TLSv1_2))
    until(lambda: tidegate.counters()["tls_handshakes_failed"] == 1, "one failed handshake counted")


def test_what_is_no_handshake_is_closed(launch, origin, pairs):
    tidegate = launch(secure(origin, pairs["a"].entry(), logging={"level": "debug"}))
    with tidegate.connect() as client:
        client.send(request("GET", "/"))
        assert b"HTTP" not in client.expect_gone()
    with pytest.raises(ssl.SSLError):
        open_tls(tidegate, trusting(pairs["a"], alpn=["h3"]))
    until(lambda: tidegate.counters()["tls_handshakes_failed"] == 2, "two failed handshakes counted")
    until(lambda: tidegate.stderr.count(FAILED) == 2, "both told in the log")
    assert "http request" in tidegate.stderr and not origin.requests
    with open_tls(tidegate, trusting(pairs["a"])) as client:
        assert client.get("/").status == 200


def test_a_handshake_has_its_time(launch, origin, pairs):
    tidegate = launch(secure(origin, pairs["a"].entry(), timeouts={"tls_handshake": duration(0.3)}, logging={"level": "debug"}))
    with tidegate.connect() as silent, open_tls(tidegate, trusting(pairs["a"])) as client:
        silent.expect_gone()
        assert client.get("/").status == 200, "once it is over the time is of no consequence"
    until(lambda: tidegate.counters()["tls_handshakes_failed"] == 1, "one failed handshake counted")
    until(lambda: TIMEOUT in tidegate.stderr, "the log tells it")


class Hands:
    """A client whose octets the test carries."""

    def __init__(self, tidegate, context, name="a.example"):
        self.raw = tidegate.connect()
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)

    def until_done(self, step):
        """Repeats `step` with what the server says until OpenSSL has enough."""
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                done = None
            self.raw.send(self.outgoing.read())
            if done is not None:
                return done
            self.incoming.write(self.raw.some())

    def handshake(self):
        return self.until_done(lambda: self.tls.do_handshake() or True)


def test_a_stop_lets_a_handshake_and_its_request_end(launch, origin, pairs):
    tidegate = launch(secure(origin, pairs["a"].entry(), timeouts={"request_head": "10s"}))
    hands = Hands(tidegate, trusting(pairs["a"]))
    with hands.raw:
        with pytest.raises(ssl.SSLWantReadError):
            hands.tls.do_handshake()
        hello = hands.outgoing.read()
        hands.raw.send(hello[:100])
        until(lambda: [each["state"] for each in tidegate.ok("conns", "--json").json["connections"]] == ["handshake"],
              "the handshake to have begun")
        tidegate.signal(signal.SIGTERM)
        until(lambda: any("STOPPING=1" in line for line in tidegate.notify.lines()), "the stop to begin")
        hands.raw.send(hello[100:])
        hands.handshake()
        hands.tls.write(request("GET", "/"))
        answer = hands.until_done(lambda: hands.tls.read(65536))
        assert answer.startswith(b"HTTP/1.1 200 ") and b"connection: close" in answer.lower(), answer
    assert tidegate.wait_exit() == 0


def test_handshakes_have_their_own_time_and_not_that_of_a_request(launch, origin, pairs):
    tidegate = launch(secure(origin, pairs["a"].entry(), timeouts={"request_head": "300ms", "keepalive": "300ms"},
                             logging={"level": "debug"}))
    hands = Hands(tidegate, trusting(pairs["a"]))
    with hands.raw, tidegate.connect() as silent:
        stays(lambda: tidegate.counters()["tls_handshakes_failed"] == 0, "a handshake that is waited for", 0.6)
        hands.handshake()
        # Nothing comes with it, and it is counted all the same.
        until(lambda: tidegate.counters()["tls_handshakes"] == 1, "the handshake counted")
        # From here the request has its time.
        hands.raw.expect_gone()
        assert tidegate.counters()["tls_handshakes_failed"] == 0
        silent.close()
    until(lambda: tidegate.counters()["tls_handshakes_failed"] == 1, "the one that never began counted")


def test_above_the_bound_the_oldest_handshake_is_ended(launch, origin, pairs):
    tidegate = launch(secure(origin, pairs["a"].entry(), limits={"max_handshakes": 2}, logging={"level": "debug"}))
    with tidegate.connect() as first, (hands := Hands(tidegate, trusting(pairs["a"]))).raw:
        until(lambda: len(tidegate.ok("conns", "--json").json["connections"]) == 2, "two handshakes under way")
        with open_tls(tidegate, trusting(pairs["a"])) as client:
            first.expect_gone()
            assert client.get("/").status == 200
        hands.handshake()
    counters = tidegate.counters()
    assert (counters["tls_handshakes_evicted"], counters["tls_handshakes_failed"]) == (1, 1), counters
    until(lambda: EVICTED in tidegate.stderr, "the log tells it")


def test_keys_are_shown_to_nobody(launch, origin, pairs, tmp_path):
    key = pairs["a"].key.read_text().splitlines()[1]
    tidegate = launch(secure(origin, pairs["a"].entry(), logging={"level": "debug"}))
    shown = [tidegate.ok("status", "--json").out, tidegate.ok("check", "--print", tidegate.config_path).out]
    tidegate.write(secure(origin, pairs["next"].entry(), logging={"level": "debug"}))
    shown.append(tidegate.ok("reload", "--json").out)
    tidegate.write(secure(origin, {**pairs["a"].entry(), "key": {"file": str(pairs["b"].key)}}))
    rejected = tidegate.cli("reload", "--json")
    assert rejected.code in (1, 78) and "another certificate" in rejected.text
    checked = tidegate.cli("check", "--json", tidegate.config_path)
    shown += [rejected.text, checked.text, tidegate.ok("conns", "--json").out, tidegate.stderr]
    keys = [key, pairs["next"].key.read_text().splitlines()[1], pairs["b"].key.read_text().splitlines()[1]]
    for text in shown:
        assert "PRIVATE KEY" not in text and not [one for one in keys if one in text], text


def test_a_reload_says_what_changed_in_the_files(launch, origin, tmp_path):
    pair = make_pair(tmp_path, "site", "a.example")
    tidegate = launch(secure(origin, pair.entry()))
    make_pair(tmp_path, "site", "a.example")
    told = tidegate.ok("reload").text
    assert f"{pair.cert} has another certificate" in told and f"{pair.key} has another key" in told, told
    assert "nothing to do" in tidegate.ok("reload").text


def test_a_certificate_that_hides_another_is_told(launch, origin, pairs):
    tidegate = launch(secure(origin, pairs["a"].entry(), pairs["next"].entry()))
    text = f"{pairs['next'].cert}: it is never served for a.example: {pairs['a'].cert} is"
    until(lambda: text in tidegate.stderr, "the warning in the log")
    assert text in tidegate.ok("check", tidegate.config_path).text


def test_a_session_is_resumed(launch, origin, pairs):
    tidegate = launch(secure(origin, pairs["a"].entry()))
    context = trusting(pairs["a"])
    with open_tls(tidegate, context) as client:
        assert client.get("/").status == 200
        session = client.sock.session
    with open_tls(tidegate, context, session=session) as client:
        assert client.sock.session_reused and client.get("/").status == 200
    until(lambda: tidegate.counters()["tls_resumed"] == 1, "one resumed handshake counted")


def test_a_reload_brings_a_new_certificate_and_touches_no_connection(launch, origin, pairs, tmp_path):
    cert, key = tmp_path / "site.pem", tmp_path / "site.key"

    def install(pair):
        cert.write_bytes(pair.cert.read_bytes())
        key.write_bytes(pair.key.read_bytes())
        key.chmod(0o600)
    install(pairs["a"])
    tidegate = launch(secure(origin, {"cert": str(cert), "key": {"file": str(key)}}))
    with open_tls(tidegate, trusting(pairs["a"])) as client:
        assert client.get("/").status == 200
        install(pairs["next"])
        said = tidegate.ok("reload").text
        assert "site.pem has another certificate" in said, said
        assert client.get("/").status == 200
    with open_tls(tidegate, trusting(pairs["next"])) as client:
        assert client.get("/").status == 200
    # A broken pair keeps the old one and says so.
    key.write_bytes(pairs["a"].key.read_bytes())
    outcome = tidegate.cli("reload")
    assert outcome.code != 0 and "site.pem" in outcome.text and "key" in outcome.text, outcome.text
    with open_tls(tidegate, trusting(pairs["next"])) as client:
        assert client.get("/").status == 200


def test_an_upgrade_keeps_serving_over_tls(launch, origin, pairs):
    tidegate = launch(secure(origin, pairs["a"].entry()))
    context = trusting(pairs["a"])
    with open_tls(tidegate, context) as old:
        assert old.get("/").status == 200
        tidegate.ok("upgrade", "--force", "--detach")
        last = old.get("/")
        assert last.status == 200
        with open_tls(tidegate, context) as new:
            assert new.get("/").status == 200
    tidegate.wait_generations(1)
    with open_tls(tidegate, context) as client:
        assert client.get("/").status == 200


def test_a_clean_close_is_announced(launch, origin, pairs):
    tidegate = launch(secure(origin, pairs["a"].entry(), timeouts={"keepalive": "200ms"}))
    context = trusting(pairs["a"])
    with open_tls(tidegate, context) as client:
        assert client.get("/").status == 200
        # suppress_ragged_eofs: an end without close_notify would be an error.
        client.sock.suppress_ragged_eofs = False
        assert client.sock.recv(1) == b""


def test_curl_is_served(launch, origin, pairs):
    tidegate = launch(secure(origin, pairs["a"].entry()))
    host, _, port = tidegate.addresses()[0].rpartition(":")
    done = subprocess.run(["curl", "-sS", "--http1.1", "--cacert", pairs["a"].cert, "--resolve", f"a.example:{port}:{host}",
                           "-o", os.devnull, "-w", "%{http_code} %{ssl_verify_result}", f"https://a.example:{port}/"],
                          capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "200 0", done.stderr


# What check says.

def checked(tidegate, config):
    tidegate.write(config)
    return tidegate.cli("check", str(tidegate.config_path))


def test_check_names_a_key_that_does_not_fit(launch, origin, pairs):
    tidegate = launch(secure(origin, pairs["a"].entry()))
    wrong = {"cert": str(pairs["a"].cert), "key": {"file": str(pairs["b"].key)}}
    outcome = checked(tidegate, secure(origin, wrong))
    assert outcome.code == 78 and str(pairs["a"].cert) in outcome.text and "key" in outcome.text, outcome.text


def test_check_names_files_that_cannot_be_used(launch, origin, pairs, tmp_path):
    tidegate = launch(secure(origin, pairs["a"].entry()))
    secret = tmp_path / "secret.key"
    subprocess.run(["openssl", "pkey", "-in", pairs["a"].key, "-aes256", "-passout", "pass:x", "-out", secret],
                   check=True, capture_output=True)
    for entry, words in (
            ({"cert": str(tmp_path / "none.pem"), "key": {"file": str(pairs["a"].key)}}, ["none.pem", "No such file"]),
            ({"cert": str(pairs["a"].cert), "key": {"file": str(secret)}}, ["secret.key", "pass phrase"]),
            ({"cert": str(pairs["a"].key), "key": {"file": str(pairs["a"].key)}}, ["no certificate"]),
            ({"cert": str(pairs["a"].cert), "key": {"file": str(pairs["a"].cert)}}, ["no private key"])):
        outcome = checked(tidegate, secure(origin, entry))
        assert outcome.code == 78 and all(word in outcome.text for word in words), outcome.text
    outcome = checked(tidegate, secure(origin))
    assert outcome.code == 78 and "TLS without a certificate" in outcome.text, outcome.text


def test_check_warns_of_dates_and_of_keys_that_everybody_can_read(launch, origin, pairs, tmp_path):
    tidegate = launch(secure(origin, pairs["a"].entry()))
    soon = make_pair(tmp_path, "soon", "soon.example", valid=("-days", "3"))
    soon.key.chmod(0o644)
    outcome = checked(tidegate, secure(origin, soon.entry()))
    assert outcome.code == 0 and "soon.pem" in outcome.text and "soon.key" in outcome.text, outcome.text


def test_nobody_is_shown_a_key(launch, origin, pairs):
    tidegate = launch(secure(origin, pairs["a"].entry()))
    secret = pairs["a"].key.read_text().splitlines()[1]
    for command in (["check", "--print"], ["check", "--print", "--json"], ["status"], ["status", "--json"]):
        arguments = [*command, str(tidegate.config_path)] if command[0] == "check" else command
        outcome = tidegate.cli(*arguments)
        assert outcome.code == 0 and secret not in outcome.text and "BEGIN" not in outcome.text
    assert secret not in tidegate.stderr
