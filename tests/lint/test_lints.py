"""The lints' own tests: each rule has text that it must refuse and text that it must let pass."""

import importlib.machinery
import importlib.util
import os
import subprocess
import sys

import pytest

FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, FOLDER)
sys.dont_write_bytecode = True

import sources  # noqa: E402  (stands beside this file)


def load(name):
    loader = importlib.machinery.SourceFileLoader(name, os.path.join(FOLDER, name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


awaits, floors, length, pages = (load(name) for name in ("check_awaits", "check_floors", "check_length", "check_pages"))


# --- check_awaits

GOOD_AWAITS = [
    "auto r = co_await f(a);",
    "co_await scope.Join();",
    "const auto head = co_await stream.ReadHead(Deadline(limit));",
    "Result<std::size_t> n = co_await stream.Read(buffer);",
    "std::expected<std::vector<int>, Error> n = co_await Read();",
    "auto [head, rest] = co_await Both();",
    "auto&& r = co_await f();",
    "r = co_await f(a, b[i], c->d);",
    "this->head_ = co_await f();",
    "exchange.response->head = co_await f();",
    "[[maybe_unused]] auto r = co_await f();",
    "auto r = co_await f<int>(a);",
    "auto r = co_await table[i].f();",
    "if (ready) { auto r = co_await f(); }",
    "for (;;) { auto r = co_await f(); if (!r || done && r) { break; } }",
    "switch (x) { case A: co_await f(); break; case ns::B: co_await g(); default: co_await h(); }",
    "scope.Start([](Loop& loop) -> Task<> { co_await loop.Sleep(1); }(loop));",
    "auto go = [&]() -> Task<void> { auto r = co_await f(); if (r) { co_return; } };",
    "// if (co_await f()) { co_await g({}); }\nint x;",
    "/* co_await f() && g() */ int x;",
    'auto text = "co_await f() && g()"; auto raw = R"x(co_await a ? b : c)x";',
    "char quote = '\"'; auto r = co_await f(); char other = '\"';",
    'auto r = co_await f("a && b ? {c} : [d]");',
    "auto r = co_await f(1'000'000);",
    "auto r = co_await f(  // first {\n    a,\n    b);",
    "#define NAMES(X) \\\n  X(a) && X(b)\nauto r = co_await f();",
    "Awaiter operator co_await() { return {}; }",
    "auto r = co_await f(std::move(a));\nauto s = co_await g(r ->value());",
]

BAD_AWAITS = [
    ("if (co_await f()) { }", "inside another expression"),
    ("if (auto r = co_await f(); !r) { }", "inside another expression"),
    ("while (co_await f()) { }", "inside another expression"),
    ("for (int i = 0; co_await f(); ++i) { }", "inside another expression"),
    ("g(co_await f());", "inside another expression"),
    ("a[co_await f()] = 1;", "inside another expression"),
    ("auto r = (co_await f());", "inside another expression"),
    ("auto r = co_await f(co_await g());", "two co_await"),
    ("auto r = co_await f() + co_await g();", "two co_await"),
    ("auto r = co_await f({1, 2});", "braces"),
    ("auto r = co_await f(Options{.a = 1});", "braces"),
    ("Pair p{co_await f(), 1};", "inside braces"),
    ("auto r = co_await f([&] { return 1; });", "braces"),
    ("auto r = co_await f([]);", "lambda"),
    ("auto r = co_await f(a ? b : c);", "?:"),
    ("auto r = a ? co_await f() : 1;", "whole right side"),
    ("auto r = co_await f() && ready;", "&&"),
    ("auto r = ready && co_await f();", "whole right side"),
    ("auto r = co_await f() || ready;", "||"),
    ("auto r = co_await f() or ready;", "||"),
    ("co_return co_await f();", "whole right side"),
    ("return co_await f();", "whole right side"),
    ("auto r = !co_await f();", "whole right side"),
    ("auto r = *co_await f();", "whole right side"),
    ("x += co_await f();", "whole right side"),
    ("auto a = 1, b = co_await f();", "whole right side"),
    ("if (ready) co_await f();", "whole right side"),
    ("else co_await f();", "whole right side"),
    ("#define TRY(x) \\\n  auto r = co_await x", "macro"),
]


@pytest.mark.parametrize("text", GOOD_AWAITS)
def test_a_plain_await_passes(text):
    assert awaits.check_text("a.cpp", f"Task<> T() {{\n{text}\n}}\n") == []


@pytest.mark.parametrize("text,message", BAD_AWAITS)
def test_any_other_await_is_refused(text, message):
    faults = awaits.check_text("a.cpp", f"Task<> T() {{\n{text}\n}}\n")
    assert faults and message in faults[0]


def test_a_fault_names_file_and_line():
    assert awaits.check_text("proxy/a.cpp", "/* 1\n2 */\n\n{ f(co_await g()); }\n")[0].startswith("proxy/a.cpp:4: ")


# --- check_floors

TABLE = """
# lowest first
F0
common/check common/text   # in this order
F1
common/config* common/loop
F3
proxy/net/*
supervisor/listeners
F4
supervisor/commands.h supervisor/upgrade supervisor/commands
"""


def floor_faults(path, text, others=()):
    files = {name: "" for name in ("common/check.h", "common/text.h", "common/config.h", "common/config_load.h",
                                   "common/loop.h", "proxy/net/tls.h", "supervisor/listeners.h", "supervisor/upgrade.h",
                                   "supervisor/commands.h", "tests/support/fake.h")}
    files.update(others)
    files[path] = text
    return floors.check(files, floors.read_floors(TABLE))


@pytest.mark.parametrize("path,included", [
    ("common/text.cpp", "common/text.h"),
    ("common/text.h", "common/check.h"),
    ("common/loop.h", "common/check.h"),
    ("common/config.cpp", "common/config_load.h"),
    ("proxy/net/tls.cpp", "common/loop.h"),
    ("supervisor/upgrade.cpp", "supervisor/listeners.h"),
    ("supervisor/upgrade.h", "supervisor/commands.h"),
    ("supervisor/commands.cpp", "supervisor/upgrade.h"),
    ("tests/unit/common/text_test.cpp", "supervisor/upgrade.h"),
])
def test_including_what_lies_lower_passes(path, included):
    assert floor_faults(path, f'#include <vector>\n#include "{included}"\n') == []


@pytest.mark.parametrize("path,included,message", [
    ("common/check.h", "common/text.h", "above F0 line of this file"),
    ("common/text.h", "common/loop.h", "(F1) is above F0"),
    ("common/config.h", "common/loop.h", "above F1 line of this file"),
    ("supervisor/listeners.h", "supervisor/upgrade.h", "(F4) is above F3"),
    ("supervisor/commands.h", "supervisor/upgrade.h", "above F4 line of this file"),
    ("supervisor/upgrade.h", "proxy/net/tls.h", "other process"),
    ("proxy/net/tls.cpp", "supervisor/listeners.h", "other process"),
    ("common/loop.h", "tests/support/fake.h", "only tests"),
    ("common/loop.h", "check.h", "no file of the tree"),
    ("common/stray.h", "common/check.h", "no floor"),
])
def test_including_what_lies_higher_is_refused(path, included, message):
    faults = floor_faults(path, f'// first\n#include "{included}"\n')
    assert len(faults) == 1 and message in faults[0]


def test_an_include_in_a_comment_is_none():
    assert floor_faults("common/check.h", '// #include "common/loop.h"\n/*\n#include "common/loop.h"\n*/\n') == []


def test_headers_that_include_each_other_are_refused():
    faults = floor_faults("common/config.h", '#include "common/config_load.h"\n',
                          {"common/config_load.h": '#include "common/config.h"\n'})
    assert len(faults) == 1 and "include each other" in faults[0]


def test_the_tables_of_floors_ascend():
    numbers = [int(floor[1:]) for _, floor in floors.read_floors(sources.read("tests/lint/floors.txt"))]
    assert numbers == sorted(numbers) and numbers


# --- count_tests

def count(tmp_path, *cases):
    """The verdict on a JUnit file with `cases` inside."""
    path = tmp_path / "junit.xml"
    path.write_text("<testsuites><testsuite time='1.5'>" + "".join(cases) + "</testsuite></testsuites>")
    done = subprocess.run([os.path.join(FOLDER, "../support/count_tests.py"), "release", f"unit={path}"],
                          capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()[0]


def test_passed_tests_are_green(tmp_path):
    assert count(tmp_path, "<testcase/>", "<testcase status='run'/>") == (
        0, "release: unit 2 passed, 0 failed, 0 skipped, 2 s")


@pytest.mark.parametrize("case", [
    "<testcase><failure/></testcase>", "<testcase><error/></testcase>", "<testcase status='fail'/>",
    "<testcase><skipped/></testcase>", "<testcase status='disabled'/>", "<testcase status='notrun'/>",
])
def test_one_that_failed_or_was_skipped_is_red(tmp_path, case):
    status, line = count(tmp_path, "<testcase/>", case)
    assert status == 1 and line.startswith("release: unit 1 passed")


def test_no_test_at_all_and_no_file_are_red(tmp_path):
    assert count(tmp_path)[0] == 1
    done = subprocess.run([os.path.join(FOLDER, "../support/count_tests.py"), "release", f"unit={tmp_path}/none"],
                          capture_output=True, check=False)
    assert done.returncode == 1


# --- check_length, sources

def test_600_lines_pass_and_601_do_not():
    assert length.check({"a.cpp": "x\n" * 600}) == []
    assert length.check({"a.cpp": "x\n" * 601}) == ["a.cpp:601: 601 lines; split it, the limit is 600"]


def test_data_has_no_limit():
    assert not length.is_source("CMakePresets.json") and length.is_source("common/text.h")


def test_lines_stay_when_comments_and_strings_go():
    text = 'a /* 1\n2 */ b\n// c \\\nd\nR"(\n)" "x\\"y" \'"\' e\n'
    assert sources.plain(text).count("\n") == text.count("\n")
    assert "".join(sources.plain(text).split()) == "ab\"\"\"\"''e"


# --- check_pages

PAGE = b'.TH "x" "8" "2026-01-01" "x" "x"\n.SH NAME\nx - a page\n.SH DESCRIPTION\n'


def test_a_page_that_mandoc_finds_nothing_in_passes():
    assert pages.check("x.scd", PAGE + b"Text.\n") == []


@pytest.mark.parametrize("text, fault", [
    (b".P\n.P\nText.\n", "skipping paragraph macro"), (b".NO\n", "unknown macro"), (b"Text.\n.RS 4\nMore.\n", "RS"),
    (b".nf\n" + b"x" * 90 + b"\n.fi\n", "columns"),
])
def test_a_page_with_a_fault_does_not(text, fault):
    assert any(fault in one for one in pages.check("x.scd", PAGE + text)), pages.check("x.scd", PAGE + text)


# --- what each lint says

def test_every_lint_passes_over_the_tree_without_an_exception():
    for name in ("check_awaits", "check_floors", "check_length"):
        done = subprocess.run([os.path.join(FOLDER, name)], capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1) and done.stderr == "" and done.stdout.strip().endswith("files")
