"""Resources as rows of a picker: what a person tells them apart by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that can be chosen.

    Attributes:
        value: what the form sends.
        title: what it is called.
        details: what else tells it from others.
    """

    value: str
    title: str
    details: tuple[str, ...]


def patient_row(patient: dict[str, Any]) -> Row:
    """Name, birth date, sex and identifiers of a Patient."""
    details = (
        f"born {patient['birthDate']}" if patient.get("birthDate") else "birth date unknown",
        str(patient.get("gender", "sex unknown")),
        *(f"ID {value}" for value in _identifiers(patient)[:2]),
    )
    return Row(str(patient["id"]), name_of(patient), details)


def name_of(patient: dict[str, Any]) -> str:
    """The name that people use, family name first."""
    names = patient.get("name", [])
    usual = [one for one in names if one.get("use") not in ("old", "maiden")] or names
    for name in usual:
        given = " ".join(name.get("given", []))
        if name.get("family"):
            return f"{name['family']}, {given}" if given else str(name["family"])
        if given or name.get("text"):
            return str(given or name["text"])
    return "No name"


def study_row(study: dict[str, Any]) -> Row:
    """Date, modalities and description of an ImagingStudy."""
    kinds = [one.get("code", "") for one in study.get("modality", [])]
    counts = f"{study.get('numberOfSeries', 0)} series, {study.get('numberOfInstances', 0)} images"
    title = study.get("description") or "No description"
    return Row(
        str(study["id"]), str(title), (_moment(study.get("started")), ", ".join(kinds), counts)
    )


def encounter_row(encounter: dict[str, Any]) -> Row:
    """Kind, time and state of an Encounter."""
    kinds = [one.get("text") or _display(one) for one in encounter.get("type", [])]
    title = next((one for one in kinds if one), None) or encounter.get("class", {}).get("display")
    period = encounter.get("period", {})
    details = (_moment(period.get("start")), str(encounter.get("status", "")))
    return Row(str(encounter["id"]), str(title or "Visit"), details)


def _identifiers(patient: dict[str, Any]) -> list[str]:
    return [str(one["value"]) for one in patient.get("identifier", []) if one.get("value")]


def _display(concept: dict[str, Any]) -> str | None:
    return next((one["display"] for one in concept.get("coding", []) if one.get("display")), None)


def _moment(value: str | None) -> str:
    """A FHIR dateTime as people read it: date, and time to the minute where there is one."""
    if not value:
        return "no date"
    day, _, time = value.partition("T")
    return f"{day} {time[:5]}".strip()
