"""The next version of the .rpm that was built: the same spec with the files of that one, so that nothing is compiled again."""

import functools
import re
import shutil
from pathlib import Path

from repack import SUPERVISOR, WORKER, next_version, spoil, with_version
from rig import ROOT, must

SPEC = ROOT / "packaging/rpm/tidegate.spec.in"


def version_of(rpm):
    return must(["rpm", "-qp", "--qf", "%{VERSION}", rpm]).out.strip()


@functools.lru_cache(maxsize=None)
def derive(rpm, folder, bad):
    """As repack.derive, of an .rpm. `bad`: None, or one of repack.BAD."""
    top = Path(folder) / f"rpm-{(bad or 'good').replace(' ', '-')}"
    files = top / "files"
    files.mkdir(parents=True)
    must(["sh", "-c", 'rpm2cpio "$1" | cpio --quiet -idm -D "$2"', "sh", rpm, files])
    shutil.rmtree(files / "usr/lib/.build-id", ignore_errors=True)  # rpmbuild's own, for debuggers
    old = version_of(rpm)
    new = next_version(old)
    for program in (SUPERVISOR, WORKER):
        (files / program).write_bytes(with_version((files / program).read_bytes(), old, new))
    spoil(files, bad)
    spec = SPEC.read_text(encoding="utf-8").replace("@VERSION@", new).replace("@DATE@", "Thu Jan 01 2026")
    # Its sections %prep to %install make way for the files.
    spec = re.sub(r"^%prep\n.*?(?=^%pre\n)", f"%install\ncp -a {files}/. %{{buildroot}}\n\n", spec, flags=re.DOTALL | re.MULTILINE)
    # The license and the documentation lie there already, and are no files of a source tree here.
    spec = spec.replace("%license LICENSE\n%doc README.md CHANGELOG.md\n", "%{_datadir}/licenses/*\n%{_datadir}/doc/*\n")
    spec = spec.replace("%{_datadir}/doc/tidegate/examples\n", "")
    (top / "tidegate.spec").write_text(spec, encoding="utf-8")
    must(["rpmbuild", "-bb", "--nodeps", "--define", f"_topdir {top}", "--define", "__os_install_post %{nil}",
          "--define", "_build_id_links none", top / "tidegate.spec"])
    (built,) = (top / "RPMS").glob("*/*.rpm")
    return Path(shutil.move(built, Path(folder) / f"tidegate-{new}-{top.name}.rpm"))
