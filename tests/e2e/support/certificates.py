"""Certificates and TLS clients for tests. The openssl command makes them; Python's ssl module speaks."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from support.client import Client

KEYS = {"ec": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "rsa": ["-newkey", "rsa:2048"]}


@dataclass
class Pair:
    """A self-signed certificate with its key, both in PEM."""
    cert: Path
    key: Path

    def entry(self, *hosts):
        """What stands for it in "certificates"."""
        entry = {"cert": str(self.cert), "key": {"file": str(self.key)}}
        return {"hosts": list(hosts), **entry} if hosts else entry


def make_pair(folder, name, *hosts, kind="ec", valid=("-days", "90")):
    """`valid`: what openssl is told about the dates."""
    pair = Pair(Path(folder) / f"{name}.pem", Path(folder) / f"{name}.key")
    hosts = hosts or (name,)
    subprocess.run(["openssl", "req", "-x509", "-nodes", *KEYS[kind], "-keyout", pair.key, "-out", pair.cert, *valid,
                    "-subj", f"/CN={hosts[0]}", "-addext", "subjectAltName=" + ",".join(f"DNS:{host}" for host in hosts)],
                   check=True, capture_output=True)
    pair.key.chmod(0o600)
    return pair


def trusting(*pairs, version=None, alpn=None):
    """A client's context that trusts these certificates only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for pair in pairs:
        context.load_verify_locations(pair.cert)
    if version:
        context.minimum_version = context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


class TlsClient(Client):
    """One downstream connection with TLS; the handshake is over when it is made."""

    def __init__(self, address, context, name, session=None, seconds=15.0):
        super().__init__(address, seconds)
        self.sock = context.wrap_socket(self.sock, server_hostname=name, session=session)

    @property
    def subject(self):
        """The common name of the server's certificate."""
        return dict(field[0] for field in self.sock.getpeercert()["subject"])["commonName"]


