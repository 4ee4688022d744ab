"""What the FHIR door needs to know before it opens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from access.grants import GrantSigner
from fhir_gateway.audit.upkeep import TrailConfig
from fhir_gateway.bulk.config import BulkConfig
from fhir_gateway.topics.config import SubscriptionConfig
from records import identifiers

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """Settings of the FHIR door and of its background tasks.

    Attributes:
        dsn: PostgreSQL connection string; the gateway owns the schema `gateway` there.
        records_url: base of the FHIR store, on loopback.
        grants: signs what each request may do there.
        public_url: URL of the web process as clients see it, without a path.
        audit_folder: the spool that all doors of this machine write to.
        profiles: folder with `subscription/` and `searchparameter/`.
        hook_base: URL under which the FHIR store reaches our hooks.
        hook_secret: bearer secret that the hooks ask for.
        quiet_s: seconds without a new instance before a study is published.
        organization: name of who keeps the archive, in Provenance.
        default_issuer: identifier system for a PatientID that names no issuer; empty where the site
            has none, so that such patients stay unidentified.
        issuer_of_ae: identifier system by calling AE title, where it names no issuer.
        timezone: site zone (IANA) for times without (0008,0201); None writes the date only.
        cors_origins: browser origins that may call the FHIR API.
        max_body_bytes: largest request body that is passed on.
        upstream_timeout_s: longest wait for the FHIR store.
        trail: how the audit trail is kept and sent on.
        subscriptions: whom other systems may have us notify, and how.
        bulk: how exports run; its folder stands beside the audit folder unless it is absolute.
    """

    dsn: str = field(repr=False)
    records_url: str
    grants: GrantSigner = field(repr=False)
    public_url: str
    audit_folder: Path
    profiles: Path
    hook_base: str
    hook_secret: str = field(repr=False)
    quiet_s: float = 2.0
    organization: str = "Hilum demonstration site"
    default_issuer: str = identifiers.UNSPECIFIED_ISSUER
    issuer_of_ae: Mapping[str, str] = field(default_factory=dict)
    timezone: str | None = None
    cors_origins: tuple[str, ...] = ()
    max_body_bytes: int = 64 * MIB
    upstream_timeout_s: float = 60.0
    trail: TrailConfig = field(default_factory=TrailConfig)
    subscriptions: SubscriptionConfig = field(default_factory=SubscriptionConfig)
    bulk: BulkConfig = field(default_factory=BulkConfig)

    @property
    def fhir_base(self) -> str:
        """Public base URL of the FHIR API."""
        return f"{self.public_url.rstrip('/')}/fhir"

    @property
    def exports(self) -> BulkConfig:
        """Settings of bulk exports, with this door's address and their folder in full."""
        folder = self.audit_folder.parent / self.bulk.folder
        return replace(self.bulk, fhir_base=self.fhir_base, folder=folder)

    @property
    def dicomweb_base(self) -> str:
        """Public base URL of DICOMweb, as it stands in Endpoint.address."""
        return f"{self.public_url.rstrip('/')}/dicomweb"
