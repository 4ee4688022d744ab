"""Writes the value sets of `profiles/supplement/` that US Core needs and does not carry.

US Core's required bindings for race, ethnicity and birth sex name value sets of the Value Set
Authority Center, which no package holds: without them the guide's own Patient examples fail in
6.1.0, and a race that does not exist passes in 8.0.0. The codes are enumerated here from the CDC
race and ethnicity code system of the US Core 3.1.1 package (CC0-1.0,
`supplement/CodeSystem-cdcrec.json`). There is none for us-core-sex, which takes codes of SNOMED CT:
HAPI cannot expand a value set of a code system that it does not have, and would refuse them all.
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
NOT_KNOWN = {NULL_FLAVOR: ["UNK", "ASKU"]}
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


def value_sets() -> dict[str, dict[str, list[str]]]:
    """OID of each value set, with its codes by their systems."""
    concepts = json.loads((FOLDER / "CodeSystem-cdcrec.json").read_text())["concept"]
    races = [c for c in below(children_of(concepts, RACE_ROOT)) if c not in RACES]
    ethnicities = [c for c in below(children_of(concepts, ETHNICITY_ROOT)) if c not in ETHNICITIES]
    birth_sex = {GENDER: ["M", "F"], NULL_FLAVOR: ["UNK", "ASKU", "OTH"]}
    return {
        "2.16.840.1.114222.4.11.836": {CDCREC: RACES},
        "2.16.840.1.114222.4.11.837": {CDCREC: ETHNICITIES},
        "2.16.840.1.113883.1.11.14914": {CDCREC: races},
        "2.16.840.1.114222.4.11.877": {CDCREC: ethnicities},
        "2.16.840.1.113762.1.4.1": {GENDER: ["M", "F"]},
        "2.16.840.1.113762.1.4.1021.102": {NULL_FLAVOR: ["UNK", "ASKU"]},
        "2.16.840.1.113762.1.4.1021.103": {NULL_FLAVOR: ["UNK"]},
        # Since 7.0.0: birth sex.
        "2.16.840.1.113762.1.4.1021.24": birth_sex,
        # 8.0.0: race and ethnicity, bound directly.
        "2.16.840.1.113883.4.642.2.575": {CDCREC: RACES, **NOT_KNOWN},
        "2.16.840.1.113762.1.4.1267.25": {CDCREC: races},
        "2.16.840.1.113883.4.642.40.2.48.3": {CDCREC: ETHNICITIES, **NOT_KNOWN},
        "2.16.840.1.113883.4.642.40.2.48.1": {CDCREC: ethnicities},
    }


def main() -> None:
    """Write the value sets."""
    for oid, systems in value_sets().items():
        includes = [
            {"system": system, "concept": [{"code": code} for code in codes]}
            for system, codes in systems.items()
        ]
        resource = {
            "resourceType": "ValueSet",
            "id": oid,
            "url": f"http://cts.nlm.nih.gov/fhir/ValueSet/{oid}",
            "version": "supplement",
            "status": "active",
            "compose": {"include": includes},
        }
        (FOLDER / f"ValueSet-{oid}.json").write_text(json.dumps(resource) + "\n")
        sys.stdout.write(f"{oid}: {sum(map(len, systems.values()))} codes\n")


if __name__ == "__main__":
    main()
