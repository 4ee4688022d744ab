"""The tables of the settings file, each a typed section."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from dimse.peers import Right

CHECKOUT = Path(__file__).resolve().parents[1]  # where the Java build, profiles and OHIF lie


class Section(BaseModel):
    """A table of the settings file; a name it does not know is an error, not a silent typo."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Http(Section):
    """The web process: FHIR, DICOMweb, OHIF and the hooks on one port."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port; 0 takes a free one.")
    public_url: str | None = Field(
        None,
        description="URL under which clients reach the web process, as written into FHIR links "
        "and Endpoints. Default: https://HOST:TLS_PORT if there is one, else http://HOST:PORT.",
    )
    internal_url: str | None = Field(
        None,
        description="URL at which our other processes and HAPI's hooks reach the web process. "
        "Default: http://127.0.0.1:PORT.",
    )
    tls_port: int | None = Field(
        None, ge=1, le=65535, description="Port of the same over TLS (1.2 and 1.3)."
    )
    tls_host: str | None = Field(
        None, description="Address to listen on with TLS. Default: that of the plain port."
    )
    tls_certificate: Path | None = Field(
        None, description="Our certificate (PEM), intermediate ones after it."
    )
    tls_key: Path | None = Field(None, description="Its private key (PEM), without passphrase.")
    cors_origins: tuple[str, ...] = Field(
        (), description="Origins of browser apps that may call FHIR and DICOMweb."
    )


class Login(Section):
    """Sessions of people who sign in with the browser."""

    idle_minutes: float = Field(
        15.0, gt=0, description="Minutes without a request after which a session ends."
    )
    longest_hours: float = Field(
        12.0, gt=0, description="Hours after which a session ends, however busy it is."
    )


class Authorization(Section):
    """The authorization server for SMART apps."""

    access_minutes: float = Field(
        60.0, gt=0, le=60, description="Minutes that an access token of an app lives."
    )
    backend_seconds: int = Field(
        300, ge=1, le=300, description="Seconds that an access token of a backend lives."
    )
    refresh_days: float = Field(
        90.0, gt=0, description="Days within which a refresh token has to be used."
    )
    key_days: float = Field(
        90.0, gt=1, description="Days after which a new key signs the id_tokens."
    )
    style: dict[str, str] = Field(
        default_factory=dict,
        description="Members of the style document for apps (smart_style_url) that differ from "
        "the usual, such as color_highlight; in the environment as JSON.",
    )
    key_hosts: tuple[str, ...] = Field(
        (),
        description="Hosts on this machine or a private network that clients' keys may be "
        "fetched from; all others must be public and use https.",
    )


class Dimse(Section):
    """The DIMSE process."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(11112, ge=0, le=65535, description="Port; 0 takes a free one.")
    ae_title: str = Field("HILUM", min_length=1, max_length=16, description="Our AE title.")
    extra_sop_classes: tuple[str, ...] = Field(
        (), description="Private or unknown SOP Class UIDs to accept as well; '*' accepts any."
    )
    processes: int = Field(
        1,
        ge=1,
        le=64,
        description="DIMSE processes that share the ports; the limits count in each.",
    )
    max_associations: int = Field(
        100, ge=1, description="Associations that may be open at once; more are refused for now."
    )
    max_associations_per_address: int = Field(
        50, ge=1, description="Of these, from one IP address."
    )
    max_associations_per_title: int = Field(
        50, ge=1, description="Of these, with one calling AE title."
    )
    idle_s: float = Field(
        60.0, gt=0, description="Seconds without a message after which an association is aborted."
    )
    check_called_ae: bool = Field(
        False, description="Whether associations that call another AE title are rejected."
    )
    unknown_callers: tuple[Right, ...] | None = Field(
        None,
        description="What callers may do that are not in the peer table: any of store, query, "
        "retrieve, worklist; [] rejects them. Default: everything for callers on this machine, "
        "nothing for others.",
    )
    require_identity: bool = Field(
        False,
        description="Whether every association must prove a user: by username and password, or "
        "by one of our tokens.",
    )
    plain: bool = Field(True, description="Whether the port without TLS is open.")
    tls_port: int | None = Field(
        None, ge=0, le=65535, description="Port for DICOM over TLS; 0 takes a free one."
    )
    tls_certificate: Path | None = Field(
        None, description="Our certificate (PEM), intermediate ones after it."
    )
    tls_key: Path | None = Field(None, description="Its private key (PEM), without passphrase.")
    tls_ca: Path | None = Field(
        None,
        description="Certificates that we trust (PEM): the authorities of our peers, or the "
        "peers' own.",
    )
    tls_client_certificates: Literal["none", "optional", "required"] = Field(
        "required",
        description="Whether peers that call over TLS must show a certificate that tls_ca "
        "vouches for.",
    )
    query_limit: int = Field(
        0,
        ge=0,
        description="Matches after which a C-FIND is refused with 0xA700; 0 is no limit.",
    )
    notify_availability: tuple[str, ...] = Field(
        (),
        description="Names of the peers that are told of new studies (Instance Availability "
        "Notification).",
    )


class Database(Section):
    """PostgreSQL: embedded by default, or any server by URL."""

    url: SecretStr | None = Field(
        None,
        description="postgresql://user:password@host:port/hilum of an external server. "
        "Default: the embedded server in the data folder.",
    )
    port: int = Field(15432, ge=0, le=65535, description="Loopback port of the embedded server.")


class Hapi(Section):
    """The HAPI FHIR server behind the gateway."""

    url: str | None = Field(
        None,
        description="Base URL of a HAPI server that runs elsewhere (with our credential filter). "
        "Default: the one that `hilum up` starts.",
    )
    address: str = Field(
        "127.0.0.1",
        description="Address that the one we start listens on. Anything but loopback needs a "
        "network that only our own processes share.",
    )
    port: int = Field(18080, ge=0, le=65535, description="Port of the one we start.")
    heap: str = Field("1g", pattern=r"^\d+[mg]$", description="Java heap limit (-Xmx).")
    home: Path = Field(
        CHECKOUT / "hapi" / "target", description="Folder with hilum-hapi.jar and lib/."
    )


class Publish(Section):
    """From the archive to FHIR."""

    quiet_s: float = Field(
        2.0, gt=0, description="Seconds without a new instance before a study is published."
    )
    default_issuer: str = Field(
        "https://hilum.dev/fhir/sid/unspecified-issuer",
        description="Identifier system for a PatientID that names no issuer. Empty where one "
        "installation serves several issuers: such patients then stay unidentified.",
    )

    timezone: str | None = Field(
        None,
        description="Time zone of the site (IANA name) for studies that state none "
        "(0008,0201); without it such times are written as dates only.",
    )
    issuer_of_ae: dict[str, str] = Field(
        default_factory=dict,
        description="Identifier system by calling AE title, for senders whose PatientIDs name no "
        "issuer; in the environment as JSON.",
    )


class Inference(Section):
    """The reference model and how it is run."""

    enabled: bool = Field(True, description="Whether ImagingStudies trigger inference.")
    model: Path | None = Field(None, description="Model bundle folder. Default: the packaged one.")
    threads: int = Field(0, ge=0, description="Threads for ONNX Runtime; 0 lets it choose.")


class Reports(Section):
    """The report renditions."""

    institution: str = Field("Hilum demonstration site", description="Name in the report header.")


class Pixels(Section):
    """Decoding, transcoding and rendering, in processes of their own."""

    processes: int = Field(
        2, ge=1, description="Images that are decoded at the same time, in each of our processes."
    )
    memory_mib: int = Field(
        3072, ge=512, description="Memory that one decoder may use; larger images are refused."
    )
    timeout_s: float = Field(
        180.0, gt=0, description="A decoder that takes longer for one job is ended."
    )
    cache_mib: int = Field(
        2048,
        ge=0,
        description="Size of the cache of transcoded files and pictures in the data folder; "
        "0 keeps nothing.",
    )


class Exports(Section):
    """Bulk exports of FHIR resources."""

    keep_hours: float = Field(
        1.0, gt=0, description="How long the files of a finished export can be fetched."
    )
    poll_s: int = Field(
        1, ge=1, description="Retry-After, in seconds, of an export that is still running."
    )
    open_per_client: int = Field(
        3, ge=1, description="Exports that one client may have open; a further one gets 429."
    )
    file_rows: int = Field(25_000, ge=1, description="Resources in one file of an export.")
    min_free_mib: int = Field(
        512, ge=0, description="Space that exports leave free on the disk of the data folder."
    )
    patience_s: float = Field(
        900.0, ge=0, description="How long an export waits for a HAPI that does not answer."
    )
    manifest: Literal["2.0", "4.0"] = Field(
        "2.0",
        description="Form of the manifest: Bulk Data Access 2.0 with the parameters of 3.0, or "
        "the ballot of 4.0 (STU4).",
    )


class Storage(Section):
    """The archive."""

    min_free_mib: int = Field(
        512, ge=0, description="Refuse instances (0xA700, 507) below this much free disk."
    )
    durable: bool = Field(
        True,
        description="Whether an instance is on disk before its sender is told success. Off is "
        "faster, and a crash of the machine then loses what senders may have deleted.",
    )
    preamble: Literal["zero", "keep"] = Field(
        "zero",
        description="What becomes of the 128 bytes before the DICM prefix. `zero` clears them, so "
        "that a file that is also a program or a picture is stored as DICOM alone.",
    )
