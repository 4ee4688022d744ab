"""The topics that can be subscribed to: what makes an event, and what it can be filtered by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fhir_gateway.audit.subjects import patient_of
from records import identifiers

Resource = Mapping[str, Any]
Values = Callable[[Resource], Iterator[str]]

# R4 DiagnosticReport.status: the report is issued, or was and has been added to.
FINISHED = frozenset({"final", "amended", "corrected", "appended"})


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic.

    Attributes:
        statuses: a version of the resource that has one of these is an event.
        filters: by parameter, the texts that a value of it may equal.
    """

    name: str
    title: str
    resource_type: str
    statuses: frozenset[str]
    filters: Mapping[str, Values] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Its canonical URL."""
        return f"{identifiers.CANONICAL}/SubscriptionTopic/{self.name}"

    def is_event(self, resource: Resource) -> bool:
        """Whether this version of a resource is an event."""
        return resource.get("status") in self.statuses

    def passes(self, resource: Resource, wanted: Mapping[str, str]) -> bool:
        """Whether each filter has one of its values, which a comma separates."""
        return all(
            not set(value.split(",")).isdisjoint(self.filters[name](resource))
            for name, value in wanted.items()
        )


def _patient(resource: Resource) -> Iterator[str]:
    reference = patient_of(resource)
    if reference is not None:
        yield from (reference, reference.removeprefix("Patient/"))


def _token(coding: Mapping[str, Any]) -> Iterator[str]:
    system, code = coding.get("system", ""), coding.get("code", coding.get("value", ""))
    yield from (str(code), f"{system}|{code}", f"{system}|")


def _concepts(name: str) -> Values:
    def values(resource: Resource) -> Iterator[str]:
        found = resource.get(name, [])
        for concept in found if isinstance(found, list) else [found]:
            for coding in concept.get("coding", []):
                yield from _token(coding)

    return values


def _identifiers(resource: Resource) -> Iterator[str]:
    for one in resource.get("identifier", []):
        yield from _token(one)


def _modalities(resource: Resource) -> Iterator[str]:
    for one in (
        *resource.get("modality", []),
        *(s["modality"] for s in resource.get("series", []) if "modality" in s),
    ):
        yield from _token(one)


def _orders(resource: Resource) -> Iterator[str]:
    for one in resource.get("basedOn", []):
        reference = str(one.get("reference", ""))
        yield from (reference, reference.rpartition("/")[2])


def _status(resource: Resource) -> Iterator[str]:
    yield str(resource.get("status", ""))


_REPORT_FILTERS: Mapping[str, Values] = {
    "patient": _patient,
    "identifier": _identifiers,
    "based-on": _orders,
    "category": _concepts("category"),
    "code": _concepts("code"),
    "status": _status,
}
TOPICS = {
    topic.url: topic
    for topic in (
        Topic(
            "imagingstudy-available",
            "An imaging study has become available, or was changed since",
            "ImagingStudy",
            frozenset({"available"}),
            {
                "patient": _patient,
                "identifier": _identifiers,
                "basedon": _orders,
                "modality": _modalities,
            },
        ),
        Topic(
            "diagnosticreport-final",
            "A report is finished, or was amended since",
            "DiagnosticReport",
            FINISHED,
            _REPORT_FILTERS,
        ),
        Topic(
            "diagnosticreport-preliminary",
            "A preliminary report is there, or was changed since",
            "DiagnosticReport",
            frozenset({"preliminary"}),
            _REPORT_FILTERS,
        ),
    )
}
