"""What /proc says: the processes of a session, their descriptors, their memory, their privileges."""

import os


def stat_of(pid):
    """(name, state, parent, session) of `pid`, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            text = file.read()
    except OSError:
        return None
    name, rest = text[text.index("(") + 1:].rsplit(") ", 1)
    fields = rest.split()
    return name, fields[0], int(fields[1]), int(fields[3])


def in_session(session):
    """The living (not zombie) processes of that session: they stay in it when their parent dies."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            stat = stat_of(int(entry))
            if stat and stat[3] == session and stat[1] != "Z":
                found.append(int(entry))
    return sorted(found)


def alive(pid):
    stat = stat_of(pid)
    return stat is not None and stat[1] not in "ZX"


def stopped(pid):
    stat = stat_of(pid)
    return stat is not None and stat[1] == "T"


def executable(pid):
    """What it executes, or "" when it is gone."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def descriptors(pid):
    """{fd: what it leads to} of `pid`."""
    found = {}
    for entry in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(entry)] = os.readlink(f"/proc/{pid}/fd/{entry}")
        except OSError:
            pass
    return found


def status_field(pid, name):
    """A line of /proc/PID/status, for example Uid, CapEff, NoNewPrivs, VmHWM."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key == name:
                return value.strip()
    raise AssertionError(f"/proc/{pid}/status has no {name}")


def resident_bytes(pid, peak=False):
    return int(status_field(pid, "VmHWM" if peak else "VmRSS").split()[0]) * 1024


def client_ports(pid, server_port):
    """The remote ports of the connections to `server_port` on 127.0.0.1 that `pid` holds. Stop it first to be exact."""
    held = {target[8:-1] for target in descriptors(pid).values() if target.startswith("socket:[")}
    ports = set()
    with open("/proc/net/tcp", encoding="ascii") as file:
        next(file)
        for line in file:
            columns = line.split()
            local, remote, inode = columns[1], columns[2], columns[9]
            if inode in held and int(local.split(":")[1], 16) == server_port:
                ports.add(int(remote.split(":")[1], 16))
    return ports
