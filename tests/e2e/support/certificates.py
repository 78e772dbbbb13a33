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


def issue(folder, name, authority, *, subject=None, valid=("-days", "90"), usage="clientAuth"):
    """A certificate that `authority` (a Pair) has signed; for a client unless `usage` says otherwise."""
    pair = Pair(Path(folder) / f"{name}.pem", Path(folder) / f"{name}.key")
    subprocess.run(["openssl", "req", "-x509", "-nodes", *KEYS["ec"], "-keyout", pair.key, "-out", pair.cert, *valid, "-utf8",
                    "-CA", authority.cert, "-CAkey", authority.key, "-subj", subject or f"/CN={name}",
                    "-addext", "basicConstraints=critical,CA:FALSE", "-addext", f"extendedKeyUsage={usage}",
                    "-addext", f"subjectAltName=DNS:{name}"],
                   check=True, capture_output=True)
    pair.key.chmod(0o600)
    return pair


def make_ocsp(folder, name, authority, pair, *, days=7, status="V", about=None):
    """A file with the OCSP response of `authority` about `pair` (or about another of its certificates)."""
    subject = about or pair
    text = subprocess.run(["openssl", "x509", "-in", subject.cert, "-noout", "-serial"], check=True, capture_output=True,
                          text=True).stdout
    serial = text.strip().split("=")[1]
    index = Path(folder) / f"{name}.index"
    revoked = "250101000000Z" if status == "R" else ""
    index.write_text(f"{status}\t991231235959Z\t{revoked}\t{serial}\tunknown\t/CN={name}\n")
    request, response = Path(folder) / f"{name}.request", Path(folder) / f"{name}.ocsp"
    subprocess.run(["openssl", "ocsp", "-issuer", authority.cert, "-cert", subject.cert, "-no_nonce", "-reqout", request],
                   check=True, capture_output=True)
    limits = ["-ndays", str(days)] if days else []
    subprocess.run(["openssl", "ocsp", "-index", index, "-rsigner", authority.cert, "-rkey", authority.key, "-CA", authority.cert,
                    "-reqin", request, "-respout", response, *limits], check=True, capture_output=True)
    return response


def trusting(*pairs, version=None, alpn=None, own=None):
    """A client's context that trusts these certificates only. `own`: the client's, a Pair."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for pair in pairs:
        context.load_verify_locations(pair.cert)
    if version:
        context.minimum_version = context.maximum_version = version
    if own:
        context.load_cert_chain(own.cert, own.key)
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


@dataclass
class Authority:
    """Who signs certificates; its own is in `pair.cert`."""
    pair: Pair

    def sign(self, name, *hosts, valid=("-days", "30"), usage="serverAuth"):
        """A certificate for `hosts` (or `name`; "IP:..." for an address), with its key."""
        folder = self.pair.cert.parent
        pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
        names = ",".join(host if host.startswith("IP:") else f"DNS:{host}" for host in hosts or (name,))
        asked, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\nextendedKeyUsage={usage}\nbasicConstraints=CA:FALSE\n")
        subprocess.run(["openssl", "req", "-new", "-nodes", *KEYS["ec"], "-keyout", pair.key, "-out", asked, "-subj", f"/CN={name}"],
                       check=True, capture_output=True)
        subprocess.run(["openssl", "x509", "-req", "-in", asked, "-CA", self.pair.cert, "-CAkey", self.pair.key,
                        "-CAcreateserial", "-extfile", extensions, "-out", pair.cert, *valid], check=True, capture_output=True)
        pair.key.chmod(0o600)
        return pair


def make_authority(folder, name):
    pair = Pair(Path(folder) / f"{name}.pem", Path(folder) / f"{name}.key")
    subprocess.run(["openssl", "req", "-x509", "-nodes", *KEYS["ec"], "-keyout", pair.key, "-out", pair.cert, "-days", "90",
                    "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE"], check=True, capture_output=True)
    pair.key.chmod(0o600)
    return Authority(pair)


def serving(pair, clients=None, version=None, alpn=("http/1.1",)):
    """A server's context with this certificate; `clients`: the authority that clients must have theirs from."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    if version:
        context.minimum_version = context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if clients:
        context.load_verify_locations(clients.pair.cert)
        context.verify_mode = ssl.CERT_REQUIRED
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
