"""Certificates for tests, made on the spot: an authority and what it signs."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Pair:
    """Files of a certificate and its key, and its serial number."""

    certificate: Path
    key: Path
    serial: int


class Authority:
    """Signs certificates; its own is in `bundle`."""

    def __init__(self, folder: Path, name: str = "Test CA") -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        self.bundle = folder / f"{name.replace(' ', '-')}.pem"
        own = _builder(self._name, self._name, self._key, _days(-1), _days(1))
        own = own.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        _write(self.bundle, own.sign(self._key, hashes.SHA256()))

    def issue(self, name: str, *hosts: str, days: tuple[int, int] = (-1, 1)) -> Pair:
        """A certificate for a common name and host names or addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_named(name), self._name, key, *map(_days, days))
        if hosts:
            names = [_host(host) for host in hosts]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        made = builder.sign(self._key, hashes.SHA256())
        stem = f"{name.replace(' ', '-')}-{made.serial_number % 10**8}"
        pair = Pair(
            self.folder / f"{stem}.pem", self.folder / f"{stem}.key.pem", made.serial_number
        )
        _write(pair.certificate, made)
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return pair


def as_client(pair=None, ca=None, **changes):
    """A client of no particular manners: it believes every server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    for name, value in changes.items():
        setattr(context, name, value)
    return context


def _builder(subject, issuer, key, begin, end):
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _days(days: int) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)


def _write(file: Path, certificate: x509.Certificate) -> None:
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
