"""The manual pages and the program say the same: everything that exists is in a page, and nothing else is."""

import json
import re
import subprocess

import pytest

from support.certificates import make_pair
from support.daemon import BIN, ROOT
from support.wait import PATIENCE

TIDEGATE = str(BIN / "tidegate")


def run(*arguments):
    done = subprocess.run([TIDEGATE, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=20 * PATIENCE)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


def page(name):
    """The source of a page, without what escapes characters in it."""
    text = (ROOT / "man" / f"{name}.scd").read_text(encoding="utf-8")
    return re.sub(r"\\(.)", r"\1", text)


def section(text, title):
    """What stands below the heading `# title` or `## title`, up to the next one of its kind or above."""
    marks, rest = re.search(rf"^(##?) {re.escape(title)}\n(.*)", text, re.MULTILINE | re.DOTALL).groups()
    return re.split(rf"^#{{1,{len(marks)}}} ", rest, flags=re.MULTILINE)[0]


def source(*paths):
    return "\n".join((ROOT / path).read_text(encoding="utf-8") for path in paths)


def sources(*rooms, ending="*.cpp"):
    return "\n".join(path.read_text(encoding="utf-8") for room in rooms for path in sorted((ROOT / room).rglob(ending)))


def code(text):
    """C++ without its comments."""
    return re.sub(r"//[^\n]*", "", text)


MAIN, CONFIG, UPGRADE, WORKER = (page(name) for name in ("tidegate.8", "tidegate.json.5", "tidegate-upgrade.7", "tidegate-worker.8"))


# Commands and options: --help, the completions, the page.

def options_in_help(text):
    """{"--config": "-c", "--socket": ""} of the lines that describe options."""
    return {f"--{name}": letter or "" for letter, name in re.findall(r"^  (?:(-\w), |    )--([\w-]+)", text, re.MULTILINE)}


def helped():
    """{command: its own options}, and the options of every command, as --help has them."""
    overview = run("--help")
    commands = {}
    for name in re.findall(r"^  ([a-z]+) {2,}\S", overview, re.MULTILINE):
        own = run(name, "--help").split("\nOptions of every command:")[0]
        commands[name] = set(options_in_help(own))
    return commands, options_in_help(overview)


def paged():
    """The same, as tidegate(8) has them."""
    commands = {}
    for line, described in re.findall(r"^; begin command \w+\n(.*)\n((?:.*\n)*?); end$", MAIN, re.MULTILINE):
        name, usage = re.match(r"\*tidegate (\w+)\*(.*)", line).groups()
        commands[name] = set(re.findall(r"--[\w-]+", usage))
        assert commands[name] == set(re.findall(r"^\t\*(--[\w-]+)\*", described, re.MULTILINE)), name
    rows = re.findall(r"^(?:\*(-\w)\*, )?\*(--[\w-]+)\*", section(MAIN, "OPTIONS"), re.MULTILINE)
    return commands, {option: letter for letter, option in rows}


def test_commands_and_options_of_help_are_those_of_the_page():
    assert helped() == paged()


def completed_by_bash(command):
    words = re.search(rf"^    {command or re.escape(chr(39) * 2)}\) words='([^']*)'", run("completion", "bash"), re.MULTILINE).group(1)
    return set(words.split())


def completed_by_zsh(command):
    script = run("completion", "zsh")
    body = (re.search(rf"^  {command}\) _arguments(.*?);;", script, re.MULTILINE | re.DOTALL).group(1) if command
            else re.search(r"_arguments -C(.*?)\n  case", script, re.DOTALL).group(1))
    words = set(re.findall(r"'\*?(--?[\w-]+)\[", body))
    return words if command else words | set(re.findall(r"^    '([a-z]+):", script, re.MULTILINE))


def completed_by_fish(command):
    wanted = {"", f" -n '__fish_seen_subcommand_from {command}'"} if command else {""}
    script = run("completion", "fish")
    words = set()
    for condition, name, letter in re.findall(r"^complete -c tidegate( -n '[^']*')? -l ([\w-]+)(?: -s (\w))?", script, re.MULTILINE):
        if condition in wanted:
            words |= {f"--{name}"} | ({f"-{letter}"} if letter else set())
    if not command:
        words |= set(re.findall(r"^complete -c tidegate -n __fish_use_subcommand -a (\w+)", script, re.MULTILINE))
    # A shell that offers --config where it is not taken is forgiving: fish has one list for all.
    return words - ({"--config", "-c"} if command and "--config" not in run(command, "--help") else set())


@pytest.mark.parametrize("completed", [completed_by_bash, completed_by_zsh, completed_by_fish])
def test_completions_offer_what_the_page_has(completed):
    commands, everywhere = paged()
    general = set(everywhere) | {letter for letter in everywhere.values() if letter}
    assert completed("") == general | set(commands)
    for name, own in commands.items():
        config = {"--config", "-c"} & general if "--config" in run(name, "--help") else set()
        assert completed(name) == own | (general - {"--config", "-c"}) | config, name


def test_no_page_names_an_option_or_a_command_that_does_not_exist():
    commands, everywhere = helped()
    known = set(everywhere).union(*commands.values())
    for name, text in (("tidegate(8)", MAIN), ("tidegate.json(5)", CONFIG), ("tidegate-upgrade(7)", UPGRADE)):
        assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text)) <= known, name
        assert set(re.findall(r"\*tidegate ([a-z]+)", text)) <= set(commands), name
    assert set(re.findall(r"--[a-z]\w*", section(WORKER, "OPTIONS"))) == set(re.findall(r'"(--\w+)"sv', source("proxy/main.cpp")))


# The configuration: the schema and tidegate.json(5).

def flattened(schema, prefix=""):
    """{"queue.size": schema} of an object; what may be an array or a name of objects is looked into, too."""
    keys = {}
    for key, value in schema.get("properties", {}).items():
        keys[prefix + key] = value
        if value.get("type") == "object" and "properties" in value:
            keys.update(flattened(value, f"{prefix}{key}."))
        for one in value.get("items", {}).get("anyOf", []):
            keys.update(flattened(one, f"{prefix}{key}[]."))
    return keys


def schema_keys():
    """{section: {key: schema}}; section "" is the top."""
    schema = json.loads(run("schema"))
    found = {"": schema["properties"]}
    for name, value in schema["properties"].items():
        element = value.get("items", value.get("additionalProperties") or value)
        if isinstance(element, dict) and "properties" in element:
            found[name] = flattened(element)
    # These are the keys of another section: the page says which of them, in words.
    general = set(found["timeouts"])
    found["routes"] = {key: value for key, value in found["routes"].items() if key.removeprefix("timeouts.") not in general}
    return found


def page_keys():
    """{section: {key: what stands behind it}}."""
    found = {}
    for name, body in re.findall(r"^; begin settings ?(\w*)\n(.*?)^; end$", CONFIG, re.MULTILINE | re.DOTALL):
        assert name == "" or f"; begin settings {name}\n" in section(CONFIG, name), f"{name} is below another heading"
        found[name] = dict(re.findall(r"^\*([^*\n]+)\*: (.*)$", body, re.MULTILINE))
    return found


def test_every_key_of_the_schema_is_in_the_page_and_no_other():
    assert {name: set(keys) for name, keys in page_keys().items()} == {name: set(keys) for name, keys in schema_keys().items()}


def test_the_page_has_the_defaults_and_the_required_keys_of_the_schema():
    schema = json.loads(run("schema"))
    pages = page_keys()
    for name, keys in schema_keys().items():
        top = schema["properties"].get(name, schema)
        element = top.get("items", top.get("additionalProperties") or top)
        for key, value in keys.items():
            told = pages[name][key]
            default = value.get("default")
            shown = re.search(r"default (\S+)$", told)
            meant = str(default).lower() if isinstance(default, bool) else str(default)
            assert (shown.group(1) if shown else "None") == meant, (name, key)
            if name and "." not in key:
                assert ("required" in re.sub(r"_.*?_", "", told)) == (key in element.get("required", [])), (name, key)


def json_blocks():
    return [block for block in re.findall(r"^```\n(.*?)^```", CONFIG, re.MULTILINE | re.DOTALL) if block.startswith("{")]


@pytest.mark.parametrize("number", range(8))
def test_the_examples_are_valid(tmp_path, number):
    # The smallest one, and seven below EXAMPLES; one more needs one more here.
    assert len(json_blocks()) == 8
    for name in ("site", "me", "ca"):
        pair = make_pair(tmp_path, name, "app.internal")
        pair.key.chmod(0o600)
    (tmp_path / "tidegate.json").write_text(json_blocks()[number])
    run("check", tmp_path / "tidegate.json")


# Signals, exit codes, the environment, files.

def test_the_signals_that_are_handled_are_in_the_pages():
    supervisor = code(sources("supervisor"))
    # The first is sent to workers; the guard of an upgrade sends itself the second, and goes back from a crash with the others.
    handled = set(re.findall(r"\bSIG([A-Z0-9]+)\b", supervisor)) - {"KILL", "ALRM", "SEGV", "ABRT", "BUS", "ILL", "FPE", "TRAP", "SYS"}
    body = section(MAIN, "SIGNALS")
    told = {word for words in re.findall(r"^(\*[A-Z0-9*, ]+\*)$", body, re.MULTILINE) for word in re.findall(r"[A-Z0-9]+", words)}
    assert told | set(re.findall(r"\b(PIPE|CHLD)\b", body)) == handled
    worker = {word for words in re.findall(r"^(\*[A-Z0-9*, ]+\*)$", section(WORKER, "SIGNALS"), re.MULTILINE)
              for word in re.findall(r"[A-Z0-9]+", words)}
    assert worker == set(re.findall(r"\bSIG([A-Z0-9]+)\b", code(source("proxy/main.cpp"))))


def listed_codes(text):
    return set(re.findall(r"^\*(\d+)\*$", section(text, "EXIT STATUS"), re.MULTILINE))


def test_the_exit_codes_are_in_the_pages():
    enum = re.search(r"enum class ExitCode[^{]*\{(.*?)\}", source("supervisor/commands.h"), re.DOTALL).group(1)
    assert listed_codes(MAIN) == set(re.findall(r"= (\d+)", enum))
    ends = re.findall(r"return (\d+);", source("proxy/main.cpp")) + re.findall(r"std::exit\((\d+)\)", sources("proxy"))
    assert listed_codes(WORKER) == set(ends)


# What a process tells its own next image, and what only tests set.
OWN_VARIABLES = {"TIDEGATE_STATE_FD", "TIDEGATE_WAY_BACK_FD", "TIDEGATE_RETURNED"}


def test_the_variables_that_are_read_are_in_the_page():
    text = code(sources("common", "supervisor", "proxy"))
    read = set(re.findall(r'"([A-Z]+(?:_[A-Z]+)+)"', text)) | set(re.findall(r'getenv\("(\w+)"\)', text))
    read = {name for name in read if not name.startswith("TIDEGATE_TEST_")} - OWN_VARIABLES
    lines = re.findall(r"^\*[A-Z_*, ]+\*$", section(MAIN, "ENVIRONMENT"), re.MULTILINE)
    assert set(re.findall(r"[A-Z_]+", " ".join(lines))) == read


# What the program does not name: it is installed by the package, or made for it.
PACKAGE_PATHS = {"/etc/tidegate/conf.d/*.json", "/var/log/tidegate/", "/var/lib/tidegate/", "/etc/logrotate.d/tidegate",
                 "/etc/needrestart/restart.d/tidegate.service", "/usr/libexec/tidegate/tidegate-worker",
                 "/usr/libexec/tidegate/after-upgrade", "/lib/systemd/system/tidegate.service", "/lib/systemd/system/tidegate.socket",
                 "/usr/share/tidegate/tidegate.schema.json", "/usr/share/doc/tidegate/examples"}


def test_the_files_that_are_named_are_in_the_page():
    text = code(sources("common", "supervisor", "proxy") + sources("common", "supervisor", "proxy", ending="*.h"))
    named = set(re.findall(r'"(/(?:etc|run|var|usr|lib|tmp)/[^"{]*)', text))
    body = section(MAIN, "FILES")
    told = set(re.findall(r"^(/\S+?)(?:\+\+)?$", body, re.MULTILINE))
    for path in named:
        assert path in body, path
    assert {path for path in told if path not in named} == PACKAGE_PATHS


# Logs and the hand-over.

def test_the_reasons_of_the_error_table_are_in_the_page_with_their_status_and_side():
    rows = re.findall(r'^TG_ERROR\(\w+, *"(\w+)", *(\d+), *k(\w+),', source("common/error_table.h"), re.MULTILINE)
    table = {name: (status, side) for name, status, side in rows}
    assert len(table) == len(rows) > 60
    body = section(MAIN, "Reasons")
    told, side = {}, None
    for line in body.splitlines():
        heading = re.match(r"(The client's|Connections of HTTP/2|Tidegate's|The upstream's)", line)
        if heading:
            side = {"T": "Client", "C": "Client"}.get(line[0]) if "client" in line else "Upstream" if "upstream's" in line else "Tidegate"
        entry = re.match(r"((?:\*\w+\*(?:, | and | )*)+)\((\d+|-)\)", line)
        if entry:
            for name in re.findall(r"\*(\w+)\*", entry.group(1)):
                # What lies below HTTP is told last, and belongs to nobody else.
                who = "Tidegate" if entry.group(2) == "500" else side
                told[name] = (entry.group(2).replace("-", "0"), who)
    assert told == table


def test_the_fields_of_the_access_log_are_in_the_page():
    text = source("proxy/access_log.cpp")
    written = set(re.findall(r'[{,]\\"(\w+)\\":', text))
    assert len(written) > 20
    lines = re.findall(r"^\*[\w*, ]+\*$", section(MAIN, "Fields of the access log"), re.MULTILINE)
    assert set(re.findall(r"\w+", " ".join(lines))) == written


def test_the_counters_are_in_the_page():
    rows = set(re.findall(r'^TG_COUNTER\(\w+, "(\w+)"', source("common/counters_table.h"), re.MULTILINE))
    assert set(re.findall(r"^\*(\w+)\*$", section(MAIN, "COUNTERS"), re.MULTILINE)) - {"errors_REASON"} == rows


def test_the_reasons_to_decline_a_connection_are_in_the_page():
    rows = re.findall(r'DeclineRow\{"(\w+)"', source("common/hand_over_kinds.h"))
    assert re.findall(r"^\*(\w+)\*$", section(UPGRADE, "WHAT MOVES, AND WHAT DRAINS"), re.MULTILINE) == rows


def test_the_keys_that_matter_for_an_upgrade_are_all_told():
    keys = set(json.loads(run("schema"))["properties"]["upgrade"]["properties"])
    lines = re.findall(r"^\*[\w*, ]+\*$", section(UPGRADE, "WHAT TO SET"), re.MULTILINE)
    assert set(re.findall(r"\w+", " ".join(lines))) == keys
