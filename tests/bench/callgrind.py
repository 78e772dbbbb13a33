"""User instructions of the worker a request, by valgrind's callgrind: the real worker behind the real supervisor.

Time drifts with the machine, instructions do not. The load is that of the case "small": some requests, in a second run
more, and the difference is what a request costs; start and stop cancel out.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path

from processes import CORES, Fault, Process, free_port

# Requests of the first run, and how many more the second has.
FIRST, MORE = 500, 4000
CONNECTIONS = 64

VALGRIND = """#!/bin/sh
exec valgrind --tool=callgrind --callgrind-out-file={out}/profile.%p --log-file={out}/log.%p {worker} "$@"
"""


def make_programs(binaries, directory, wrapper=VALGRIND):
    """(the built supervisor in a folder where the worker beside it is run by a script, the folder for what that writes)"""
    programs, out = directory / "bin", directory / "out"
    programs.mkdir()
    out.mkdir()
    out.chmod(0o1777)  # the worker may run as another user
    tidegate, worker = programs / "tidegate", programs / "stripped-worker"
    # Stripped, because valgrind 3.19 cannot read the debug information of clang 19, and gives up.
    for source, target in ((binaries / "tidegate", tidegate), (binaries / "tidegate-worker", worker)):
        subprocess.run(["llvm-strip-19", "--strip-debug", "-o", target, source], check=True)
        target.chmod(0o755)
    script = programs / "tidegate-worker"
    script.write_text(wrapper.format(out=out, worker=worker))
    script.chmod(0o755)
    return tidegate, out


def instructions(tidegate, out, client, origin_port, how, requests):
    """What the worker executed in its life: started, `requests` requests, stopped."""
    directory = out.parent
    for old in out.iterdir():
        old.unlink()
    port = free_port()
    (directory / "tidegate.json").write_text(json.dumps({
        "listen": f"127.0.0.1:{port}", "upstream": f"127.0.0.1:{origin_port}", "workers": 1,
        "forwarded": {"via": False}, "upgrade": {"ready_timeout": "2m"}, "logging": {"level": "warn"}}))
    command = [tidegate, "--socket", directory / "control.sock", "-c", "tidegate.json", "run"]
    daemon = Process("tidegate", command, directory, CORES)
    try:
        daemon.wait_for_port(port, 60)
        done = subprocess.run([client, "requests", str(port), str(CONNECTIONS), str(requests), "/64", how], input="\n", text=True,
                              capture_output=True, timeout=120, check=True)
        account = json.loads(done.stdout.splitlines()[-1])
        if account["requests"] != requests or account["failed"] or account["failed_before"]:
            raise Fault(f"{account['failed']} of {requests} requests failed\n{daemon.log.read_text()[-2000:]}")
        daemon.popen.terminate()
        daemon.popen.wait(60)
    finally:
        daemon.stop()
    found = [re.search(r"Collected : (\d+)", log.read_text()) for log in out.glob("log.*")]
    if len(found) != 1 or not found[0]:
        raise Fault("valgrind gave no account:\n" + "\n".join(log.read_text()[-2000:] for log in out.glob("log.*")))
    return int(found[0].group(1))


def measure(binaries, programs, hows):
    """Instructions a request, for each way ("keep", "close") that the client treats its connection."""
    with tempfile.TemporaryDirectory(prefix="tidegate-instructions-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        tidegate, out = make_programs(binaries, directory)
        origin = Process("origin", [programs / "bench_origin"], directory, CORES, reads_output=True)
        try:
            port = int(origin.popen.stdout.readline())
            figures = {}
            for how in hows:
                few, many = (instructions(tidegate, out, programs / "bench_client", port, how, count)
                             for count in (FIRST, FIRST + MORE))
                figures[how] = round((many - few) / MORE)
            return figures
        finally:
            origin.stop()
