"""The files that lints look at, and C++ text without its comments and strings."""

import os
import re
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ROOMS = ("common", "proxy", "supervisor")

_TOKEN = re.compile(
    r"""//(?:\\\n|[^\n])*              # a comment, also one that a backslash carries on
      | /\*.*?\*/
      | (?<![\w])(?:u8|[uUL])?R"(?P<delimiter>[^()\\\s]*)\(.*?\)(?P=delimiter)"
      | "(?:\\.|[^"\\\n])*"
      | (?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'   # not the ' of 1'000""",
    re.DOTALL | re.VERBOSE,
)


def tree_files():
    """Paths from the root of all files in the tree, new ones included, ignored ones not. Works without git, too."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=False)
    if listed.returncode == 0:
        paths = [path for path in listed.stdout.decode().split("\0") if path]
    else:
        paths = []
        for folder, folders, files in os.walk(ROOT):
            folders[:] = [name for name in folders if name not in ("build", ".git", "__pycache__", ".pytest_cache")]
            paths += [os.path.relpath(os.path.join(folder, name), ROOT) for name in files]
    return sorted(path for path in set(paths) if os.path.isfile(os.path.join(ROOT, path)))


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as file:
        return file.read()


def is_cpp(path):
    return path.endswith((".cpp", ".h"))


def is_shell(path):
    return path.endswith(".sh") or bool(re.match(r"#!/(usr/)?bin/(env )?(ba|da)?sh\b", read(path)[:40]))


def plain(text):
    """C++ `text` with comments blanked and literals emptied; line numbers stay."""

    def blank(match):
        found = match.group(0)
        lines = "\n" * found.count("\n")
        if found.startswith("/"):
            return " " + lines
        return ('""' if '"' in found[:4] and not found.startswith("'") else "' '") + lines

    return _TOKEN.sub(blank, text)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1
