""""watch": true: certificates that change on disk are loaded, whatever way they change, and nothing else is."""

import contextlib
import os
import shutil
import signal
from pathlib import Path

import pytest

from support.certificates import TlsClient, issue, make_ocsp, make_pair, trusting
from support.daemon import basic
from support.wait import duration, until


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    return [make_pair(folder, f"a{number}", f"a{number}.example", "a.example") for number in range(4)]


def install(pair, folder):
    """As tools do it: a new file over the old one."""
    for source, name, mode in ((pair.cert, "site.pem", 0o644), (pair.key, "site.key", 0o600)):
        fresh = folder / f".{name}.new"
        shutil.copyfile(source, fresh)
        fresh.chmod(mode)
        os.replace(fresh, folder / name)


def watching(origin, folder, **changes):
    tls = changes.pop("tls", {})
    more = changes.pop("certificate", {})
    changes.setdefault("watch", True)
    return basic(origin.address, listeners=[{"name": "web", "bind": "127.0.0.1:0", "tls": tls}], certificates=[
        {"cert": str(folder / "site.pem"), "key": {"file": str(folder / "site.key")}, **more}], **changes)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    return folder


def served(tidegate, pairs):
    """Which of the pairs new connections get."""
    context = trusting(*pairs)
    with TlsClient(tidegate.addresses()[0], context, "a.example") as client:
        return int(client.subject[1])


def watched(tidegate):
    """How many directories the supervisor watches: what the kernel knows of."""
    count = 0
    for path in Path(f"/proc/{tidegate.pid}/fdinfo").iterdir():
        # A descriptor may be closed since it was listed.
        with contextlib.suppress(FileNotFoundError):
            count += path.read_text().count("inotify wd:")
    return count


def until_served(tidegate, pairs, number):
    until(lambda: served(tidegate, pairs) == number, lambda: f"certificate {number} to be served\n{tidegate.stderr[-2000:]}")


def test_a_renewed_certificate_is_served_and_no_connection_is_touched(launch, origin, pairs, folder):
    install(pairs[0], folder)
    tidegate = launch(watching(origin, folder))
    workers = tidegate.workers()
    with TlsClient(tidegate.addresses()[0], trusting(*pairs), "a.example") as client:
        assert client.get("/").status == 200 and client.subject == "a0.example"
        for number in (1, 2):
            install(pairs[number], folder)
            until_served(tidegate, pairs, number)
        assert client.get("/").status == 200
    assert tidegate.workers() == workers and tidegate.generation == 1
    said = f"certificate files have changed, loading them: certificates: {folder}/site.pem has another certificate"
    assert said in tidegate.stderr
    # It is served before the operation has ended.
    until(lambda: tidegate.counters()["reloads_ok"] == 2, "both to be counted")


def test_files_that_are_written_into_are_noticed(launch, origin, pairs, folder):
    install(pairs[0], folder)
    tidegate = launch(watching(origin, folder))
    (folder / "site.pem").write_bytes(pairs[1].cert.read_bytes())
    (folder / "site.key").write_bytes(pairs[1].key.read_bytes())
    until_served(tidegate, pairs, 1)


def test_links_are_followed_as_kubernetes_makes_them(launch, origin, pairs, tmp_path):
    mount = tmp_path / "mount"
    for number in (0, 1, 2):
        (mount / f"..{number}").mkdir(parents=True)
        install(pairs[number], mount / f"..{number}")
    (mount / "..data").symlink_to("..0")
    for name in ("site.pem", "site.key"):
        (mount / name).symlink_to(f"..data/{name}")
    tidegate = launch(watching(origin, mount))
    for number in (1, 2):
        (mount / "..data_tmp").symlink_to(f"..{number}")
        os.replace(mount / "..data_tmp", mount / "..data")
        shutil.rmtree(mount / f"..{number - 1}")
        until_served(tidegate, pairs, number)


def test_a_folder_may_be_made_anew(launch, origin, pairs, folder):
    install(pairs[0], folder)
    tidegate = launch(watching(origin, folder))
    shutil.rmtree(folder)
    until(lambda: "No such file or directory" in tidegate.stderr, "the log to say that the files are gone")
    assert served(tidegate, pairs) == 0
    folder.mkdir()
    install(pairs[1], folder)
    until_served(tidegate, pairs, 1)


def test_a_folder_above_may_be_replaced(launch, origin, pairs, tmp_path):
    for number, release in enumerate(("current", "next")):
        (tmp_path / release / "certs").mkdir(parents=True)
        install(pairs[number], tmp_path / release / "certs")
    tidegate = launch(watching(origin, tmp_path / "current/certs"))
    (tmp_path / "current").rename(tmp_path / "old")
    (tmp_path / "next").rename(tmp_path / "current")
    until_served(tidegate, pairs, 1)
    install(pairs[2], tmp_path / "current/certs")
    until_served(tidegate, pairs, 2)


def test_a_broken_pair_keeps_the_old_one_and_is_told_once(launch, origin, pairs, folder):
    install(pairs[0], folder)
    tidegate = launch(watching(origin, folder))
    (folder / "site.key").write_bytes(pairs[1].key.read_bytes())
    until(lambda: "the key belongs to another certificate" in tidegate.stderr, "the log to tell of the key")
    assert served(tidegate, pairs) == 0
    # Not told again: after a file that is of no interest, after an operation.
    (folder / "other").write_text("x")
    tidegate.write(watching(origin, folder, logging={"level": "debug"}))
    assert tidegate.cli("reload").code != 0, "a reload reads the files too"
    told = tidegate.stderr.count("have changed, loading them")
    (folder / "site.pem").write_text("half a certi")
    until(lambda: "site.pem: has no certificate in PEM" in tidegate.stderr, "the log to tell of the certificate")
    assert tidegate.stderr.count("have changed, loading them") == told == 1
    install(pairs[1], folder)
    until_served(tidegate, pairs, 1)
    assert tidegate.counters()["reloads_failed"] >= 1


def test_an_edited_configuration_is_not_put_in_force(launch, origin, pairs, folder):
    install(pairs[0], folder)
    tidegate = launch(watching(origin, folder))
    tidegate.write(watching(origin, folder, routes=[{"name": "all", "respond": {"body": "edited"}}]))
    install(pairs[1], folder)
    until_served(tidegate, pairs, 1)
    with TlsClient(tidegate.addresses()[0], trusting(*pairs), "a.example") as client:
        assert client.get("/").body == b"hello\n"
    tidegate.write("{ half")
    install(pairs[2], folder)
    until_served(tidegate, pairs, 2)


def test_a_reload_moves_and_ends_the_watch(launch, origin, pairs, folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    install(pairs[0], folder)
    install(pairs[1], other)
    tidegate = launch(watching(origin, folder))
    levels = len((folder / "site.pem").resolve().parents)
    until(lambda: watched(tidegate) == levels, "the folder watched")
    tidegate.write(watching(origin, other))
    tidegate.ok("reload")
    # It looks again once the operation is over, and that may be after its answer.
    until(lambda: watched(tidegate) == levels, "the other folder watched")
    install(pairs[2], other)
    until_served(tidegate, pairs, 2)
    tidegate.write(watching(origin, other, watch=False))
    tidegate.ok("reload")
    until(lambda: watched(tidegate) == 0, "nothing watched")
    install(pairs[3], other)
    assert served(tidegate, pairs) == 2
    tidegate.ok("reload")
    assert served(tidegate, pairs) == 3


def test_ocsp_responses_and_authorities_are_watched_too(launch, origin, pairs, folder):
    install(pairs[0], folder)
    ca, other = make_pair(folder.parent, "ca"), make_pair(folder.parent, "other-ca")
    own = issue(folder.parent, "ann", other)
    ocsp, authority = folder / "site.ocsp", folder / "clients.pem"
    authority.write_bytes(ca.cert.read_bytes())
    ocsp.write_bytes(make_ocsp(folder.parent, "old", ca, ca).read_bytes())
    tidegate = launch(watching(origin, folder, tls={"client_ca": str(authority)}, certificate={"ocsp": str(ocsp)}))
    ocsp.write_bytes(make_ocsp(folder.parent, "new", ca, ca).read_bytes())
    until(lambda: "site.ocsp has another OCSP response" in tidegate.stderr, "the new response to be noticed")
    # A load that has been told of reads all files only then, and would take the authority along.
    until(lambda: tidegate.counters()["reloads_ok"] == 1, "the new response to be in force")
    authority.write_bytes(other.cert.read_bytes())
    until(lambda: "clients.pem has other certificates" in tidegate.stderr, "the new authority to be noticed")
    until(lambda: tidegate.counters()["reloads_ok"] == 2, "both to be in force")
    with TlsClient(tidegate.addresses()[0], trusting(*pairs, own=own), "a.example") as client:
        assert client.get("/").status == 200


def test_an_upgrade_keeps_watching(launch, origin, pairs, folder):
    install(pairs[0], folder)
    tidegate = launch(watching(origin, folder))
    tidegate.ok("upgrade", "--force", "--detach")
    install(pairs[1], folder)
    until_served(tidegate, pairs, 1)
    install(pairs[2], folder)
    tidegate.ok("upgrade", "--force")
    until_served(tidegate, pairs, 2)
    # Where a roll-back goes to is not what the files were a minute ago.
    tidegate.ok("rollback")
    until_served(tidegate, pairs, 2)


def test_a_change_while_an_upgrade_runs_is_not_lost(launch, origin, pairs, folder):
    install(pairs[0], folder)
    tidegate = launch(watching(origin, folder), env={"TIDEGATE_TEST_FAULT": "worker.check:fail"})
    install(pairs[1], folder)
    assert tidegate.cli("upgrade", "--force").code != 0
    until_served(tidegate, pairs, 1)


def test_what_fails_for_a_passing_reason_is_tried_again(launch, origin, pairs, folder):
    install(pairs[0], folder)
    tidegate = launch(watching(origin, folder, upgrade={"ready_timeout": duration(1)}))
    worker = tidegate.workers()[0]
    os.kill(worker, signal.SIGSTOP)
    install(pairs[1], folder)
    said = "the certificate files are not loaded, trying again in 10s"
    until(lambda: said in tidegate.stderr, "the log to say when it is tried again", 15)
    os.kill(worker, signal.SIGCONT)
    until(lambda: served(tidegate, pairs) == 1, "the renewed certificate", 20)
    assert tidegate.workers() == [worker] and tidegate.counters()["reloads_failed"] == 1


def test_files_that_are_gone_are_told_of_in_one_line(launch, origin, pairs, folder):
    install(pairs[0], folder)
    certificates = []
    for number in range(5):
        shutil.copyfile(folder / "site.pem", folder / f"{number}.pem")
        certificates.append({"cert": str(folder / f"{number}.pem"), "key": {"file": str(folder / "site.key")}})
    tidegate = launch({**watching(origin, folder), "certificates": certificates})
    before = len(tidegate.stderr)
    folder.rename(folder.parent / "away")
    until(lambda: "those in force stay" in tidegate.stderr, "the log to tell of it")
    (folder.parent / "away").rename(folder)
    install(pairs[1], folder)
    until(lambda: "prepare failed" in tidegate.stderr, "the worker to refuse certificates of another key")
    records = tidegate.stderr[before:].splitlines()
    gone = "No such file or directory"
    assert any(f"{folder}/0.pem: {gone}; {folder}/site.key: {gone}; {folder}/1.pem: {gone} and 3 others" in record
               for record in records)
    assert all(" supervisor[" in record or " worker[" in record for record in records), records


def test_where_nothing_can_be_watched_it_is_said(launch, origin, pairs, folder):
    install(pairs[0], folder)
    tidegate = launch(watching(origin, folder), env={"TIDEGATE_TEST_FAULT": "watch:fail"})
    until(lambda: "cannot watch /: no space left on device" in tidegate.stderr, "the warning")
    install(pairs[1], folder)
    tidegate.ok("reload")
    assert served(tidegate, pairs) == 1 and tidegate.stderr.count("cannot watch") == 1
