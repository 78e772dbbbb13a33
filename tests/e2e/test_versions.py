"""Upgrades between versions that do not know the same settings.

The older version is a copy of the binaries in which the name of a setting is another word: it refuses the setting as a key
that it does not know, and everything else is as here."""

import os

import pytest

from support.daemon import basic, copied_binaries

# A setting, and a configuration in which it is used.
SETTINGS = {"tls_handshake": {"timeouts": {"tls_handshake": "5s"}}, "hand_over": {"upgrade": {"hand_over": False}}}


@pytest.fixture(params=SETTINGS)
def key(request):
    return request.param


@pytest.fixture
def older(tmp_path, key):
    # With the octet that ends the word: longer words stay.
    return copied_binaries(tmp_path / "older", version=(key + "\0", key[:-1] + "_\0"))


def executable(tidegate):
    return os.readlink(f"/proc/{tidegate.pid}/exe")


def test_the_copy_does_not_know_the_setting(launch, origin, older, key):
    tidegate = launch(basic(origin.address), binary=older)
    tidegate.change(**SETTINGS[key])
    outcome = tidegate.cli("reload")
    assert outcome.code == 78 and f'unknown key "{key}"' in outcome.text, outcome.text


def test_an_upgrade_and_the_way_back_pass_a_setting_that_one_side_does_not_know(launch, origin, older):
    tidegate = launch(basic(origin.address), binary=older)
    new = tidegate.bin_dir / "tidegate"
    tidegate.ok("upgrade", "--binary", new)
    assert executable(tidegate) == str(new)
    tidegate.ok("rollback")
    assert executable(tidegate) == str(older)
    tidegate.ok("upgrade", "--binary", new)
    tidegate.ok("upgrade", "--binary", older)
    assert executable(tidegate) == str(older)
    with tidegate.connect() as client:
        assert client.get("/").status == 200


def test_a_refused_upgrade_comes_back_to_a_version_that_does_not_know_the_setting(launch, origin, older):
    tidegate = launch(basic(origin.address), binary=older, env={"TIDEGATE_TEST_FAULTS": "1"})
    new = copied_binaries(tidegate.directory / "next")
    (new.parent / "tidegate.fault").write_text("worker.prepare:fail")
    assert tidegate.cli("upgrade", "--binary", new).code == 1
    assert executable(tidegate) == str(older) and len(tidegate.wait_generations(1)["generations"]) == 1
    tidegate.ok("reload", "--force")


def test_a_setting_that_is_used_holds_a_downgrade(launch, origin, older, key):
    tidegate = launch(basic(origin.address, **SETTINGS[key]))
    outcome = tidegate.cli("upgrade", "--binary", older)
    assert outcome.code == 1 and f'unknown key "{key}"' in outcome.text, outcome.text
    assert executable(tidegate) == str(tidegate.bin_dir / "tidegate")
    with tidegate.connect() as client:
        assert client.get("/").status == 200
