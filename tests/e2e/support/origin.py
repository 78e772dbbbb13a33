"""The programmable origin: does what a test's script says, octet for octet, and records all that it receives.

Each connection runs the next script of `scripts`, or `serve`, in a thread of its own. Scripts wait for events of the
test, never for time."""

import os
import socket
import threading

from support.wait import PATIENCE, until
from support.wire import Ended, Wire, framing_of, parse_request


class Peer(Wire):
    """One connection that the proxy opened to the origin."""

    def __init__(self, sock, origin, number):
        super().__init__(sock, seconds=30.0)
        self.origin = origin
        self.number = number  # 0 for the first connection of this origin
        self.finished = threading.Event()
        self.tls_done = threading.Event()
        self.tls_fault = None
        self.tls_resumed = None

    def request_head(self):
        """The next request's head, recorded; its body is unread."""
        request = parse_request(self.head())
        request.framing, request.length = framing_of(request)
        request.connection = self.number
        self.origin.requests.append(request)
        return request

    def request(self):
        """The next request with its body."""
        request = self.request_head()
        return self.body_of(request, request.framing, request.length)

    def answer(self, status=200, body=b"hello\n", *fields, length=True):
        """A whole response. `fields` are "Name: value" lines."""
        octets = body.encode() if isinstance(body, str) else body
        lines = [f"HTTP/1.1 {status} Reason"] + list(fields)
        if length and status not in (204, 304) and status >= 200:
            lines.append(f"Content-Length: {len(octets)}")
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + octets)

    def wait(self, event):
        assert event.wait(30 * PATIENCE), "the test never set the event that the origin's script waits for"


def serve(peer):
    """The default script: every request gets 200 from `origin.handler`, the connection is kept."""
    while True:
        request = peer.request()
        peer.origin.handler(peer, request)


def hello(peer, request):
    if request.method == "HEAD":
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
    else:
        peer.answer()


class Origin:
    def __init__(self, path=None, handler=hello, backlog=512, at=("127.0.0.1", 0), tls=None):
        """`tls`: the ssl context of a server. Peers whose handshake failed have `tls_fault`."""
        self.tls = tls
        if path:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(str(path))
            os.chmod(path, 0o777)
            self.address = f"unix:{path}"
        else:
            self.listener = socket.socket(socket.AF_INET)
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listener.bind(at)
            self.address = "%s:%d" % self.listener.getsockname()
        self.listener.listen(backlog)
        self.handler = handler
        self.scripts = []
        self.script = serve  # when `scripts` is empty
        self.requests = []
        self.peers = []
        self.faults = []
        self._closing = False
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def next(self, *scripts):
        """The next connections run `scripts`, one each."""
        self.scripts += scripts

    def forever(self, script):
        """Every further connection runs `script`."""
        self.script = script

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            if self._closing:
                sock.close()
                return
            peer = Peer(sock, self, len(self.peers))
            self.peers.append(peer)
            script = self.scripts.pop(0) if self.scripts else self.script
            threading.Thread(target=self._run, args=(peer, script), daemon=True).start()

    def _run(self, peer, script):
        try:
            if self.tls and not self._shake(peer):
                return
            script(peer)
        except (Ended, OSError) as gone:
            peer.gone = gone  # the proxy closed: the ordinary end of a script that reads on
        except Exception as fault:  # pylint: disable=broad-except
            if not self._closing:
                self.faults.append(fault)
        finally:
            peer.close()
            peer.finished.set()

    def _shake(self, peer):
        """The handshake of a server. False, and `tls_fault` is set: it failed."""
        sock = self.tls.wrap_socket(peer.sock, server_side=True, do_handshake_on_connect=False)
        peer.sock = sock
        try:
            sock.do_handshake()
        except OSError as fault:
            peer.tls_fault = fault
            return False
        peer.tls_resumed = sock.session_reused
        peer.tls_done.set()
        return True

    def wait_requests(self, count, seconds=15.0):
        """Until at least `count` request heads have arrived."""
        until(lambda: len(self.requests) >= count, lambda: f"{count} requests at the origin, {len(self.requests)} came",
              seconds)
        return self.requests

    def wait_peers(self, count, seconds=15.0):
        until(lambda: len(self.peers) >= count, lambda: f"{count} connections at the origin, {len(self.peers)} came",
              seconds)
        return self.peers

    def refuse(self):
        """Stops listening: further connects are refused. The port stays known."""
        self.listener.shutdown(socket.SHUT_RDWR)
        # As long as it may be about to accept, the number of the descriptor must not become another's.
        self._acceptor.join()
        self.listener.close()

    def close(self):
        self._closing = True
        try:
            self.refuse()
        except OSError:
            pass
        for peer in self.peers:
            try:
                peer.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def closed_port():
    """The address of a port that refuses connections: bound and never listened on, so nobody else can take it."""
    holder = socket.socket(socket.AF_INET)
    holder.bind(("127.0.0.1", 0))
    return holder, "127.0.0.1:%d" % holder.getsockname()[1]


def black_hole():
    """A listener whose queue is full and that never accepts: connects hang until they time out."""
    listener = socket.socket(socket.AF_INET)
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket(socket.AF_INET)
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    return [listener, *fillers], "127.0.0.1:%d" % listener.getsockname()[1]
