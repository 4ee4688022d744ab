"""From the settings to the configuration of each package. Nothing here connects to anything."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

import procrastinate
import structlog

from access.audit import AuditEventKind, AuditRecord, AuditSpool, AuditUnavailable
from access.audit.retention import Retention
from access.grants import GrantSigner
from access.revocation import Revocations
from access.sessions import Lifetimes, Sessions
from access.tokens import TokenAuthority
from archive import ArchiveConfig
from authorization.clients import Clients
from authorization.config import AuthorizationConfig
from authorization.ending import Endings
from authorization.narrowing import narrow
from dicomweb.config import DicomwebConfig
from fhir_gateway.audit.syslog import SyslogTarget
from fhir_gateway.audit.upkeep import TrailConfig
from fhir_gateway.bulk.config import BulkConfig
from fhir_gateway.config import GatewayConfig
from fhir_gateway.topics.config import SubscriptionConfig
from hilum.processes.fhir_store import HapiConfig
from hilum.processes.postgres import Postgres, PostgresError
from hilum.sections import CHECKOUT
from hilum.settings import Settings, SettingsError
from pixels import PixelsConfig

log = structlog.get_logger(__name__)

DATABASE = "hilum"
HAPI_DATABASE = "hapi"
QUEUE_SCHEMA = "queue"
WORKER_TOKEN_S = 3600
OPERATOR_CLIENT = "hilum-cli"  # of `hilum token`
# What the workers need of the DICOMweb door: find, fetch and store.
WORKER_SCOPE = "system/ImagingStudy.crs"


def embedded_postgres(settings: Settings) -> Postgres:
    """The embedded server of the data folder."""
    return Postgres(settings.data / "postgres", settings.database.port)


def database_url(settings: Settings, database: str = DATABASE) -> str:
    """URL of one of our databases: on the configured server, else on the embedded one.

    Raises:
        SettingsError: neither is there.
    """
    if settings.database.url is not None:
        url = settings.database.url.get_secret_value()
        return url if database == DATABASE else _with_database(url, database)
    try:
        return embedded_postgres(settings).dsn(database)
    except (OSError, PostgresError) as error:
        raise SettingsError(
            f"no database: set HILUM_DATABASE__URL, or start `hilum up` with this data folder "
            f"({settings.data.resolve()}) first: {error}"
        ) from error


def _with_database(url: str, database: str) -> str:
    head, _, tail = url.partition("?")
    return head.rsplit("/", 1)[0] + f"/{database}" + (f"?{tail}" if tail else "")


def queue_app(settings: Settings) -> procrastinate.App:
    """The job queue, in a schema of its own; open it before use."""
    connector = procrastinate.PsycopgConnector(
        conninfo=database_url(settings),
        kwargs={"options": f"-c search_path={QUEUE_SCHEMA}"},
        min_size=1,
        max_size=6,
    )
    return procrastinate.App(connector=connector)


def internal_secret(settings: Settings) -> str:
    """What HAPI shows to our hooks: configured, else made once and kept."""
    if settings.internal_secret is not None:
        return settings.internal_secret.get_secret_value()
    path = keys_folder(settings) / "internal-secret"
    if not path.exists():
        _write_once(path, secrets.token_urlsafe(32))
    return path.read_text().strip()


def keys_folder(settings: Settings) -> Path:
    """Folder of keys and secrets, open to us alone."""
    folder = settings.data / "keys"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _write_once(path: Path, text: str) -> None:
    # Written beside and linked into place: of two processes that start together the first wins,
    # and nobody reads half a secret.
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()


def token_authority(settings: Settings, revocations: Revocations | None = None) -> TokenAuthority:
    """Who signs and checks the access tokens of this installation."""
    return TokenAuthority.load_or_create(
        keys_folder(settings),
        issuer=settings.base_url,
        audience=f"{settings.base_url}/fhir",
        revocations=revocations,
    )


def grant_signer(settings: Settings) -> GrantSigner:
    """Signs what each request to the FHIR store may do."""
    return GrantSigner.load_or_create(keys_folder(settings))


def sessions(settings: Settings, endings: Endings) -> Sessions:
    """The browser sessions, with which online access ends."""
    part = settings.login
    lifetimes = Lifetimes(part.idle_minutes * 60, part.longest_hours * 3600)
    return Sessions(database_url(settings), lifetimes, endings.of_session)


def authorization_config(settings: Settings) -> AuthorizationConfig:
    """The authorization server's configuration."""
    part = settings.authorization
    return AuthorizationConfig(
        dsn=database_url(settings),
        base_url=settings.base_url,
        keys=keys_folder(settings),
        access_s=int(part.access_minutes * 60),
        # Refreshing keeps the session of the user alive, so it has to come before that is over.
        online_s=int(settings.login.idle_minutes * 60 * 2 / 3),
        backend_s=part.backend_seconds,
        offline_s=int(part.refresh_days * 24 * 3600),
        key_s=int(part.key_days * 24 * 3600),
        key_hosts=part.key_hosts,
    )


def worker_token(settings: Settings, subject: str) -> Callable[[], str]:
    """Gives a worker a fresh token for the DICOMweb door."""
    authority = token_authority(settings)
    return lambda: authority.mint(
        subject=subject, scope=WORKER_SCOPE, lifetime_s=WORKER_TOKEN_S, client="hilum"
    )


def audit_folder(settings: Settings) -> Path:
    """Where the processes spool their audit records."""
    return settings.data / "audit"


def audit_spool(settings: Settings, source: str) -> AuditSpool:
    """The audit spool of one process."""
    return AuditSpool(audit_folder(settings), source)


@contextmanager
def on_record(audit: AuditSpool) -> Iterator[None]:
    """While a process serves: its start and stop in the trail (PS3.15 A.5.3.1), then the end."""
    _tell(audit, AuditEventKind.START)
    try:
        yield
    finally:
        _tell(audit, AuditEventKind.STOP)
        audit.close()


def _tell(audit: AuditSpool, kind: AuditEventKind) -> None:
    at = datetime.now(UTC)
    try:
        audit.record(AuditRecord(action="E", event=kind, outcome="success", caller=None, at=at))
    except AuditUnavailable as error:  # each request says so too; no start and no stop hangs on it
        log.error("audit.not_recorded", kind=kind, reason=str(error))


def trail_config(settings: Settings) -> TrailConfig:
    """How the audit trail is kept and sent on."""
    part, target = settings.audit, None
    if part.syslog_host is not None:
        target = SyslogTarget(
            host=part.syslog_host,
            port=part.syslog_port,
            ca=part.syslog_ca,
            certificate=part.syslog_certificate,
            key=part.syslog_key,
        )
    return TrailConfig(
        keys=keys_folder(settings),
        retention=Retention(part.keep_days * 86_400, part.keep_mib * 1024 * 1024),
        syslog=target,
    )


def archive_config(settings: Settings) -> ArchiveConfig:
    """The archive's configuration."""
    return ArchiveConfig(
        root=settings.data / "archive",
        dsn=database_url(settings),
        min_free_bytes=settings.storage.min_free_mib * 1024 * 1024,
        durable=settings.storage.durable,
        preamble=settings.storage.preamble,
    )


def pixels_config(settings: Settings) -> PixelsConfig:
    """Limits of the decoder processes, and their cache, which all our processes share."""
    section = settings.pixels
    return PixelsConfig(
        processes=section.processes,
        memory_bytes=section.memory_mib * 1024 * 1024,
        timeout_s=section.timeout_s,
        cache=settings.data / "cache" / "pixels" if section.cache_mib else None,
        cache_bytes=section.cache_mib * 1024 * 1024,
    )


def dicomweb_config(settings: Settings) -> DicomwebConfig:
    """The DICOMweb door's configuration."""
    return DicomwebConfig(
        base_url=f"{settings.base_url}/dicomweb",
        cors_origins=settings.http.cors_origins,
        pixels=pixels_config(settings),
    )


def hapi_config(settings: Settings) -> HapiConfig:
    """How HAPI is started beside us."""
    return HapiConfig(
        home=settings.hapi.home,
        profiles=settings.profiles,
        port=settings.hapi.port,
        grants=grant_signer(settings),
        database=database_url(settings, HAPI_DATABASE),
        public_base_url=f"{settings.base_url}/fhir",
        hook_base=hook_base(settings),
        heap=settings.hapi.heap,
        address=settings.hapi.address,
    )


def hook_base(settings: Settings) -> str:
    """URL below which HAPI delivers its rest-hooks."""
    return f"{settings.local_url}/hooks"


def hapi_cache(settings: Settings) -> Path:
    """Where a prepared HAPI database is kept for further data folders."""
    shared = CHECKOUT / ".cache"
    writable = os.access(shared if shared.exists() else CHECKOUT, os.W_OK)
    return (shared if writable else settings.data / "cache") / "hapi"


@cache
def _clients(dsn: str) -> Clients:
    return Clients(dsn)


def standing(dsn: str, client_id: str, scopes: str) -> str | None:
    """What a client may still have of the scopes with which it subscribed."""
    if client_id == OPERATOR_CLIENT:
        return None  # in no register
    client = _clients(dsn).find(client_id)
    return "" if client is None or client.disabled else narrow(scopes, client.scopes)


def bulk_config(settings: Settings) -> BulkConfig:
    """How exports run; their files are in the data folder."""
    part = settings.exports
    return BulkConfig(
        folder=(settings.data / "exports").resolve(),
        poll_s=part.poll_s,
        keep_s=round(part.keep_hours * 3600),
        open_per_client=part.open_per_client,
        file_rows=part.file_rows,
        min_free_bytes=part.min_free_mib * 1024 * 1024,
        patience_s=part.patience_s,
        manifest=part.manifest,
    )


def gateway_config(settings: Settings) -> GatewayConfig:
    """The FHIR door's configuration."""
    secret = internal_secret(settings)
    return GatewayConfig(
        dsn=database_url(settings),
        records_url=settings.hapi_url,
        grants=grant_signer(settings),
        public_url=settings.base_url,
        audit_folder=audit_folder(settings),
        profiles=settings.profiles,
        hook_base=hook_base(settings),
        hook_secret=secret,
        trail=trail_config(settings),
        subscriptions=SubscriptionConfig(
            hosts=settings.subscriptions.hosts,
            private_networks=settings.subscriptions.private_networks,
            plain_http=settings.subscriptions.plain_http,
            per_client=settings.subscriptions.per_client,
            standing=partial(standing, database_url(settings)),
        ),
        quiet_s=settings.publish.quiet_s,
        organization=settings.reports.institution,
        default_issuer=settings.publish.default_issuer,
        cors_origins=settings.http.cors_origins,
        bulk=bulk_config(settings),
        timezone=settings.publish.timezone,
        issuer_of_ae=settings.publish.issuer_of_ae,
    )
