"""Fill the tables of the DICOM conformance statement from the code that they speak of.

docs/conformance/dicom.md is written by hand between marks; what stands inside a pair of
`<!-- table: NAME -->` and `<!-- end -->` is made here. `--check` exits 1 when it is out of date.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from pydicom.uid import UID

from dicomweb.problems import PROBLEMS
from dicomweb.routes import RULES
from dimse.association.services import Service
from dimse.commitment import scp as commit
from dimse.query import scp as query
from dimse.retrieve import scp as retrieve
from dimse.server import DimseConfig
from dimse.wire.contexts import VERIFICATION, storage_classes
from dimse.wire.fileheader import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from dimse.wire.status import STATUS_OF
from dimse.workflow import mpps, worklist

PAGE = Path(__file__).resolve().parents[1] / "docs" / "conformance" / "dicom.md"
_TABLE = re.compile(r"<!-- table: (?P<name>[a-z-]+) -->\n.*?<!-- end -->", re.DOTALL)
_NOTHING = cast(Any, None)  # the tables need no archive behind a service


def services() -> tuple[Service, ...]:
    """The services as the server has them, with nothing behind them."""
    return (
        query.service(_NOTHING, _NOTHING, query.QueryConfig()),
        retrieve.service(_NOTHING, _NOTHING, _NOTHING, _NOTHING),
        worklist.service(_NOTHING, _NOTHING),
        mpps.service(_NOTHING, _NOTHING),
        commit.service(_NOTHING, _NOTHING, _NOTHING),
    )


def name_of(uid: str) -> str:
    """Name of a UID by PS3.6, without what its retirement adds."""
    return str(UID(uid).name).replace(" (Retired)", "")


def identification() -> Iterator[str]:
    """What an association says of the implementation."""
    config = DimseConfig()
    yield "| item | value |"
    yield "|---|---|"
    yield f"| Implementation Class UID | `{IMPLEMENTATION_CLASS_UID}` |"
    yield f"| Implementation Version Name | `{IMPLEMENTATION_VERSION}` |"
    yield f"| AE title | `{config.ae_title}` (setting `dimse.ae_title`) |"
    yield f"| Maximum PDU that we receive | {config.maximum_pdu} bytes |"
    most = config.most
    yield (
        f"| Associations at once | {most.total}; from one address {most.per_address},"
        f" with one AE title {most.per_title} |"
    )


def services_table() -> Iterator[str]:
    """SOP classes of which we are the SCP, storage left out."""
    yield "| SOP class | UID | service | right needed | transfer syntaxes, best first |"
    yield "|---|---|---|---|---|"
    yield f"| {name_of(VERIFICATION)} | `{VERIFICATION}` | verification | | any |"
    for service in services():
        for uid, syntaxes in sorted(service.abstract_syntaxes.items()):
            names = ", ".join(name_of(one) for one in syntaxes)
            right = service.right or ""
            yield f"| {name_of(uid)} | `{uid}` | {service.name} | {right} | {names} |"


def storage_table() -> Iterator[str]:
    """Storage SOP classes, retired ones too."""
    yield "| SOP class | UID |"
    yield "|---|---|"
    for uid in sorted(storage_classes(), key=lambda one: (name_of(one), one)):
        yield f"| {name_of(uid)} | `{uid}` |"


def store_status_table() -> Iterator[str]:
    """Status and comment of each refusal."""
    by_status: dict[int, list[str]] = {}
    for failure in STATUS_OF.values():
        by_status.setdefault(failure.status, []).append(failure.comment)
    yield "| status | Error Comment (0000,0902) |"
    yield "|---|---|"
    yield "| 0x0000 | stored, or the same content is stored already |"
    for status, comments in sorted(by_status.items()):
        yield f"| 0x{status:04X} | {'; '.join(dict.fromkeys(comments))} |"


def routes_table() -> Iterator[str]:
    """Resources of the DICOMweb service."""
    yield "| method | resource | |"
    yield "|---|---|---|"
    for rule in RULES:
        yield f"| {rule.method} | `{rule.path}` | {rule.summary} |"


def http_status_table() -> Iterator[str]:
    """HTTP status of each refusal, and the failure reason inside a store's answer."""
    yield "| status | failure reason (0008,1197) | when |"
    yield "|---|---|---|"
    rows: dict[tuple[int, int], list[str]] = {}
    for error, problem in PROBLEMS.items():
        text = (error.__doc__ or error.__name__).splitlines()[0].rstrip(".")
        rows.setdefault((problem.status, problem.reason), []).append(text)
    for (status, reason), texts in sorted(rows.items()):
        yield f"| {status} | 0x{reason:04X} | {'; '.join(dict.fromkeys(texts))} |"


TABLES = {
    "identification": identification,
    "services": services_table,
    "storage": storage_table,
    "store-status": store_status_table,
    "routes": routes_table,
    "http-status": http_status_table,
}


def filled(text: str) -> str:
    """The page with every table made anew. Raises KeyError for a table that nobody makes."""

    def table(found: re.Match[str]) -> str:
        name = found["name"]
        body = "\n".join(TABLES[name]())
        return f"<!-- table: {name} -->\n{body}\n<!-- end -->"

    return _TABLE.sub(table, text)


def main() -> int:
    """Write or check. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    text = PAGE.read_text(encoding="utf-8")
    made = filled(text)
    if not check:
        PAGE.write_text(made, encoding="utf-8")
    elif made != text:
        sys.stderr.write("docs/conformance/dicom.md is out of date: python tools/conformance.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
