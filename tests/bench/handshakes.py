#!/usr/bin/python3
"""TLS handshakes, one after the other; or connections that stay open after theirs, with the steps and waits of client.cpp.

    handshakes.py full|resumed PORT SECONDS
    handshakes.py idle PORT COUNT PATH
    handshakes.py requests PORT CONNECTIONS COUNT PATH tls

TLS 1.3 only. A handshake is complete when the server has sent its tickets and seen our end.
"""

import json
import socket
import ssl
import sys
import time

MODE, PORT = sys.argv[1], int(sys.argv[2])

CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CONTEXT.check_hostname = False
CONTEXT.verify_mode = ssl.CERT_NONE
CONTEXT.minimum_version = ssl.TLSVersion.TLSv1_3


def connect(session=None):
    plain = socket.create_connection(("127.0.0.1", PORT), 10)
    return CONTEXT.wrap_socket(plain, server_hostname="localhost", session=session)


def send(stream, path):
    stream.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


def take_answer(stream):
    answer = b""
    while b"xxxx" not in answer:
        piece = stream.recv(65536)
        if not piece:
            raise OSError("closed before its answer")
        answer += piece
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise OSError("not answered with 200")


def ask(stream, path):
    send(stream, path)
    take_answer(stream)


def step(name):
    """Says where we are, and waits for a line."""
    print(name, flush=True)
    sys.stdin.readline()


def report(begun, micros, failed):
    micros.sort()

    def percentile(share):
        return micros[min(int(share * len(micros)), len(micros) - 1)] if micros else 0
    print(json.dumps({"requests": len(micros), "failed": failed, "seconds": time.monotonic() - begun, "octets": 0,
                      "p50_us": percentile(0.5), "p99_us": percentile(0.99), "p999_us": percentile(0.999)}))


def handshake(session):
    """False: it was to be resumed and was not."""
    stream = connect(session)
    resumed = stream.session_reused
    # Our end goes out without an alert, and what comes is not looked at: the server is what is measured.
    with socket.socket(fileno=stream.detach()) as plain:
        plain.settimeout(10)
        plain.shutdown(socket.SHUT_WR)
        while plain.recv(65536):
            pass
    return resumed or session is None


def handshakes(seconds):
    session = None
    if MODE == "resumed":
        with connect() as stream:
            ask(stream, "/64")
            session = stream.session
    begun, micros, failed = time.monotonic(), [], 0
    while time.monotonic() - begun < seconds:
        at = time.monotonic()
        try:
            failed += not handshake(session)
        except OSError:
            failed += 1
        micros.append(int(1e6 * (time.monotonic() - at)))
    report(begun, micros, failed)


def idle(count, path):
    held, failed = [], 0
    for _ in range(count):
        try:
            held.append(connect())
        except OSError:
            failed += 1
    step("open")
    for stream in held:
        try:
            ask(stream, path)
        except OSError:
            failed += 1
    step("asked")
    report(time.monotonic(), [], failed)


def requests(connections, count, path):
    """Each turn asks on all connections, then reads all answers."""
    held = [connect() for _ in range(connections)]
    for stream in held:
        ask(stream, path)
    step("ready")
    begun, left, micros = time.monotonic(), count, []
    while left > 0:
        at, turn = time.monotonic(), held[:left]
        for stream in turn:
            send(stream, path)
        for stream in turn:
            take_answer(stream)
            micros.append(int(1e6 * (time.monotonic() - at)))
        left -= len(turn)
    report(begun, micros, 0)


if MODE == "requests":
    requests(int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
elif MODE == "idle":
    idle(int(sys.argv[3]), sys.argv[4])
else:
    handshakes(float(sys.argv[3]))
