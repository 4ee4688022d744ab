"""Writes the code systems and value sets of `profiles/` from the codes that Hilum writes.

Run it after a change of `records/codes.py` or `inference/terms.py`; a test says when.

- Our own systems are complete code systems. Of the NCI Thesaurus there is a fragment.
- There is none of LOINC and SNOMED CT, on purpose: with a fragment the validator takes every other
  code for wrong. Measured with a LOINC fragment on US Core 6.1.0's own examples: three right
  documents more fail (a value set that is a filter over LOINC); without it a right code of a
  required binding gives a warning, not an error. The value sets below are what the validator knows
  of them (hapi: CodeRules), beside check digits. HL7's codes come with HAPI; so do DICOM's, but of
  2019 (DOC, for one, is missing), so the whole system is written from pydicom's dictionary.
- One value set per system holds every code of it that we write.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from pydicom.sr._concepts_dict import concepts as dicom_concepts

from inference import terms
from records import codes

CANONICAL = "https://hilum.dev/fhir"
DATE = "2026-11-24"
PROFILES = Path(__file__).resolve().parents[1] / "profiles"
NAMES = {
    codes.SCT: "snomed-ct",
    codes.LOINC: "loinc",
    codes.NCIT: "nci-thesaurus",
    codes.DCM: "dicom",
    codes.UCUM: "ucum",
}
FRAGMENTS = {codes.NCIT: "NCI Thesaurus, U.S. National Cancer Institute"}
Concepts = dict[str, str]


def written_codes() -> dict[str, Concepts]:
    """Every code that we write: system, then code, then display."""
    found: dict[str, Concepts] = defaultdict(dict)
    regions = [region.local for region in terms.REGIONS.values()]
    tables = (*codes.BODY_PARTS.values(), *codes.SIDES.values())
    for code in (*codes.all_codes(), *tables, *regions):
        found[code.system].setdefault(code.code, code.display)
    return {system: dict(sorted(found[system].items())) for system in sorted(found)}


def dicom_codes() -> Concepts:
    """Every code of DICOM's own system (PS3.16 annex D), as pydicom holds it."""
    rows = dicom_concepts["DCM"].values()
    return dict(sorted((code, meaning) for row in rows for code, (meaning, _) in row.items()))


def name_of(system: str) -> str:
    """Short name of a system, for files and canonical URLs."""
    return NAMES.get(system, system.rstrip("/").rsplit("/", 1)[1])


def code_system(system: str, concepts: Concepts) -> dict[str, Any]:
    """A fragment of a system of others, or the whole of one of ours."""
    name = name_of(system)
    fragment = system in FRAGMENTS
    result = {
        "resourceType": "CodeSystem",
        "id": f"hilum-{name}",
        "url": system,
        "version": "hilum-fragment" if fragment else "0.1.0",
        "name": _title(name) + ("Fragment" if fragment else ""),
        "status": "active",
        "experimental": False,
        "date": DATE,
        "publisher": "Hilum",
        "caseSensitive": True,
        "content": "fragment" if fragment else "complete",
        "count": len(concepts),
        "concept": [{"code": code, "display": display} for code, display in concepts.items()],
    }
    return result | ({"copyright": FRAGMENTS[system]} if fragment else {})


def value_set(system: str, concepts: Concepts) -> dict[str, Any]:
    """Every code of one system that Hilum writes."""
    name = name_of(system)
    rows = [{"code": code, "display": display} for code, display in concepts.items()]
    return {
        "resourceType": "ValueSet",
        "id": f"hilum-written-{name}",
        "url": f"{CANONICAL}/ValueSet/written-{name}",
        "version": "0.1.0",
        "name": f"Written{_title(name)}",
        "status": "active",
        "experimental": False,
        "date": DATE,
        "publisher": "Hilum",
        "description": f"The codes of {system} that Hilum writes.",
        "compose": {"include": [{"system": system, "concept": rows}]},
    }


def files() -> dict[Path, str]:
    """Path below `profiles/` and content of each file."""
    result = {}
    for system, concepts in written_codes().items():
        name = name_of(system)
        if system in FRAGMENTS or system.startswith(CANONICAL):
            path = Path("codesystem") / f"CodeSystem-{name}.json"
            result[path] = _text(code_system(system, concepts))
        if system == codes.DCM:
            path = Path("codesystem") / f"CodeSystem-{name}.json"
            result[path] = _text(code_system(system, dicom_codes()), indent=None)
        path = Path("valueset") / f"ValueSet-written-{name}.json"
        result[path] = _text(value_set(system, concepts))
    return result


def _title(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))


def _text(resource: dict[str, Any], indent: int | None = 2) -> str:
    return json.dumps(resource, indent=indent, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the files and take away those of codes that are gone."""
    wanted = files()
    for folder in ("codesystem", "valueset"):
        (PROFILES / folder).mkdir(exist_ok=True)
        for path in (PROFILES / folder).glob("*.json"):
            if path.relative_to(PROFILES) not in wanted:
                path.unlink()
    for path, text in wanted.items():
        (PROFILES / path).write_text(text)
    sys.stdout.write(f"{len(wanted)} files written to {PROFILES}\n")


if __name__ == "__main__":
    main()
