"""What the counts of instructions are held against."""

import importlib.machinery
import importlib.util
from pathlib import Path


def load():
    # A program without a suffix.
    path = str(Path(__file__).with_name("instructions"))
    loader = importlib.machinery.SourceFileLoader("instructions", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("instructions", loader))
    loader.exec_module(module)
    return module


verdict = load().verdict


def test_a_figure_within_the_tolerance_is_green():
    for figure in (8560, 9000, 9440):
        line, red = verdict("small", figure, 9000, 9000)
        assert not red and "RED" not in line


def test_a_figure_beyond_the_tolerance_is_red_in_either_direction():
    for figure, word in ((9460, "costs more"), (8540, "better")):
        line, red = verdict("small", figure, 9000, 9000)
        assert red and word in line


def test_more_than_the_limit_may_not_be_stored():
    assert verdict("small", 9001, 9000, 9001)[1]
    assert not verdict("small", 9001, None, 9001)[1]


def test_a_system_without_a_stored_figure_is_not_judged_and_says_so():
    line, red = verdict("small", 9999, 9000, None)
    assert not red and "NOT JUDGED" in line
