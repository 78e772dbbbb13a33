#!/usr/bin/python3
"""Totals of a test run out of its JUnit files: count_tests.py TITLE NAME=FILE...

Ends with 1 unless every file is there, has at least one passed test, and has none that failed or was skipped (disabled
and expected failures count as skipped).
"""

import os
import sys
import xml.etree.ElementTree


def count(path):
    """(passed, failed, skipped, seconds); a file that is missing or broken is one failure."""
    if not os.path.exists(path):
        return 0, 1, 0, 0.0
    passed = failed = skipped = 0
    seconds = 0.0
    for suite in xml.etree.ElementTree.parse(path).iter("testsuite"):
        seconds += float(suite.get("time") or 0)
        for case in suite.iter("testcase"):
            if case.find("failure") is not None or case.find("error") is not None or case.get("status") == "fail":
                failed += 1
            elif case.find("skipped") is not None or case.get("status") in ("disabled", "notrun"):
                skipped += 1
            else:
                passed += 1
    return passed, failed, skipped, seconds


def main():
    title, files = sys.argv[1], [argument.split("=", 1) for argument in sys.argv[2:]]
    red = False
    for name, path in files:
        passed, failed, skipped, seconds = count(path)
        print(f"{title}: {name} {passed} passed, {failed} failed, {skipped} skipped, {seconds:.0f} s")
        red = red or passed == 0 or failed > 0 or skipped > 0
    print(f"{title}: {'RED' if red else 'green'}")
    sys.exit(1 if red else 0)


if __name__ == "__main__":
    main()
