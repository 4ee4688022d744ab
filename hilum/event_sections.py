"""The tables of the settings file about the audit trail and about subscriptions."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from hilum.sections import Section


class Audit(Section):
    """The audit trail."""

    keep_days: float = Field(
        30.0,
        gt=0,
        description="Days that records stay in the data folder after they were shipped to HAPI.",
    )
    keep_mib: int = Field(
        2048,
        ge=16,
        description="Size of the trail in the data folder beyond which shipped records go earlier.",
    )
    syslog_host: str | None = Field(
        None,
        description="Receiver of DICOM audit messages (PS3.15 A.5) by syslog over TLS (RFC 5425). "
        "Default: none are sent.",
    )
    syslog_port: int = Field(6514, ge=1, le=65535, description="Its port.")
    syslog_ca: Path | None = Field(
        None,
        description="Certificates that vouch for it (PEM). Default: those of the system.",
    )
    syslog_certificate: Path | None = Field(
        None, description="Our certificate (PEM), where it asks for one."
    )
    syslog_key: Path | None = Field(None, description="The private key of it (PEM).")


class Subscriptions(Section):
    """What other systems may be told of by rest-hook."""

    hosts: tuple[str, ...] = Field(
        (),
        description="Hosts that notifications may be sent to: host, host:port or *.domain. "
        "Default: none, and no client can subscribe.",
    )
    private_networks: tuple[str, ...] = Field(
        (),
        description="Networks (such as 10.1.0.0/16) in which such a host may be; without it only "
        "public addresses are called.",
    )
    plain_http: bool = Field(False, description="Whether http:// endpoints are allowed.")
    per_client: int = Field(20, ge=1, description="Subscriptions that one client may have.")
