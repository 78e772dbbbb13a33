"""`tidegate check` on the files of config/: broken ones give exactly the expected diagnostics, the others are valid."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from support.daemon import BIN, ROOT
from support.wait import PATIENCE

CONFIG = Path(__file__).parent / "config"
BROKEN = sorted((CONFIG / "broken").glob("*.json"))
VALID = sorted((CONFIG / "valid").glob("*.json")) + sorted((ROOT / "packaging").glob("**/*.json"))


def check(path, *arguments):
    """The command in the file's folder: diagnostics name files as they were given."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TIDEGATE_")}
    return subprocess.run([BIN / "tidegate", "check", path.name, *arguments], cwd=path.parent, env=environment,
                          capture_output=True, text=True, errors="replace", check=False, timeout=60 * PATIENCE)


def test_there_are_enough_of_them():
    assert len(BROKEN) >= 45 and len(VALID) >= 15


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_a_broken_file_gives_the_expected_diagnostics(path):
    outcome = check(path)
    assert outcome.returncode == 78, outcome.stderr
    expected = path.with_suffix(".expected").read_text(encoding="utf-8")
    # The command may add a sentence about the running configuration behind the summary.
    assert outcome.stderr.startswith(expected.rstrip("\n")), outcome.stderr
    assert len(outcome.stderr.splitlines()) <= len(expected.splitlines()) + 1


@pytest.mark.parametrize("path", VALID, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_valid_file_is_accepted(path):
    outcome = check(path)
    assert outcome.returncode == 0, outcome.stderr
    assert "error" not in outcome.stderr
    # Whether a user is here is not the file's fault.
    warnings = re.findall("warning: (?!user: no such user here)", outcome.stderr)
    assert bool(warnings) == (path.stem == "only_warnings"), outcome.stderr


@pytest.mark.parametrize("path", VALID, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_valid_file_is_printed_with_origins(path):
    outcome = check(path, "--print")
    assert outcome.returncode == 0, outcome.stderr
    lines = [line for line in outcome.stdout.splitlines() if " = " in line]
    assert len(lines) > 20 and all("  # " in line for line in lines)
    assert any(line.endswith("# default") for line in lines)
    assert any(f"# {path.name}:" in line for line in lines)
