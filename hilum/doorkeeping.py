"""Who may open associations with us, and how we speak TLS: from the settings."""

from __future__ import annotations

from access.users import Users
from dimse.association.admission import Admission, AdmissionConfig
from dimse.association.identity import Identities
from dimse.peer_table import PeerTable
from dimse.peers import Peers
from dimse.wire.tls import ClientTls, ServerTls, TlsConfig, TlsError
from hilum import wiring
from hilum.settings import Settings, SettingsError


def admission(settings: Settings) -> Admission:
    """Who may open associations; close it at the end."""
    dsn = wiring.database_url(settings)
    part = settings.dimse
    unknown = part.unknown_callers
    config = AdmissionConfig(
        ae_title=part.ae_title,
        check_called_ae=part.check_called_ae,
        unknown_callers=None if unknown is None else frozenset(unknown),
        require_identity=part.require_identity,
    )
    identities = Identities(Users(dsn), wiring.token_authority(settings))
    return Admission(config, PeerTable(Peers(dsn).dsn), identities)


def server_tls(settings: Settings) -> ServerTls | None:
    """How we answer TLS; None without a TLS port.

    Raises:
        SettingsError: a file is missing or wrong, or no port is left open.
    """
    part = settings.dimse
    if part.tls_port is None:
        if not part.plain:
            raise SettingsError(
                "dimse.plain is off and dimse.tls_port is not set: no port would be open"
            )
        return None
    if part.tls_certificate is None or part.tls_key is None:
        raise SettingsError("dimse.tls_port needs dimse.tls_certificate and dimse.tls_key")
    config = TlsConfig(
        part.tls_certificate, part.tls_key, part.tls_ca, part.tls_client_certificates
    )
    try:
        return ServerTls(config)
    except TlsError as error:
        raise SettingsError(f"DICOM over TLS: {error}") from error


def client_tls(settings: Settings) -> ClientTls:
    """What we show when we call a peer over TLS, and whom we trust."""
    part = settings.dimse
    return ClientTls(part.tls_certificate, part.tls_key, part.tls_ca)
