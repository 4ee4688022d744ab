"""Identifier systems, references and ids that Hilum writes."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote
from uuid import UUID, uuid5

CANONICAL = "https://hilum.dev/fhir"
SID = f"{CANONICAL}/sid"

DICOM_UID = "urn:dicom:uid"
URI = "urn:ietf:rfc:3986"
INFERENCE_RUN = f"{SID}/inference-run"
REPORT = f"{SID}/report"
ENDPOINT = f"{SID}/endpoint"
AUDIT_EVENT = f"{SID}/audit-event"
CLIENT = f"{SID}/client"
USER = f"{SID}/user"
LOCAL_RESOURCE = f"{SID}/resource"  # a resource of ours by its path, which may be gone
AE_TITLE = f"{SID}/ae-title"
UNSPECIFIED_ISSUER = f"{SID}/unspecified-issuer"
UNIDENTIFIED_PATIENT = f"{SID}/unidentified-patient"
UNISSUED_NUMBER = f"{SID}/unissued-number"  # equal values of it may be different people
_ISSUER = f"{SID}/issuer"
_ACCESSION_ISSUER = f"{SID}/accession"

_NAMESPACE = UUID("6f6d1f4e-2c0b-5f43-9a42-0a5c4f1a7d10")


def oid(uid: str) -> str:
    """A DICOM UID as the URN that FHIR writes."""
    return f"urn:oid:{uid}"


def uid_of(urn: str) -> str:
    """The DICOM UID in a `urn:oid:`; other text comes back as it is."""
    return urn.removeprefix("urn:oid:")


def study_identifier(study_uid: str) -> dict[str, Any]:
    """ImagingStudy.identifier for a Study Instance UID."""
    return {"system": DICOM_UID, "value": oid(study_uid)}


def study_uid_of(imaging_study: dict[str, Any]) -> str | None:
    """Study Instance UID of an ImagingStudy, or None when it carries none."""
    for identifier in imaging_study.get("identifier", []):
        if identifier.get("system") == DICOM_UID:
            return uid_of(str(identifier.get("value", "")))
    return None


def issuer_system(issuer: str) -> str:
    """Identifier system for an issuer that DICOM names by local text (0010,0021).

    The text is kept whole, percent-encoded, so that two issuers never share a system.
    """
    return f"{_ISSUER}/{quote(issuer, safe='')}"


def accession_system(issuer: str | None) -> str:
    """Identifier system for an accession number; issuer as in (0008,0051), or None."""
    return f"{_ACCESSION_ISSUER}/{quote(issuer, safe='')}" if issuer else f"{_ACCESSION_ISSUER}"


def token(system: str, value: str) -> str:
    """A search token `system|value`; commas, pipes and backslashes in it are escaped."""
    return f"{_escape(system)}|{_escape(value)}"


def value_token(value: str) -> str:
    """A search token for a value of any system; commas, pipes and backslashes are escaped."""
    return _escape(value)


def by_identifier(system: str, value: str) -> str:
    """A conditional query `identifier=system|value`, percent-encoded for a URL or a header."""
    return f"identifier={quote(token(system, value), safe='')}"


def derived_uuid(*parts: str) -> str:
    """A UUID (version 5) that always comes out the same for the same parts."""
    return str(uuid5(_NAMESPACE, "\x1f".join(parts)))


def urn_uuid(*parts: str) -> str:
    """`derived_uuid` as a fullUrl inside a transaction."""
    return f"urn:uuid:{derived_uuid(*parts)}"


def _escape(text: str) -> str:
    for special in ("\\", ",", "$", "|"):
        text = text.replace(special, "\\" + special)
    return text


def derived_uid(*parts: str) -> str:
    """A DICOM UID below 2.25 (PS3.5 B.2) that always comes out the same for the same parts."""
    return f"2.25.{uuid5(_NAMESPACE, chr(31).join(parts)).int}"


def issuer_of(system: str) -> tuple[str | None, str | None, str | None]:
    """How DICOM names the issuer that an identifier system stands for.

    Returns:
        Local text (0010,0021), Universal Entity ID and its type (0040,0032 and 0040,0033);
        all None for the systems of identifiers without an issuer.
    """
    if system in ("", UNSPECIFIED_ISSUER, UNIDENTIFIED_PATIENT, UNISSUED_NUMBER, _ACCESSION_ISSUER):
        return None, None, None
    for ours in (_ISSUER, _ACCESSION_ISSUER):
        if system.startswith(f"{ours}/"):
            return unquote(system.removeprefix(f"{ours}/")), None, None
    if system.startswith("urn:oid:"):
        return None, uid_of(system), "ISO"
    if system.startswith("urn:uuid:"):
        return None, system.removeprefix("urn:uuid:"), "UUID"
    return None, system, "URI"
