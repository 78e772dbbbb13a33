"""Upgrades that fail where a test wants it: a file `tidegate.fault` beside the new binary says where and how, point:action
(common/test_fault.h)."""

from support.daemon import BIN, basic, copied_binaries
from support.ports import free_port
from support.processes import executable
from support.wait import duration, until

FAULTS = {"TIDEGATE_TEST_FAULTS": "1"}


class Upgrade:
    """A Tidegate and a next binary that will fail."""

    def __init__(self, launch, origin, env=None, **changes):
        settings = {"ready_timeout": duration(1), "probation": "600ms", "drain": "2s", "drain_tunnels": "2s"}
        config = basic(origin.address, workers=2, upgrade={**settings, **changes.pop("upgrade", {})}, **changes)
        config["listeners"] = [{"name": "web", "bind": f"127.0.0.1:{free_port()}"}]
        self.tidegate = launch(config, env={**FAULTS, **(env or {})})
        # Where a worker that runs as nobody can read the fault.
        self.binary = copied_binaries(self.tidegate.directory / "next")
        self.workers = self.tidegate.workers()

    def fault(self, fault):
        (self.binary.parent / "tidegate.fault").write_text(fault)

    def run(self, *more):
        return self.tidegate.cli("upgrade", "--binary", self.binary, *more, seconds=60)

    def unchanged(self):
        """Nothing visible has changed: binary, generation, workers, listeners; a later upgrade succeeds."""
        tidegate = self.tidegate
        status = tidegate.wait_generations(1)
        assert status["pid"] == tidegate.pid
        assert executable(tidegate.pid) == str(BIN / "tidegate"), "the supervisor is back at the old image"
        assert tidegate.workers() == self.workers, "the old workers are untouched"
        until(lambda: set(tidegate.processes()) == {tidegate.pid, *self.workers}, "no process of the failed generation")

    def only_current_processes(self):
        """What a dead supervisor left has ended; only the new one and its workers are there."""
        tidegate = self.tidegate
        until(lambda: set(tidegate.processes()) == {tidegate.pid, *tidegate.workers()}, "the orphans to end", 30)

    def works_afterwards(self):
        """The same upgrade without the fault succeeds."""
        (self.binary.parent / "tidegate.fault").unlink(missing_ok=True)
        outcome = self.run()
        assert outcome.code == 0, outcome.text
        self.tidegate.wait_generations(1)
        assert executable(self.tidegate.pid) == str(self.binary)
