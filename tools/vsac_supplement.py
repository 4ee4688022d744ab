"""Writes the value sets of `profiles/supplement/` that US Core 6.1.0 needs and does not carry.

US Core's required bindings for race, ethnicity and birth sex import value sets of the Value Set
Authority Center, which no package holds: without them the guide's own Patient examples fail. Their
codes are enumerated here from the CDC race and ethnicity code system of the US Core 3.1.1 package
(CC0-1.0, `profiles/supplement/CodeSystem-cdcrec.json`). US Core 7.0.0 and 8.0.0 bind others too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "profiles" / "supplement"
CDCREC = "urn:oid:2.16.840.1.113883.6.238"
NULL_FLAVOR = "http://terminology.hl7.org/CodeSystem/v3-NullFlavor"
GENDER = "http://terminology.hl7.org/CodeSystem/v3-AdministrativeGender"
RACES = ["1002-5", "2028-9", "2054-5", "2076-8", "2106-3"]  # the five OMB categories
ETHNICITIES = ["2135-2", "2186-5"]
RACE_ROOT, ETHNICITY_ROOT = "1000-9", "2133-7"


def below(concepts: list[dict[str, Any]]) -> Iterator[str]:
    """Codes of the concepts and of all their descendants."""
    for concept in concepts:
        yield concept["code"]
        yield from below(concept.get("concept", []))


def children_of(concepts: list[dict[str, Any]], code: str) -> list[dict[str, Any]]:
    """The concepts directly below one; empty when it is not there."""
    for concept in concepts:
        found = concept.get("concept", [])
        found = found if concept["code"] == code else children_of(found, code)
        if found:
            return list(found)
    return []


def main() -> None:
    """Write the seven value sets."""
    concepts = json.loads((FOLDER / "CodeSystem-cdcrec.json").read_text())["concept"]
    races = [c for c in below(children_of(concepts, RACE_ROOT)) if c not in RACES]
    ethnicities = [c for c in below(children_of(concepts, ETHNICITY_ROOT)) if c not in ETHNICITIES]
    for oid, system, members in (
        ("2.16.840.1.114222.4.11.836", CDCREC, RACES),
        ("2.16.840.1.114222.4.11.837", CDCREC, ETHNICITIES),
        ("2.16.840.1.113883.1.11.14914", CDCREC, races),
        ("2.16.840.1.114222.4.11.877", CDCREC, ethnicities),
        ("2.16.840.1.113762.1.4.1", GENDER, ["M", "F"]),
        ("2.16.840.1.113762.1.4.1021.102", NULL_FLAVOR, ["UNK", "ASKU"]),
        ("2.16.840.1.113762.1.4.1021.103", NULL_FLAVOR, ["UNK"]),
    ):
        resource = {
            "resourceType": "ValueSet",
            "id": oid,
            "url": f"http://cts.nlm.nih.gov/fhir/ValueSet/{oid}",
            "version": "supplement",
            "status": "active",
            "compose": {
                "include": [{"system": system, "concept": [{"code": code} for code in members]}]
            },
        }
        (FOLDER / f"ValueSet-{oid}.json").write_text(json.dumps(resource) + "\n")
        sys.stdout.write(f"{oid}: {len(members)} codes\n")


if __name__ == "__main__":
    main()
