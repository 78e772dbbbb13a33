"""`tidegate schema` against every configuration in the tree: the schema and the parser come from one table and must agree."""

import functools
import json
import os
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest

from support.daemon import BIN, ROOT

CONFIG = Path(__file__).parent / "config"
VALID = (sorted((CONFIG / "valid").glob("**/*.json")) + sorted((CONFIG / "broken/parts").glob("[cs][mo]*.json"))
         + sorted((ROOT / "packaging").glob("**/*.json")))

# Faults that a schema can see: wrong types, unknown keys and words, numbers out of range.
REFUSED = ["unknown_key", "unknown_key_in_route", "unknown_key_later_version", "unknown_key_spelling", "null_value",
           "wrong_types", "duration_faults", "size_faults", "count_faults", "number_in_quotes", "choice_faults",
           "endpoints_not_a_list", "route_actions", "respond", "redirect", "include_not_a_list", "retry",
           "access_log", "not_an_object", "protocols"]

# A string, or a comment: what begins first wins, so `//` inside a string is text.
TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)


def read(path):
    text = path.read_text(encoding="utf-8-sig")
    return json.loads(TOKEN.sub(lambda match: match[0] if match[0].startswith('"') else " ", text))


@functools.cache
def validator():
    text = subprocess.run([BIN / "tidegate", "schema"], capture_output=True, text=True, check=True, timeout=60).stdout
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", VALID, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_configuration_in_the_tree_validates(path):
    validator().validate(read(path))


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_schema_can_see_is_refused(name):
    assert list(validator().iter_errors(read(CONFIG / "broken" / f"{name}.json")))


def test_the_effective_form_of_a_file_validates(tmp_path):
    """`check --print` shows paths; each of them is in the schema."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TIDEGATE_")}
    out = subprocess.run([BIN / "tidegate", "check", CONFIG / "valid/everything.json", "--print"], env=environment,
                         capture_output=True, text=True, check=True, timeout=60).stdout
    roots = {re.match(r"[a-z_]+", line)[0] for line in out.splitlines() if " = " in line}
    assert roots and roots <= set(validator().schema["properties"])
