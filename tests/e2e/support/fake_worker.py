#!/usr/bin/python3
"""A worker that serves nobody and says what a test wants it to: copied_binaries(..., worker=FAKE_WORKER).

It runs where the daemon does (its working directory is the daemon's). What it hears goes to the file heard.GENERATION.SLOT,
one JSON object a line, with the kinds of the descriptors that came along. The file say.GENERATION.SLOT holds what it says
from the drain on, one JSON object a line; lines that a test adds are said when they come. {"type": "exit"} ends it with 0,
{"type": "die"} as a crash does, {"type": "usurp", "socket": PATH, "binary": PATH} after many commands to the daemon."""

import json
import os
import select
import signal
import socket
import stat
import sys

KINDS = {stat.S_IFSOCK: "socket", stat.S_IFIFO: "pipe", stat.S_IFREG: "file", stat.S_IFCHR: "device"}


def receive(channel):
    record, ancillary, _, _ = channel.recvmsg(1 << 20, socket.CMSG_SPACE(253 * 4))
    fds = [int.from_bytes(data[at:at + 4], sys.byteorder)
           for _, _, data in ancillary for at in range(0, len(data) - 3, 4)]
    if not record:
        return None, fds
    message = json.loads(record)
    if message.get("memfd"):
        payload = fds.pop(0)
        message = json.loads(os.pread(payload, os.fstat(payload).st_size, 0))
        os.close(payload)
    return message, fds


def send(channel, **fields):
    channel.send(json.dumps({"v": 1, "fds": 0, **fields}).encode())


def answer(channel, message):
    """What every worker must say so that its supervisor goes on."""
    kind = message["type"]
    if kind in ("prepare", "commit"):
        send(channel, type={"prepare": "prepared", "commit": "committed"}[kind], id=message["id"])
    elif kind == "drop_listeners":
        send(channel, type="released", listeners=message["listeners"])
    elif kind == "query":
        send(channel, type="answer", id=message["id"], data=None)


def usurp(path, binary):
    command = {"type": "command", "command": "upgrade", "args": {"binary": binary, "force": True}}
    for _ in range(60):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.connect(path)
        send(client, **command)
        client.detach()
    os._exit(0)


def say(channel, lines):
    for line in lines:
        said = json.loads(line)
        if said["type"] == "exit":
            os._exit(0)
        if said["type"] == "usurp":
            usurp(said["socket"], said["binary"])
        if said["type"] == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        send(channel, **said)


def main():
    if sys.argv[1:2] == ["--check"]:
        return
    channel = socket.socket(fileno=3)
    send(channel, type="hello", pid=os.getpid(), version="fake", protocol=1)
    name, heard, draining, told = "", None, False, 0
    while True:
        if select.select([channel], [], [], 0.02)[0]:
            message, fds = receive(channel)
            if message is None:
                return
            if message["type"] == "init":
                name = f"{message['generation']}.{message['slot']}"
                heard = open(f"heard.{name}", "a", buffering=1)
            message["kinds"] = [KINDS.get(stat.S_IFMT(os.fstat(fd).st_mode), "other") for fd in fds]
            for fd in fds:
                os.close(fd)
            heard.write(json.dumps(message) + "\n")
            answer(channel, message)
            draining = draining or message["type"] == "drain"
        if draining and os.path.exists(f"say.{name}"):
            with open(f"say.{name}", encoding="utf-8") as script:
                lines = script.read().split("\n")[:-1]
            say(channel, lines[told:])
            told = len(lines)


if __name__ == "__main__":
    main()
