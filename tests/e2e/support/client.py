"""The raw client: sends the octets that a test says, reads responses strictly."""

import socket

from support.wait import PATIENCE
from support.wire import Wire, framing_of, parse_response


def connect(address, seconds=15.0, receive_buffer=None):
    """A socket to ("host", port), "host:port" or "unix:/path"."""
    if isinstance(address, str) and address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(seconds * PATIENCE)
        sock.connect(address[5:])
        return sock
    if isinstance(address, str):
        host, _, port = address.rpartition(":")
        address = (host.strip("[]"), int(port))
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(seconds * PATIENCE)
    sock.connect(address)
    return sock


class Client(Wire):
    """One downstream connection."""

    def __init__(self, address, seconds=15.0, receive_buffer=None):
        super().__init__(connect(address, seconds, receive_buffer), seconds)

    @property
    def port(self):
        """Our own port: how the proxy's logs and the kernel's tables call this connection."""
        return self.sock.getsockname()[1]

    def interim(self):
        """The next head, which must be a 1xx."""
        response = parse_response(self.head())
        assert 100 <= response.status < 200, f"expected 1xx, got {response.start}"
        return response

    def response_head(self, to="GET"):
        """The next final head, its body unread; 1xx before it are collected in `interims`."""
        interims = []
        while True:
            response = parse_response(self.head())
            if response.status >= 200 or response.status == 101:
                response.interims = interims
                response.framing, response.length = framing_of(response, response.status, to)
                return response
            interims.append(response)

    def response(self, to="GET"):
        """The next final response with its body."""
        response = self.response_head(to)
        if response.status == 101:
            return response
        return self.body_of(response, response.framing, response.length)

    def get(self, target="/", *fields, host="test"):
        """One GET and its answer."""
        self.send(request("GET", target, *fields, host=host))
        return self.response()


def request(method="GET", target="/", *fields, body=None, host="test", version="HTTP/1.1"):
    """The octets of a request. `fields` are "Name: value" lines; a body brings its Content-Length."""
    lines = [f"{method} {target} {version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    lines += fields
    octets = body.encode() if isinstance(body, str) else body
    if octets is not None:
        lines.append(f"Content-Length: {len(octets)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (octets or b"")


def chunk(octets):
    """`octets` as one chunk; b"" is the last chunk without its final empty line."""
    return b"%x\r\n" % len(octets) + (octets + b"\r\n" if octets else b"")
