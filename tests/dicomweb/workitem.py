"""A work item as a workflow manager would send it, and small ways to read answers."""

from __future__ import annotations

from typing import Any

from pydicom.uid import generate_uid

TASKS = "system/Task.cruds"
JSON = {"Content-Type": "application/dicom+json"}
TRANSACTION = "00081195"


def element(vr: str, *values: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def code(value: str, scheme: str, meaning: str) -> dict[str, Any]:
    return {
        "00080100": element("SH", value),
        "00080102": element("SH", scheme),
        "00080104": element("LO", meaning),
    }


def _input(study: str) -> dict[str, Any]:
    reference = {
        "00081150": element("UI", "1.2.840.10008.5.1.4.1.1.4"),
        "00081155": element("UI", generate_uid()),
    }
    return {
        "0040E020": element("CS", "DICOM"),
        "0020000D": element("UI", study),
        "0020000E": element("UI", generate_uid()),
        "00081199": element("SQ", reference),
    }


def _request(study: str) -> dict[str, Any]:
    return {
        "0020000D": element("UI", study),
        "00080050": element("SH", "ACC1"),
        "00401001": element("SH", "RP1"),
    }


def work_item(study: str | None = None, **changes: Any) -> dict[str, Any]:
    """A complete data set of type 1 and 2; keyword arguments (t00741200=...) replace attributes."""
    study = study or generate_uid()
    item = {
        "00741000": element("CS", "SCHEDULED"),
        "00741200": element("CS", "MEDIUM"),
        "00741204": element("LO", "Segment"),
        "00741202": element("LO", "AI"),
        "00404005": element("DT", "20260115103000"),
        "00404041": element("CS", "READY"),
        "00404018": element("SQ", code("12345", "99TEST", "Do the work")),
        "00404025": element("SQ", code("GPU1", "99TEST", "GPU 1")),
        "00404021": element("SQ", _input(study)),
        "0040A370": element("SQ", _request(study)),
        "00100010": element("PN", {"Alphabetic": "Müller^Jörg"}),
        "00100020": element("LO", "P-77"),
        "00100021": element("LO"),
        "00100024": element("SQ"),
        "00100030": element("DA", "19700101"),
        "00100040": element("CS", "M"),
        "00101002": element("SQ"),
        "00380010": element("LO"),
        "00380014": element("SQ"),
        "00081080": element("LO"),
        "00081084": element("SQ"),
        "00404026": element("SQ"),
        "00404027": element("SQ"),
        "00741210": element("SQ"),
        "00400400": element("LT"),
    }
    for name, value in changes.items():
        item[name.removeprefix("t")] = value
    return {name: value for name, value in item.items() if value is not None}


def state(wanted: str, transaction: str | None) -> dict[str, Any]:
    """The body of a state change."""
    body = {"00741000": element("CS", wanted)}
    return body | ({TRANSACTION: element("UI", transaction)} if transaction else {})


def performed(study: str) -> dict[str, Any]:
    """What COMPLETED needs."""
    output = {
        "0040E020": element("CS", "DICOM"),
        "0020000D": element("UI", study),
        "0020000E": element("UI", generate_uid()),
        "00081199": element(
            "SQ",
            {
                "00081150": element("UI", "1.2.840.10008.5.1.4.1.1.66.4"),
                "00081155": element("UI", generate_uid()),
            },
        ),
    }
    item = {
        "00404028": element("SQ", code("GPU1", "99TEST", "GPU 1")),
        "00404050": element("DT", "20260115103100"),
        "00404019": element("SQ", code("12345", "99TEST", "Do the work")),
        "00404051": element("DT", "20260115103200"),
        "00404033": element("SQ", output),
    }
    return {"00741216": element("SQ", item)}


def value(document: dict[str, Any], *path: str) -> Any:
    """The first value at a path of tags through sequences."""
    found: Any = document
    for name in path:
        found = found[name]["Value"][0]
    return found
