"""Which of a peer's studies are priors worth fetching: pure decisions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from pydicom.dataset import Dataset

from archive.names import fold

# Derived from images, so that their arrival is no reason to look for priors.
RESULTS = frozenset({"SEG", "SR", "PR", "KO", "DOC", "REG", "RTSTRUCT", "RTPLAN", "RTDOSE", "RWV"})


@dataclass(frozen=True, slots=True)
class PriorsRule:
    """Which earlier studies are fetched; an empty condition always holds.

    Attributes:
        source: Name of the peer that is asked.
        modalities: Of the new study and of the prior.
        description: Regular expression that the prior's StudyDescription must contain.
        most: At most so many, the newest first.
    """

    name: str
    source: str
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    description: str = ""
    most: int = 5
    max_age_days: int = 3650
    by: Literal["get", "move"] = "get"


@dataclass(frozen=True, slots=True)
class Patient:
    """Who it is, as far as both sides must agree."""

    identifier: str
    issuer: str = ""
    name: str = ""
    birth_date: str = ""


def agrees(ours: Patient, theirs: Patient) -> bool:
    """Whether two records are of one person: the ID alone is not enough.

    What one side leaves empty does not contradict. Of the name the family name and the first of
    the given names count, without case and accents.
    """
    if ours.identifier != theirs.identifier:
        return False
    pairs = (
        (ours.issuer, theirs.issuer),
        (ours.birth_date, theirs.birth_date),
        *zip(_parts(ours.name), _parts(theirs.name), strict=True),
    )
    return all(not one or not other or one == other for one, other in pairs)


def _parts(name: str) -> tuple[str, str]:
    family, _, rest = name.partition("=")[0].partition("^")
    given = rest.partition("^")[0].strip()
    return fold(family.strip()), fold(given.split(" ")[0])


def date_range(study_date: str, max_age_days: int) -> str:
    """The StudyDate range to ask for: up to the new study's own day."""
    newest = _day(study_date) or datetime.now(UTC).date()
    oldest = newest - timedelta(days=min(max_age_days, (newest - date(1900, 1, 1)).days))
    return f"{oldest:%Y%m%d}-{newest:%Y%m%d}"


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None


def candidates(rule: PriorsRule, study: str, answers: Iterable[Dataset]) -> list[Dataset]:
    """The answers that meet the rule, the newest first."""
    kept = []
    for one in answers:
        modalities = listed(one.get("ModalitiesInStudy"))
        if str(one.get("StudyInstanceUID", "")) in ("", study):
            continue
        if rule.modalities and modalities and not set(rule.modalities) & set(modalities):
            continue
        description = str(one.get("StudyDescription", "") or "")
        if rule.description and not re.search(rule.description, description, re.IGNORECASE):
            continue
        kept.append(one)
    kept.sort(key=lambda one: str(one.get("StudyDate", "") or ""), reverse=True)
    return kept


def patient_of(answer: Dataset) -> Patient:
    """The patient of a peer's answer."""
    return Patient(
        identifier=str(answer.get("PatientID", "") or "").strip(),
        issuer=str(answer.get("IssuerOfPatientID", "") or "").strip(),
        name=str(answer.get("PatientName", "") or ""),
        birth_date=str(answer.get("PatientBirthDate", "") or "").strip(),
    )


def listed(value: object) -> Sequence[str]:
    """The values of an attribute that may have one, several or none."""
    if value is None:
        return ()
    return [value] if isinstance(value, str) else [str(one) for one in value]  # type: ignore[attr-defined]
