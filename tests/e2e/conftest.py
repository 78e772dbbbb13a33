"""Fixtures of the end-to-end tests: a Tidegate, an origin, and the promise that nothing is left behind."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from support import report  # noqa: E402
from support.daemon import BIN, Tidegate, basic  # noqa: E402
from support.origin import Origin  # noqa: E402


def pytest_collection_modifyitems(items):
    # Cheap themes first: a broken build is told within seconds.
    late = ("test_bulk", "test_torture")
    items.sort(key=lambda item: item.module.__name__ in late)


def pytest_terminal_summary(terminalreporter):
    figures = report.lines(one for reports in terminalreporter.stats.values() for one in reports)
    if figures:
        terminalreporter.section("figures")
        for line in figures:
            terminalreporter.write_line(line)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    item.user_properties += report.properties()
    outcome = yield
    result = outcome.get_result()
    setattr(item, "report_" + result.when, result)


@pytest.fixture(scope="session", autouse=True)
def binaries():
    for name in ("tidegate", "tidegate-worker"):
        if not (BIN / name).exists():
            pytest.exit(f"{BIN / name} is not there; build first or set TIDEGATE_BIN_DIR", returncode=2)


@pytest.fixture
def make_origin(tmp_path_factory):
    """Origins beyond the first: `make_origin()`, `make_origin(path=...)`."""
    made = []

    def make(**options):
        made.append(Origin(**options))
        return made[-1]
    yield make
    for one in made:
        one.close()
    for one in made:
        assert not one.faults, f"a script of the origin failed: {one.faults[0]!r}"


@pytest.fixture
def origin(make_origin):
    return make_origin()


@pytest.fixture
def launch(request):
    """`launch(config, **options)` starts a Tidegate; at the end all of them must go without a trace."""
    running = []

    def start(config, ready=True, **options):
        # Known before it is waited for: one that never gets ready must go too.
        running.append(Tidegate(config, ready=False, **options))
        return running[-1].wait_ready() if ready else running[-1]
    yield start
    faults = [fault for one in running for fault in one.close()]
    result = getattr(request.node, "report_call", None)
    for one in running:
        if faults or (result and result.failed):
            print(f"--- stderr of {one.directory} ---\n{one.stderr[-6000:]}")
        one.remove()
    assert not faults, "\n".join(faults)


@pytest.fixture
def proxy(launch, origin):
    """`proxy(**changes)`: a Tidegate in front of `origin`."""
    return lambda **changes: launch(basic(origin.address, **changes))


@pytest.fixture
def tidegate(proxy):
    """A Tidegate in front of `origin`, nothing special configured."""
    return proxy()
