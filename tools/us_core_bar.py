"""Writes `profiles/us-core/bar-<version>.json`: what US Core asks of the types that Hilum serves.

Input: the `metadata.yml` files that Inferno's US Core test kit generates from the packages of the
implementation guide (inferno-framework/us-core-test-kit, Apache-2.0, commit in SOURCE), laid out
as `<folder>/v6.1.0/<group>/metadata.yml`. Only what our tests use is kept, in our own form:
`tests/uscore/test_bar.py` holds it against the packages themselves.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[1] / "profiles" / "us-core"
VERSIONS = ("6.1.0", "7.0.0", "8.0.0")
SOURCE = "inferno-framework/us-core-test-kit@73fc69a5f45f9250d5df23aa3b9fbea2bdbba79b"
GROUPS = (
    "patient",
    "encounter",
    "practitioner",
    "practitioner_role",
    "organization",
    "location",  # since 7.0.0
    "diagnostic_report_note",
    "diagnostic_report_lab",
    "observation_clinical_result",
    "observation_lab",
    "simple_observation",
    "document_reference",
    "service_request",
    "provenance",
    "specimen",
)
Yaml = dict[str, Any]


def plain(value: Any) -> Any:
    """Ruby symbols (`:name`) as plain names, all the way down."""
    if isinstance(value, dict):
        return {str(key).lstrip(":"): plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value


def group(name: str, metadata: Yaml) -> Yaml:
    """One profile: interactions, searches, must-support items and references."""
    kept = ("paths", "type", "values", "multiple_or", "chain")
    parameters = {
        parameter: {key: about[key] for key in kept if about.get(key)}
        | {"comparators": [c for c, e in about.get("comparators", {}).items() if e == "SHALL"]}
        for parameter, about in metadata["search_definitions"].items()
    }
    return {
        "name": name,
        "resource": metadata["resource"],
        "profile": metadata["profile_url"],
        "interactions": {one["code"]: one["expectation"] for one in metadata["interactions"]},
        "operations": {one["code"]: one["expectation"] for one in metadata["operations"]},
        "searches": sorted(
            ({"expectation": s["expectation"], "names": s["names"]} for s in metadata["searches"]),
            key=lambda search: (search["expectation"], search["names"]),
        ),
        "parameters": parameters,
        "includes": metadata["include_params"],
        "revincludes": metadata["revincludes"],
        "must_support": must_support(metadata["must_supports"]),
        "references": metadata["references"],
    }


def must_support(found: Yaml) -> Yaml:
    """Elements, slices, extensions; `choices` name elements of which one is enough."""
    elements = [
        {"path": one["path"]}
        | ({"value": one["fixed_value"]} if "fixed_value" in one else {})
        | ({"targets": one.get("target_profiles", [])} if "types" in one else {})
        for one in found["elements"]
    ]
    slices = [
        {"path": one["path"], "name": one["slice_name"], "discriminator": one["discriminator"]}
        for one in found["slices"]
    ]
    return {
        "elements": elements,
        "slices": slices,
        "extensions": [{"path": e["path"], "url": e["url"]} for e in found["extensions"]],
        "choices": [one["paths"] for one in found.get("choices", []) if "paths" in one],
        "target_choices": [
            one["target_profiles"] for one in found.get("choices", []) if "target_profiles" in one
        ],
    }


def bar(version: str, source: Path) -> Yaml:
    """Every group of one version."""
    groups = []
    for name in GROUPS:
        file = source / f"v{version}" / name / "metadata.yml"
        if file.is_file():
            groups.append(group(name, plain(yaml.safe_load(file.read_text()))))
    return {
        "version": version,
        "source": SOURCE,
        "licence": "Apache-2.0; see NOTICE.md",
        "groups": groups,
    }


def main() -> None:
    """Write one file per version."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m tools.us_core_bar FOLDER")
    for version in VERSIONS:
        found = bar(version, Path(sys.argv[1]))
        text = json.dumps(found, indent=1, sort_keys=True) + "\n"
        (FOLDER / f"bar-{version}.json").write_text(text)
        sys.stdout.write(f"{version}: {len(found['groups'])} groups\n")


if __name__ == "__main__":
    main()
