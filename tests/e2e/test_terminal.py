"""What a person at a terminal sees of a command: lines drawn in place, colour, Ctrl-C. The daemon is a script."""

import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import termios
import threading

import pytest

from support.daemon import BIN
from support.wait import PATIENCE, duration, until

TIDEGATE = str(BIN / "tidegate")
COLUMNS = 60
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class ScriptedDaemon:
    """A control socket; `script(command, say, left)` answers each command, where left() waits for the client to go."""

    def __init__(self, path, script):
        self.path = path
        self.script = script
        self.commands = []
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(path))
        self.listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client):
        with client:
            command = json.loads(client.recv(65536))
            self.commands.append(command)

            def say(kind, **fields):
                client.send(json.dumps({"v": 1, "type": kind, "fds": 0, **fields}).encode())
            try:
                self.script(command, say, lambda: client.recv(1))
            except OSError:
                pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Terminal:
    """A command at a terminal of COLUMNS columns; `text` is all that it wrote so far."""

    def __init__(self, arguments, **env):
        self.text = ""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 12, COLUMNS, 0, 0))
        clean = {key: value for key, value in os.environ.items() if key != "NO_COLOR" and not key.startswith("TIDEGATE_")}
        self.process = subprocess.Popen([TIDEGATE, *map(str, arguments)], stdin=slave, stdout=slave, stderr=slave,
                                        start_new_session=True, env={**clean, "TERM": "xterm", **env})
        os.close(slave)
        self.master = master
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        while True:
            try:
                octets = os.read(self.master, 65536)
            except OSError:
                break
            if not octets:
                break
            self.text += octets.decode()

    def wait(self):
        code = self.process.wait(20 * PATIENCE)
        self.reader.join(5)
        os.close(self.master)
        return code


@pytest.fixture
def daemon(tmp_path):
    made = []

    def make(script):
        made.append(ScriptedDaemon(tmp_path / "control.sock", script))
        return made[-1]
    yield make
    for one in made:
        one.close()


def draining(say, left):
    say("progress", phase="prepare", state="ok", text="generation 8: 4 workers ready", seconds=0.2)
    say("progress", phase="drain", state="running", text="generation 7: 13 of 412 left, oldest 4.1s, and more to say of it",
        seconds=1, limit_seconds=30)
    left()


def drained(say):
    say("progress", phase="drain", state="running", text="generation 7: 13 of 412 left", seconds=1, limit_seconds=30)
    say("progress", phase="drain", state="ok", text="412 connections", seconds=4)
    say("result", exit_code=0, message="Serving 1.1.0 (generation 8).", data={})


def test_the_running_line_is_drawn_in_place_and_never_wraps(daemon):
    terminal = Terminal(["upgrade", "--timeout", duration(0.7), "--socket", daemon(lambda _, say, left: draining(say, left)).path])
    assert terminal.wait() == 7
    # One screen line at a time, as often as it was drawn.
    drawn = [ESCAPE.sub("", part) for part in re.split(r"[\r\n]+", terminal.text) if "drain  " in part]
    assert len(drawn) >= 4, terminal.text
    assert all(len(line) < COLUMNS for line in drawn), drawn
    # From the one second that was told on, time goes on by itself.
    assert all(re.fullmatch(r"  \.\.\.   drain       generation 7.* [1-9]s/30s", line.rstrip()) for line in drawn), drawn
    assert terminal.text.count("drain  ") == len(drawn)
    assert "\n" in terminal.text.split("s/30s")[-1], "what follows stands on a line of its own"


def test_a_finished_phase_takes_the_place_of_its_running_line(daemon):
    terminal = Terminal(["upgrade", "--socket", daemon(lambda _, say, left: drained(say)).path])
    assert terminal.wait() == 0
    lines = [ESCAPE.sub("", line.split("\r")[-1]) for line in terminal.text.replace("\r\n", "\n").split("\n")]
    assert [line.split()[:2] for line in lines if line] == [["ok", "drain"], ["Serving", "1.1.0"]], terminal.text
    assert "\x1b[32mok\x1b[0m" in terminal.text


def test_no_color_is_obeyed_at_a_terminal(daemon):
    terminal = Terminal(["upgrade", "--socket", daemon(lambda _, say, left: drained(say)).path], NO_COLOR="1")
    assert terminal.wait() == 0
    assert not re.search(r"\x1b\[[0-9;]*m", terminal.text)


def test_ctrl_c_ends_only_the_display_of_an_upgrade(daemon):
    terminal = Terminal(["upgrade", "--socket", daemon(lambda _, say, left: draining(say, left)).path])
    until(lambda: "30s" in terminal.text, "the drain")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.wait() == -signal.SIGINT
    assert "upgrade goes on" in ESCAPE.sub("", terminal.text)


def status(say, number):
    say("result", exit_code=0, message="", data={"schema_version": 1, "version": "1.0.0", "state": "serving", "generation": number,
                                                 "listeners": [{"name": f"l{n}", "bind": ":1"} for n in range(40)]})


def test_watch_draws_again_over_the_old_until_ctrl_c(daemon):
    scripted = daemon(lambda _, say, left: status(say, len(scripted.commands)))
    terminal = Terminal(["status", "--watch", "--socket", scripted.path])
    until(lambda: len(re.findall("generation [12],", terminal.text)) == 2, "two frames")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.wait() == 0
    frames = terminal.text.split("\x1b[H")[1:]
    assert all(frame.count("\n") < 12 for frame in frames), "a frame is no longer than the screen"
    assert terminal.text.endswith("\x1b[?7h"), "wrapping is switched on again"


def test_watch_waits_for_a_daemon_that_comes_back(daemon):
    scripted = daemon(lambda _, say, left: None if len(scripted.commands) == 2 else status(say, len(scripted.commands)))
    terminal = Terminal(["status", "--watch", "--socket", scripted.path])
    until(lambda: "went away" in terminal.text and "generation 3," in terminal.text, "the daemon is back")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.wait() == 0


def test_a_reader_that_leaves_is_no_fault(daemon):
    read_end, write_end = os.pipe()
    os.close(read_end)
    scripted = daemon(lambda _, say, left: drained(say))
    done = subprocess.run([TIDEGATE, "upgrade", "--socket", str(scripted.path)], stdout=write_end, stderr=subprocess.PIPE,
                          check=False, timeout=20 * PATIENCE)
    os.close(write_end)
    assert done.returncode == 0 and done.stderr == b""


def test_stop_waits_until_the_process_is_gone(tmp_path):
    path = tmp_path / "control.sock"
    # Answers, and ends only when it is told to by its standard input.
    daemon = subprocess.Popen(["/usr/bin/python3", "-c", f"""
import json, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind({str(path)!r})
listener.listen()
print("listening", flush=True)
client, _ = listener.accept()
client.recv(65536)
client.send(json.dumps(dict(v=1, type="result", fds=0, exit_code=0, message="stopped", data={{}})).encode())
client.close()
print("answered", flush=True)
sys.stdin.read()
"""], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert daemon.stdout.readline() == b"listening\n"
    client = subprocess.Popen([TIDEGATE, "stop", "--socket", str(path)], stdout=subprocess.PIPE, text=True)
    assert daemon.stdout.readline() == b"answered\n"
    with pytest.raises(subprocess.TimeoutExpired):
        client.wait(0.3)
    daemon.communicate()
    assert client.wait(10 * PATIENCE) == 0
    assert client.stdout.read() == "stopped\n"
