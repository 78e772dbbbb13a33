"""Packages made of the one that was built: later versions, good and bad ones, without another build."""

import re
import shutil
from pathlib import Path

from rig import must

SUPERVISOR = "usr/sbin/tidegate"
WORKER = "usr/libexec/tidegate/tidegate-worker"
CONFFILE = "etc/tidegate/tidegate.json"

# The worker passes its check, so that the upgrade gets as far as it can, and then does what a bad version does.
CHECKED = '#!/bin/bash\nreal=/' + WORKER + '.real\n[[ ${1-} != --check ]] || exec "$real" "$@"\n'
CRASHES_AT_START = CHECKED + "kill -ABRT $$\n"
# Whoever ends it holds nothing of it, so that its death is seen.
CRASHES_IN_THE_PROBATION = CHECKED + """me=$$
(
  for fd in /proc/self/fd/*; do
    fd=${fd##*/}
    exec {fd}>&-
  done
  sleep 0.7
  kill -SEGV "$me"
) &
exec "$real" "$@"
"""

BAD = ("crashes at start", "crashes in the probation", "supervisor cannot run")


def field(deb, name):
    return must(["dpkg-deb", "-f", deb, name]).out.strip()


def versions(deb):
    """(of the package, of the programs) as it was built."""
    package = field(deb, "Version")
    return package, re.match(r"\d+\.\d+\.\d+", package).group()


# Compilers put the beginning of a short text into an instruction, and what is left of it into another.
WORD = 4


def next_version(program):
    """A later one that can be put into programs that are compiled already: only its first four letters differ."""
    numbers = [int(number) for number in program.split(".")]
    for place in range(2):
        later = numbers[:place] + [numbers[place] + 1] + numbers[place + 1:]
        text = ".".join(map(str, later))
        if len(text) == len(program) and text[WORD:] == program[WORD:]:
            return text
    raise ValueError(f"no version that follows {program} can take its place")


def with_version(octets, old, new):
    assert old.encode() in octets, f"a program does not know its version {old}"
    return octets.replace(old[:WORD].encode(), new[:WORD].encode())


def derive(deb, folder, name, *, bad=None, conffile_line=None):
    """The next version of `deb`. `bad`: one of BAD, what is wrong with it. `conffile_line`: is added to the conffile."""
    tree = Path(folder) / f"{name}.tree"
    must(["dpkg-deb", "-R", deb, tree])
    package, old = versions(deb)
    new = next_version(old)
    for program in (SUPERVISOR, WORKER):
        (tree / program).write_bytes(with_version((tree / program).read_bytes(), old, new))
    spoil(tree, bad)
    if conffile_line:
        with open(tree / CONFFILE, "a", encoding="utf-8") as file:
            file.write(conffile_line + "\n")
    control = (tree / "DEBIAN/control").read_text(encoding="utf-8")
    (tree / "DEBIAN/control").write_text(control.replace(f"Version: {package}", "Version: " + package.replace(old, new, 1)),
                                         encoding="utf-8")
    renew_sums(tree)
    target = Path(folder) / f"{name}.deb"
    must(["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, target])
    shutil.rmtree(tree)
    return target


def spoil(tree, bad):
    if bad in BAD[:2]:
        worker = tree / WORKER
        worker.rename(tree / (WORKER + ".real"))
        worker.write_text(CRASHES_AT_START if bad == BAD[0] else CRASHES_IN_THE_PROBATION, encoding="ascii")
        worker.chmod(0o755)
    elif bad == BAD[2]:
        lacks_a_library(tree / SUPERVISOR)
    else:
        assert bad is None, bad


def lacks_a_library(program):
    """As a program that was built for another release of the system: a library of it is not there."""
    octets = program.read_bytes()
    assert b"libc.so.6\0" in octets
    program.write_bytes(octets.replace(b"libc.so.6\0", b"libc.so.9\0"))


def unusable(deb, folder, program):
    """A Debian package again, with a program that cannot run."""
    tree = Path(folder) / f"{field(deb, 'Package')}.tree"
    must(["dpkg-deb", "-R", deb, tree])
    lacks_a_library(tree / program)
    renew_sums(tree)
    target = Path(folder) / f"{field(deb, 'Package')}-unusable.deb"
    must(["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, target])
    shutil.rmtree(tree)
    return target


def renew_sums(tree):
    done = must(["sh", "-c", 'cd "$1" && find . -type f ! -path "./DEBIAN/*" ! -path "./etc/*" -printf "%P\\0" | xargs -0 md5sum',
                 "sh", tree])
    (tree / "DEBIAN/md5sums").write_text(done.out, encoding="ascii")
