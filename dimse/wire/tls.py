"""DICOM over TLS (PS3.15 B.12): 1.2 and 1.3 only, with the suites of BCP 195 (RFC 9325)."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import structlog

__all__ = [
    "ClientTls",
    "ServerTls",
    "TlsConfig",
    "TlsError",
    "client_context",
    "failure_of",
    "has_name",
    "subject_of",
]

log = structlog.get_logger(__name__)

ClientCertificates = Literal["none", "optional", "required"]

# RFC 9325 4.2.1: AES-GCM with ephemeral ECDH; TLS 1.3 has only suites that it allows.
SUITES = "ECDHE+AESGCM:!aNULL"
_WANTED = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_KINDS = {"IP Address": "IP"}


class TlsError(Exception):
    """A certificate, key or bundle cannot be used; the text says which file and why."""


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """What we show and whom we trust; PEM files.

    Attributes:
        certificate: Ours, with the intermediate ones after it.
        key: Its private key, without a passphrase.
        ca: Certificates that we trust: authorities, or single ones of peers.
        client_certificates: Whether a peer that calls must show one that `ca` vouches for.
    """

    certificate: Path
    key: Path
    ca: Path | None = None
    client_certificates: ClientCertificates = "none"


class ServerTls:
    """The server's side. Files are read again when they change; what is broken is not taken."""

    def __init__(self, config: TlsConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._stamp = self._look()
        self._context = _server_context(config)

    def context(self) -> ssl.SSLContext:
        """The context for the next connection."""
        with self._lock:
            stamp = self._look()
            if stamp != self._stamp:
                # Also when it fails: one message for each change, not for each connection.
                self._stamp = stamp
                try:
                    self._context = _server_context(self._config)
                    log.info("TLS certificate loaded", file=str(self._config.certificate))
                except TlsError as error:
                    log.error("TLS certificate not loaded, the old one stays", why=str(error))
            return self._context

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        files = (self._config.certificate, self._config.key, self._config.ca)
        return tuple(_stamp(file) for file in files if file is not None)


@dataclass(frozen=True, slots=True)
class ClientTls:
    """What we show when we call a peer, and whom we trust.

    Attributes:
        certificate: Ours for mutual authentication; None shows none.
        ca: As in TlsConfig; None trusts what the operating system trusts.
    """

    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None


def client_context(config: ClientTls, subject: str | None = None) -> ssl.SSLContext:
    """The context for a call to a peer.

    Args:
        config: Our files.
        subject: A name that the peer's certificate must have (`Peer.tls_subject`); without it the
            certificate must be for the host that is called.

    Raises:
        TlsError: a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    if subject is not None:
        context.check_hostname = False
        context.sslsocket_class = _named(subject)
    if config.certificate is not None:
        _load_pair(context, config.certificate, config.key or config.certificate)
    if config.ca is None:
        context.load_default_certs()
    else:
        _load_ca(context, config.ca)
    return context


def subject_of(connection: ssl.SSLSocket) -> str | None:
    """The names in the peer's verified certificate; None if it showed none.

    In the form `CN=CT 1, DNS=ct1.example, IP=10.1.0.7`.
    """
    certificate = connection.getpeercert()
    return ", ".join(_names(certificate)) if certificate else None


def has_name(subject: str | None, wanted: str) -> bool:
    """Whether a name is among those of `subject_of`: `CN=CT 1`, or just `CT 1` of any kind."""
    names = subject.split(", ") if subject else []
    wanted = _escaped(wanted)
    return any(wanted in (name, name.partition("=")[2]) for name in names)


def failure_of(error: OSError) -> str:
    """Why a handshake failed, for the log and the audit."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "unknown").lower().replace("_", " ")
        return "not a TLS connection" if reason in _NOT_TLS else f"TLS: {reason}"
    return f"connection lost ({type(error).__name__})"


_NOT_TLS = {"wrong version number", "http request", "https proxy request", "unknown protocol"}


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _server_context(config: TlsConfig) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    # No resumption: every association shows its certificate anew, and peers that wait in select()
    # are not woken by a ticket behind which nothing comes.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
    _load_pair(context, config.certificate, config.key)
    if config.client_certificates != "none":
        if config.ca is None:
            raise TlsError("client certificates need the authorities that issue them (tls_ca)")
        _load_ca(context, config.ca)
    context.verify_mode = _WANTED[config.client_certificates]
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(SUITES)
    context.options |= ssl.OP_NO_COMPRESSION
    # A bundle may hold a device's own certificate instead of an authority.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    for file in (certificate, key):
        _check_readable(file)
    try:
        # The empty answer turns a question for a passphrase into an error.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, OSError, ValueError) as error:
        why = getattr(error, "reason", None) or str(error)
        raise TlsError(
            f"{certificate} and {key} are not a certificate and its key without passphrase ({why})"
        ) from error


def _load_ca(context: ssl.SSLContext, bundle: Path) -> None:
    _check_readable(bundle)
    try:
        context.load_verify_locations(bundle)
    except (ssl.SSLError, OSError) as error:
        raise TlsError(f"{bundle} is not a bundle of PEM certificates") from error


def _check_readable(file: Path) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        raise TlsError(f"{file} cannot be read: {error.strerror}") from error


def _names(certificate: Any) -> Iterator[str]:
    for part in certificate.get("subject", ()):
        for kind, value in part:
            if kind == "commonName":
                yield f"CN={_escaped(value)}"
    for kind, value in certificate.get("subjectAltName", ()):
        yield f"{_KINDS.get(kind, kind)}={_escaped(str(value))}"


def _escaped(text: str) -> str:
    """Without what separates names or breaks a line: a name must not look like two."""
    return "".join(char if char.isprintable() and char != "," else "?" for char in text)


def _named(subject: str) -> type[ssl.SSLSocket]:
    class Named(ssl.SSLSocket):
        """Ends the handshake with an error unless the peer has the name that we expect."""

        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            if not has_name(subject_of(self), subject):
                raise ssl.SSLCertVerificationError(
                    f"the peer's certificate is for {subject_of(self)}, not for {subject}"
                )

    return Named
