#!/usr/bin/python3
"""A small real origin for `./dev run` and for trying things by hand.

HTTP/1.1 with keep-alive, one thread a connection:
  GET  /anything      a file below --files (GET and HEAD, with a length)
  any  /echo          the request's body, with its length; no body: the request line and fields as text
  GET  /stream?n=5    n chunks, one each 100 ms, with a trailer
  GET  /ws            a WebSocket echo, if python3-websockets is installed
"""

import argparse
import http.server
import os
import select
import socket
import socketserver
import sys
import threading
import time
import urllib.parse

try:  # Its protocol layer does no input or output of its own, so one thread a connection is enough here as well.
    from websockets.frames import Opcode
    try:
        from websockets.server import ServerProtocol
    except ImportError:  # before websockets 11
        from websockets.server import ServerConnection as ServerProtocol
    HAS_WEBSOCKETS = True
except ImportError:
    HAS_WEBSOCKETS = False

PIECE_BYTES = 64 * 1024


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "tidegate-origin"
    timeout = 120  # seconds without a request on a connection
    # Heads and bodies are written apart; without this the second waits for the first's acknowledgement.
    disable_nagle_algorithm = True

    def do_GET(self):
        path = urllib.parse.urlsplit(self.path)
        if path.path == "/echo":
            self.echo()
        elif path.path == "/stream":
            self.stream(int(urllib.parse.parse_qs(path.query).get("n", ["5"])[0]))
        elif path.path == "/ws":
            self.websocket()
        else:
            super().do_GET()

    def do_HEAD(self):
        super().do_HEAD()

    def do_POST(self):
        if urllib.parse.urlsplit(self.path).path == "/echo":
            self.echo()
        else:
            for _ in self.body():
                pass
            self.send_error(405)

    do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_POST

    def body(self):
        """The pieces of the request's body, as they come."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                if size == 0:
                    break
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline() not in (b"\r\n", b"\n", b""):
                pass
            return
        left = int(self.headers.get("Content-Length", "0"))
        while left > 0:
            piece = self.rfile.read(min(left, PIECE_BYTES))
            if not piece:
                self.close_connection = True
                return
            left -= len(piece)
            yield piece

    def echo(self):
        length = self.headers.get("Content-Length")
        chunked = "Transfer-Encoding" in self.headers
        if length is None and not chunked:
            text = (self.requestline + "\n" + str(self.headers)).encode("latin-1")
            self.start_answer({"Content-Type": "text/plain; charset=latin-1", "Content-Length": str(len(text))})
            self.wfile.write(text)
            return
        self.start_answer({"Content-Length": length} if length is not None else {"Transfer-Encoding": "chunked"})
        for piece in self.body():
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def stream(self, count):
        self.start_answer({"Content-Type": "text/plain", "Transfer-Encoding": "chunked", "Trailer": "X-Count"})
        for number in range(count):
            line = b"line %d\n" % number
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            time.sleep(0.1)
        self.wfile.write(b"0\r\nX-Count: %d\r\n\r\n" % count)

    def websocket(self):
        if not HAS_WEBSOCKETS:
            self.send_error(501, "python3-websockets is not installed")
            return
        if self.headers.get("Upgrade", "").lower() != "websocket" or self.request_version != "HTTP/1.1":
            self.send_error(426)
            return
        self.close_connection = True
        protocol = ServerProtocol(max_size=None)
        # http.server has consumed the head; the protocol parses it again.
        head = [self.requestline] + [f"{name}: {value}" for name, value in self.headers.items()]
        protocol.receive_data("\r\n".join(head + ["", ""]).encode("latin-1"))
        opening, kind, fragments = True, None, []
        while True:
            for event in protocol.events_received():
                if opening:
                    protocol.send_response(protocol.accept(event))
                    opening = False
                elif event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                    if event.opcode is not Opcode.CONT:
                        kind = event.opcode
                    fragments.append(bytes(event.data))
                    if event.fin:
                        message = b"".join(fragments)
                        fragments = []
                        if kind is Opcode.TEXT:
                            protocol.send_text(message)
                        else:
                            protocol.send_binary(message)
            for data in protocol.data_to_send():
                if data:
                    self.wfile.write(data)
                else:
                    self.connection.shutdown(socket.SHUT_WR)
            if protocol.close_expected() and not select.select([self.connection], [], [], 10)[0]:
                return
            data = self.rfile.read1(PIECE_BYTES)
            if not data:
                protocol.receive_eof()
                return
            protocol.receive_data(data)

    def start_answer(self, fields):
        self.send_response(200)
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()

    def list_directory(self, path):
        self.send_error(404)

    def log_message(self, format, *args):
        if self.server.verbose:
            super().log_message(format, *args)


class Origin(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Serves until shutdown(). `address` of port 0 takes any free port; see server_port."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, address, files, verbose=False):
        self.verbose = verbose
        super().__init__(address, lambda *args: Handler(*args, directory=files))

    def server_bind(self):
        # HTTPServer asks the resolver for its own name here, which can take seconds where there is none.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--files", default=".", help="the folder that is served")
    arguments.add_argument("--port", type=int, default=0, help="of 127.0.0.1; 0 takes any free one")
    arguments.add_argument("--port-file", help="gets the port when the origin listens")
    arguments.add_argument("--verbose", action="store_true", help="one line a request on standard error")
    given = arguments.parse_args()
    origin = Origin(("127.0.0.1", given.port), os.path.abspath(given.files), given.verbose)
    print(f"origin on 127.0.0.1:{origin.server_port}", flush=True)
    if given.port_file:
        with open(given.port_file + ".new", "w", encoding="ascii") as file:
            file.write(str(origin.server_port))
        os.rename(given.port_file + ".new", given.port_file)
    threading.current_thread().name = "origin"
    origin.serve_forever()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
