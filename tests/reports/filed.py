"""Puts the example report into a FHIR store under ids of its own."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

from pydicom.uid import generate_uid

from records import Records
from tests.reports.example import RUN, STUDY_UID, bundle


@dataclass(frozen=True)
class Filed:
    """A report in the store. `resources` is what was written, by the example's references."""

    report_id: str
    study_uid: str
    run: str
    resources: dict[str, Any]


async def file_report(records: Records, observations: list[dict] | None = None) -> Filed:
    """Write the example, with new ids and UIDs, in one transaction."""
    tag = uuid.uuid4().hex[:12]
    study, run = str(generate_uid(prefix="2.25.")), tag + RUN[12:]
    example = bundle(observations)
    text = json.dumps(example)
    for reference in example:
        kind, name = reference.split("/")
        text = text.replace(f'"{reference}"', f'"{kind}/{name}-{tag}"')
        text = text.replace(f'"id": "{name}"', f'"id": "{name}-{tag}"')
    text = text.replace(STUDY_UID, study).replace(RUN, run).replace("MRN-004711", f"MRN-{tag}")
    resources = json.loads(text)
    await records.transaction(
        [
            {
                "fullUrl": f"urn:uuid:{uuid.uuid4()}",
                "resource": resource,
                "request": {"method": "PUT", "url": reference},
            }
            for reference, resource in resources.items()
        ]
    )
    short = {r.replace(f"-{tag}", ""): resource for r, resource in resources.items()}
    return Filed(f"report-{tag}", study, run, short)
