"""What each principal may see, told from the loaded resources alone.

Written against SMART App Launch 2.2 and the R4 Patient compartment, and against nothing of ours: no
module of the code under test is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.fixtures.two_patients import CATEGORY

Resource = dict[str, Any]

# Where the resources of this data set say whose they are.
OWNER = {
    "DiagnosticReport": ("subject",),
    "DocumentReference": ("subject",),
    "Encounter": ("subject",),
    "ImagingStudy": ("subject",),
    "Observation": ("subject",),
    "Condition": ("subject",),
    "ServiceRequest": ("subject",),
    "List": ("subject",),
}
SHARED = {"Organization", "Practitioner", "PractitionerRole", "Location", "HealthcareService",
          "StructureDefinition", "ValueSet", "CodeSystem", "SearchParameter", "Questionnaire"
}  # fmt: skip
HARMLESS = {"OperationOutcome", "CapabilityStatement"}


@dataclass(frozen=True)
class World:
    """All loaded resources by `Type/id`, and the words by which each gives itself away."""

    resources: dict[str, Resource]

    def owner(self, resource: Resource) -> str | None:
        """Id of the patient that a resource is about, as its content says."""
        kind = resource["resourceType"]
        if kind == "Patient":
            return str(resource.get("id"))
        for name in OWNER.get(kind, ()):
            reference = str(resource.get(name, {}).get("reference", ""))
            if "/Patient/" in f"/{reference}":
                return reference.split("/")[-1]
        return None

    def words(self, key: str) -> set[str]:
        """Strings that occur in this resource and in nothing else of the world."""
        resource = self.resources[key]
        return {str(resource["id"])} | {
            one["value"] for one in resource.get("identifier", []) if "value" in one
        }


@dataclass(frozen=True)
class Principal:
    """A token and what it may see.

    Attributes:
        patient: the launch's patient, where there is one.
        covers: whether a resource with this owner is covered by itself.
        writes: whether it may write to what it covers.
    """

    name: str
    scope: str
    context: dict[str, str]
    covers: Callable[[Resource, str | None], bool]
    patient: str | None = None
    writes: bool = False
    whole: bool = False

    def sees(self, resource: Resource, world: World) -> bool:
        """Whether the resource may be shown to it."""
        kind = resource["resourceType"]
        # `_elements` may have taken out whose it is.
        resource = world.resources.get(f"{kind}/{resource.get('id')}", resource)
        if kind in HARMLESS or self.whole:
            return True
        if self.covers(resource, world.owner(resource)):
            return True
        if kind == "Binary":
            return self._follows([resource.get("securityContext", {})], world)
        if kind == "Provenance":
            granted = self.covers(resource, None)
            return granted or (
                self._names("Provenance") and self._follows(resource.get("target", []), world)
            )
        if kind == "Endpoint":
            here = f"Endpoint/{resource.get('id')}"
            return any(
                {"reference": here} in other.get("endpoint", [])
                and self.covers(other, world.owner(other))
                for other in world.resources.values()
            )
        return self._names(kind) and kind in SHARED

    def _names(self, kind: str) -> bool:
        return any(
            part.split("/")[1].split(".")[0] in ("*", kind)
            for part in self.scope.split()
            if "/" in part
        )

    def _follows(self, references: list[Resource], world: World) -> bool:
        """Whether one of the references leads to what it covers."""
        targets = [world.resources.get(str(one.get("reference"))) for one in references]
        return any(t is not None and self.covers(t, world.owner(t)) for t in targets)

    def visible(self, world: World, kind: str) -> set[str]:
        """Keys of the resources of a type that it may see."""
        return {
            key
            for key, resource in world.resources.items()
            if resource["resourceType"] == kind and self.sees(resource, world)
        }


def has_category(resource: Resource, code: str) -> bool:
    """Whether a category coding of the test's system says this."""
    return any(
        (coding.get("system"), coding.get("code")) == (CATEGORY, code)
        for concept in resource.get("category", [])
        for coding in concept.get("coding", [])
    )


def resources_in(body: Any) -> Iterator[Resource]:
    """Every resource in an answer, those inside Bundles and Parameters included."""
    if isinstance(body, list):
        for one in body:
            yield from resources_in(one)
    elif isinstance(body, dict):
        kind = body.get("resourceType")
        if kind not in (None, "Bundle", "Parameters"):
            yield body
            return
        for value in body.values():
            if isinstance(value, dict | list):
                yield from resources_in(value)


def principals(anna: str, bert: str) -> list[Principal]:
    """The six kinds of caller."""

    def of(patient: str) -> Callable[[Resource, str | None], bool]:
        return lambda _, owner: owner == patient

    lab = f"{CATEGORY}|lab"
    image = f"{CATEGORY}|imaging"
    return [
        Principal("anna's app", "patient/*.rs", {"patient": anna}, of(anna), patient=anna),
        Principal(
            "bert's app", "patient/*.cruds", {"patient": bert}, of(bert), patient=bert, writes=True
        ),
        Principal(
            "clinician",
            "user/Patient.rs user/Observation.rs user/ImagingStudy.rs",
            {"fhirUser": "Practitioner/somebody"},
            lambda r, _: r["resourceType"] in ("Patient", "Observation", "ImagingStudy"),
        ),
        Principal(
            "granular",
            f"patient/Observation.rs?category={lab} patient/Patient.r",
            {"patient": anna},
            lambda r, owner: (
                owner == anna
                and (r["resourceType"] == "Patient" or has_category(r, "lab"))
                and r["resourceType"] in ("Patient", "Observation")
            ),
            patient=anna,
        ),
        Principal(
            "backend, narrow",
            f"system/Observation.rs?category={image}",
            {},
            lambda r, _: r["resourceType"] == "Observation" and has_category(r, "imaging"),
        ),
        Principal("backend, wide", "system/*.rs", {}, lambda *_: True, whole=True),
    ]
