"""`tidegate cert list` and `cert check`: what is served, and what could be."""

import datetime
import json
import os
import re
import signal
import subprocess

import pytest

from support import processes
from support.certificates import issue, make_ocsp, make_pair
from support.daemon import basic
from support.wait import until


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    ca = make_pair(folder, "ca")
    return {"ca": ca, "site": make_pair(folder, "a.example", "a.example", "www.a.example", "b.example"), "folder": folder,
            "rsa": make_pair(folder, "rsa", "a.example", kind="rsa", valid=("-days", "3")),
            "leaf": issue(folder, "leaf", ca, usage="serverAuth", subject="/CN=leaf")}


def secure(origin, *entries, **changes):
    return basic(origin.address, listeners=[{"name": "web", "bind": "127.0.0.1:0", "tls": {}}], certificates=list(entries), **changes)


def test_list_shows_what_is_in_force(launch, origin, pki):
    ocsp = make_ocsp(pki["folder"], "leaf", pki["ca"], pki["leaf"])
    tidegate = launch(secure(origin, pki["site"].entry(), pki["rsa"].entry(), {**pki["leaf"].entry(), "ocsp": str(ocsp)}, workers=2))
    told = tidegate.ok("cert", "list", "--json").json
    assert told["schema_version"] == 1 and told["exit_code"] == 0 and told["watched"] is False
    site, rsa, leaf = told["certificates"]
    assert site["file"] == str(pki["site"].cert) and site["hosts"] == ["a.example", "www.a.example", "b.example"]
    assert (site["kind"], rsa["kind"]) == ("ECDSA P-256", "RSA 2048")
    assert (site["days_left"], rsa["days_left"]) == (89, 2) and leaf["issuer"] == "CN=ca"
    end = datetime.datetime.fromisoformat(site["not_after"].replace("Z", "+00:00"))
    assert abs((end - datetime.datetime.now(datetime.timezone.utc)).days - 89) <= 1
    assert leaf["ocsp"]["sent"] is True and leaf["ocsp"]["file"] == str(ocsp) and "ocsp" not in site
    text = tidegate.ok("cert", "list").out
    assert re.search(r"a\.example \+2 +ECDSA P-256 +\d{4}-\d\d-\d\d +89 ", text), text
    assert re.search(r"leaf +ECDSA P-256 .* stapled ", text) and text.endswith("\n3 certificates\n"), text
    assert "a.example,www.a.example,b.example" in tidegate.ok("cert", "list", "-v").out


def test_list_follows_a_reload(launch, origin, pki):
    tidegate = launch(secure(origin, pki["site"].entry()))
    tidegate.write(secure(origin, pki["leaf"].entry(), watch=True))
    tidegate.ok("reload")
    text = tidegate.ok("cert", "list").out
    assert str(pki["leaf"].cert) in text and text.endswith("1 certificate, loaded when their files change\n"), text
    assert "PRIVATE KEY" not in tidegate.ok("cert", "list", "--json").out


def test_status_shows_them_too(launch, origin, pki):
    tidegate = launch(secure(origin, pki["site"].entry(), pki["rsa"].entry(), workers=2))
    told = tidegate.status()
    site, rsa = told["certificates"]
    assert site == {"file": str(pki["site"].cert), "hosts": ["a.example", "www.a.example", "b.example"], "days_left": 89,
                    "not_after": site["not_after"]}
    assert rsa["days_left"] == 2 and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", rsa["not_after"])
    text = tidegate.ok("status").out
    assert re.search(r"CERTIFICATE +NOT AFTER +DAYS\na\.example +\d{4}-\d\d-\d\d +2\na\.example \+2 +\S+ +89\n", text), text
    one = tidegate.ok("status", "b.example", "--json").json
    assert [each["file"] for each in one["certificates"]] == [str(pki["site"].cert)] and not one["listeners"]
    # All of the daemon: one that hangs does not hide them.
    os.kill(tidegate.workers()[1], signal.SIGSTOP)
    try:
        hung = tidegate.cli("status", "--json")
        assert hung.code == 3 and len(hung.json["certificates"]) == 2
    finally:
        os.kill(tidegate.workers()[1], signal.SIGCONT)


def test_a_worker_that_dies_does_not_speak_for_the_others(launch, origin, pki):
    """The question is with both when one of them dies."""
    tidegate = launch(secure(origin, pki["site"].entry(), workers=2))
    dying, living = tidegate.workers()
    for worker in (dying, living):
        os.kill(worker, signal.SIGSTOP)
    try:
        command = [str(tidegate.bin_dir / "tidegate"), "cert", "list", "--json", "--socket", str(tidegate.socket_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=tidegate.environment()) as asking:
            until(lambda: any("socket:" in target for target in processes.descriptors(asking.pid).values()), "the question")
            os.kill(dying, signal.SIGKILL)
            until(lambda: dying not in tidegate.processes(), "the supervisor to notice")
            os.kill(living, signal.SIGCONT)
            told = json.loads(asking.stdout.read())
    finally:
        os.kill(living, signal.SIGCONT)
    assert told["exit_code"] == 0 and len(told["certificates"]) == 1, told


def test_without_certificates_there_are_none(launch, origin):
    tidegate = launch(basic(origin.address))
    assert tidegate.ok("cert", "list").out == "0 certificates\n"
    assert tidegate.ok("cert", "check", "-c", tidegate.config_path).out.endswith(": valid: 0 certificates\n")


def test_check_needs_no_daemon_and_names_what_is_wrong(launch, origin, pki, tmp_path):
    tidegate = launch(secure(origin, pki["site"].entry()))
    good = tidegate.ok("cert", "check", "-c", tidegate.config_path)
    assert good.out == f"{tidegate.config_path}: valid: 1 certificate\n" and not good.err
    # A warning of something else is somebody else's.
    tidegate.write(secure(origin, pki["rsa"].entry(), limits={"max_url_bytes": "64KiB"}))
    warned = tidegate.ok("cert", "check", "-c", tidegate.config_path)
    assert "rsa.pem: the certificate a.example expires on" in warned.err and "max_url_bytes" not in warned.err
    tidegate.write(secure(origin, {"cert": str(pki["site"].cert), "key": {"file": str(pki["leaf"].key)}}))
    broken = tidegate.cli("cert", "check", "-c", tidegate.config_path)
    assert broken.code == 78 and "the key belongs to another certificate" in broken.err and not broken.out
    broken = tidegate.cli("cert", "check", "--json", "-c", tidegate.config_path)
    assert broken.code == 78 and broken.json["valid"] is False and broken.json["diagnostics"][0]["severity"] == "error"
    tidegate.write(secure(origin, {"cert": str(tmp_path / "none.pem"), "key": {"file": str(pki["leaf"].key)}}))
    broken = tidegate.cli("cert", "check", "-c", tidegate.config_path)
    assert broken.code == 78 and "none.pem: No such file or directory" in broken.err


def test_a_thousand_certificates_are_listed(launch, origin, pki, tmp_path):
    entries = []
    for number in range(1000):
        cert = tmp_path / f"{number}.pem"
        cert.symlink_to(pki["site"].cert)
        entries.append({"hosts": ["a.example"], "cert": str(cert), "key": {"file": str(pki["site"].key)}})
    tidegate = launch(secure(origin, *entries))
    assert len(tidegate.ok("cert", "list", "--json").json["certificates"]) == 1000
