"""A Patient that another has taken the place of (Patient.link): who the surviving one is."""

from __future__ import annotations

from typing import Any

from records import NotFound, Records

Resource = dict[str, Any]

LONGEST_CHAIN = 10


def replacement_of(patient: Resource) -> str | None:
    """`Patient/ID` that has taken the place of this one, or None while it stands for itself.

    Only a Patient that is no longer active has been replaced: a link alone is a plan.
    """
    if patient.get("active", True):
        return None
    for link in patient.get("link", []):
        parts = str(link.get("other", {}).get("reference", "")).split("/")
        if link.get("type") == "replaced-by" and parts[-2:-1] == ["Patient"]:
            return f"Patient/{parts[-1]}"
    return None


async def surviving(records: Records, reference: str) -> Resource:
    """The Patient that a reference means today, through any number of merges.

    A chain that ends nowhere, or in itself, ends at the last Patient that is there.

    Raises:
        NotFound: there is no such Patient at all.
    """
    parts = reference.split("/")
    if parts[-2:-1] != ["Patient"]:
        raise NotFound("the reference leads to no Patient")
    patient = await records.read("Patient", parts[-1])
    seen = {patient["id"]}
    for _ in range(LONGEST_CHAIN):
        following = replacement_of(patient)
        if following is None or following.split("/")[1] in seen:
            return patient
        try:
            patient = await records.read("Patient", following.split("/")[1])
        except NotFound:
            return patient
        seen.add(patient["id"])
    return patient
