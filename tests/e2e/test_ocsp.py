"""OCSP responses from files: stapled for clients that ask, not when they would be refused, new ones by a reload."""

import re
import subprocess

import pytest

from support.certificates import issue, make_ocsp, make_pair
from support.daemon import basic
from support.wait import until


@pytest.fixture
def pki(tmp_path):
    ca = make_pair(tmp_path, "ca")
    site = issue(tmp_path, "a.example", ca, usage="serverAuth")
    chain = tmp_path / "chain.pem"
    chain.write_text(site.cert.read_text() + ca.cert.read_text())
    return {"ca": ca, "site": site, "chain": chain, "folder": tmp_path}


def stapling(origin, pki, ocsp):
    return basic(origin.address, listeners=[{"name": "web", "bind": "127.0.0.1:0", "tls": {}}], certificates=[
        {"cert": str(pki["chain"]), "key": {"file": str(pki["site"].key)}, "ocsp": str(ocsp)}])


def stapled(tidegate, *options):
    """What openssl, as a client, says of the OCSP response that it got."""
    done = subprocess.run(["openssl", "s_client", "-connect", tidegate.addresses()[0], "-servername", "a.example", "-status", *options],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=30)
    if "OCSP response: no response sent" in done.stdout:
        return None
    return re.search("Cert Status: (.*)", done.stdout).group(1)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_response_is_stapled(launch, origin, pki, version):
    tidegate = launch(stapling(origin, pki, make_ocsp(pki["folder"], "good", pki["ca"], pki["site"])))
    assert stapled(tidegate, version) == "good"


def test_a_response_that_would_do_harm_is_not_sent(launch, origin, pki):
    other = issue(pki["folder"], "b.example", pki["ca"], usage="serverAuth")
    foreign = make_ocsp(pki["folder"], "foreign", pki["ca"], pki["site"], about=other)
    tidegate = launch(stapling(origin, pki, foreign))
    assert stapled(tidegate) is None
    until(lambda: "foreign.ocsp: the OCSP response is about another certificate, and is not sent" in tidegate.stderr,
          "the log to say why")
    revoked = make_ocsp(pki["folder"], "revoked", pki["ca"], pki["site"], status="R")
    tidegate.write(stapling(origin, pki, revoked))
    outcome = tidegate.ok("check", tidegate.config_path)
    assert "revoked.ocsp: the OCSP response says that the certificate is revoked, and is not sent" in outcome.text
    tidegate.ok("reload")
    assert stapled(tidegate) is None


def test_a_reload_takes_a_new_response(launch, origin, pki):
    ocsp = pki["folder"] / "site.ocsp"
    ocsp.write_bytes(make_ocsp(pki["folder"], "old", pki["ca"], pki["site"], status="R").read_bytes())
    tidegate = launch(stapling(origin, pki, ocsp))
    assert stapled(tidegate) is None
    ocsp.write_bytes(make_ocsp(pki["folder"], "new", pki["ca"], pki["site"]).read_bytes())
    said = tidegate.ok("reload").text
    assert "site.ocsp has another OCSP response" in said, said
    assert stapled(tidegate) == "good"
    ocsp.write_bytes(b"0broken")
    outcome = tidegate.cli("reload")
    assert outcome.code != 0 and "site.ocsp: is no OCSP response in DER" in outcome.text, outcome.text
    assert stapled(tidegate) == "good"


def test_an_upgrade_keeps_stapling(launch, origin, pki):
    tidegate = launch(stapling(origin, pki, make_ocsp(pki["folder"], "good", pki["ca"], pki["site"])))
    tidegate.ok("upgrade", "--force")
    assert stapled(tidegate) == "good"
