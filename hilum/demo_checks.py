"""What the demo looks for after it has sent a study: each check by FHIR or DICOMweb."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pydicom
from dicomweb_client.api import DICOMwebClient
from highdicom.seg import Segmentation, segread
from numpy.typing import NDArray

from hilum.commands.minting import mint
from hilum.example.series import truth
from hilum.settings import Settings
from inference.evaluate import dice_by_region
from inference.measure import Region

# Dice of the case in the model card, through the same steps (docs/README.md of the bundle).
CARD = {"synth-ring": {Region.WT: 0.894, Region.TC: 0.923, Region.ET: 0.814}}
CARD_TOLERANCE = 0.03
# Segmented Property Type (CID 7168) to the label of the ground truth.
LABEL_OF_TYPE = {"6574001": 1, "C81175": 1, "79654002": 2, "C113842": 3}
TO_SEARCHABLE_S = 3.0
TO_REPORT_S = 30.0
PATIENCE_S = 120.0
PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
VIEWER_LIFETIME = "8h"


class StepFailed(Exception):
    """A step of the journey did not come about; the text says which."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the result."""

    step: str
    good: bool
    result: str
    seconds: float | None = None


@dataclass(slots=True)
class Journey:
    """What was sent, and how the checks reach the server."""

    base: str
    token: str
    first_file: Path
    instances: int
    case: str
    send_seconds: float
    sent_at: float
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def study_uid(self) -> str:
        """Study Instance UID of what was sent."""
        header = pydicom.dcmread(self.first_file, specific_tags=["StudyInstanceUID"])
        return str(header.StudyInstanceUID)

    @property
    def headers(self) -> dict[str, str]:
        """Headers of each request."""
        return {"Authorization": f"Bearer {self.token}"}


Step = Callable[[Journey, httpx.AsyncClient, Settings], Awaitable[list[Check]]]


async def check_all(journey: Journey, settings: Settings) -> list[Check]:
    """Run every check in the order of the path; later ones still run when one fails."""
    checks: list[Check] = []
    async with httpx.AsyncClient(headers=journey.headers, timeout=30.0, trust_env=False) as client:
        for step in STEPS:
            try:
                checks += await step(journey, client, settings)
            except (StepFailed, httpx.HTTPError, KeyError, OSError) as error:
                name = step.__name__.strip("_").replace("_", " ")
                checks.append(Check(name, False, f"{type(error).__name__}: {error}"))
    return checks


async def _imaging_study(journey: Journey, client: httpx.AsyncClient, _: Settings) -> list[Check]:
    uid = f"urn:oid:{journey.study_uid}"

    async def find() -> dict[str, Any] | None:
        found = await _search(client, journey, "ImagingStudy", identifier=f"urn:dicom:uid|{uid}")
        return found[0] if found else None

    study = await _until(find, "no ImagingStudy appeared", interval_s=0.05)
    after = time.monotonic() - journey.sent_at
    journey.found["study"] = study
    count = study["numberOfInstances"]
    url = f"{journey.base}/fhir/ImagingStudy/{study['id']}"
    on_time = after < TO_SEARCHABLE_S
    return [
        Check("ImagingStudy searchable", on_time, f"{url} ({count} instances)", after),
        Check("counts equal what was sent", count == journey.instances, f"{count} instances"),
    ]


async def _task(journey: Journey, client: httpx.AsyncClient, _: Settings) -> list[Check]:
    focus = f"ImagingStudy/{journey.found['study']['id']}"

    async def find() -> dict[str, Any] | None:
        tasks = await _search(client, journey, "Task", focus=focus)
        ended = [task for task in tasks if task["status"] not in ("requested", "in-progress")]
        return ended[0] if ended else None

    task = await _until(find, "the Task did not end")
    after = time.monotonic() - journey.sent_at
    url = f"{journey.base}/fhir/Task/{task['id']}"
    return [Check(f"Task {task['status']}", task["status"] == "completed", url, after)]


async def _segmentation_and_sr(
    journey: Journey, client: httpx.AsyncClient, _: Settings
) -> list[Check]:
    study = journey.study_uid
    answer = await client.get(
        f"{journey.base}/dicomweb/studies/{study}/instances",
        params={"includefield": "SOPClassUID"},
        headers={"Accept": "application/dicom+json"},
    )
    answer.raise_for_status()
    checks = []
    for modality in ("SEG", "SR"):
        found = [one for one in answer.json() if one["00080060"]["Value"] == [modality]]
        journey.found[modality] = found
        url = found[0]["00081190"]["Value"][0] if found else "none"
        checks.append(Check(f"one {modality} in the study", len(found) == 1, url))
    return checks


async def _dice(journey: Journey, _: httpx.AsyncClient, __: Settings) -> list[Check]:
    labels = await asyncio.to_thread(_labels, journey)
    scores = dice_by_region(labels, truth(journey.case))
    checks = []
    for region, expected in CARD[journey.case].items():
        got = scores[region]
        good = abs(got - expected) <= CARD_TOLERANCE
        text = f"{got:.3f} (model card {expected:.3f}; synthetic data, no clinical claim)"
        checks.append(Check(f"Dice {region.name} against the truth", good, text))
    return checks


def _labels(journey: Journey) -> NDArray[np.uint8]:
    """The stored segmentation as a label map on the grid of the sent series."""
    seg = journey.found["SEG"][0]
    uids = [seg[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018")]
    client = DICOMwebClient(f"{journey.base}/dicomweb", headers=journey.headers)
    dataset = client.retrieve_instance(*uids)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    buffer.seek(0)
    segmentation: Segmentation = segread(buffer)
    shape = truth(journey.case).shape
    labels: NDArray[np.uint8] = np.zeros(shape, np.uint8)
    sources = _slice_order(client, segmentation)
    for number in segmentation.segment_numbers:
        coded = segmentation.get_segment_description(number).segmented_property_type
        masks = segmentation.get_pixels_by_source_instance(
            sources,
            segment_numbers=[number],
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
        )
        labels[masks[..., 0] > 0] = LABEL_OF_TYPE[coded.value]
    return labels


def _slice_order(client: DICOMwebClient, segmentation: Segmentation) -> list[str]:
    """SOP Instance UIDs of the segmented series, lowest slice first, as in the truth."""
    study = str(segmentation.StudyInstanceUID)
    series = str(segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID)
    slices = client.retrieve_series_metadata(study, series)
    slices.sort(key=lambda one: one["00200032"]["Value"][2])
    return [one["00080018"]["Value"][0] for one in slices]


async def _observations(journey: Journey, client: httpx.AsyncClient, _: Settings) -> list[Check]:
    report = await _report_of(journey, client)
    journey.found["report"] = report
    results = [await _read(client, journey, one["reference"]) for one in report["result"]]
    volumes = [
        f"{one['code'].get('text', one['code']['coding'][0].get('display'))} "
        f"{one['valueQuantity']['value']:.1f} mL"
        for one in results
        if one.get("valueQuantity", {}).get("code") in ("mL", "cm3")
    ]
    return [Check(f"{len(results)} Observations", bool(volumes), "; ".join(volumes))]


async def _report(journey: Journey, client: httpx.AsyncClient, _: Settings) -> list[Check]:
    async def rendered() -> dict[str, Any] | None:
        report = await _report_of(journey, client)
        return report if len(report.get("presentedForm", [])) >= 2 else None

    report = await _until(rendered, "no PDF and DOCX were attached to the DiagnosticReport")
    after = time.monotonic() - journey.sent_at
    url = f"{journey.base}/fhir/DiagnosticReport/{report['id']}"
    checks = [
        Check(f"DiagnosticReport {report['status']}", after < TO_REPORT_S, url, after),
    ]
    for form in report["presentedForm"]:
        if form["contentType"] in (PDF, DOCX):
            checks.append(await _rendition(journey, client, form))
    return checks


async def _rendition(journey: Journey, client: httpx.AsyncClient, form: dict[str, Any]) -> Check:
    kind = "PDF" if form["contentType"] == PDF else "DOCX"
    url = form["url"] if form["url"].startswith("http") else f"{journey.base}/fhir/{form['url']}"
    answer = await client.get(url, headers={"Accept": form["contentType"]})
    magic = b"%PDF-" if kind == "PDF" else b"PK"
    good = answer.status_code == httpx.codes.OK and answer.content.startswith(magic)
    good = good and len(answer.content) == form["size"]
    return Check(kind, good, f"{url} ({len(answer.content) / 1024:.0f} KiB)")


async def _encapsulated_pdf(
    journey: Journey, client: httpx.AsyncClient, _: Settings
) -> list[Check]:
    async def find() -> dict[str, Any] | None:
        answer = await client.get(
            f"{journey.base}/dicomweb/studies/{journey.study_uid}/series",
            params={"Modality": "DOC"},
            headers={"Accept": "application/dicom+json"},
        )
        found = answer.json() if answer.status_code == httpx.codes.OK else []
        return found[0] if found else None

    series = await _until(find, "no Encapsulated PDF joined the study")
    return [Check("Encapsulated PDF in the study", True, series["00081190"]["Value"][0])]


async def _viewer(journey: Journey, client: httpx.AsyncClient, settings: Settings) -> list[Check]:
    # Limited to this study and to reading: the link can be pasted into a browser.
    token = mint(
        settings,
        subject="demo-viewer",
        scope="system/ImagingStudy.rs",
        lifetime=VIEWER_LIFETIME,
        studies=[journey.study_uid],
    )
    url = f"{journey.base}/ohif/segmentation?StudyInstanceUIDs={journey.study_uid}&token={token}"
    answer = await client.get(f"{journey.base}/ohif/viewer")
    if answer.status_code == httpx.codes.OK:
        return [Check("viewer (OHIF)", True, url)]
    return [Check("viewer (OHIF) left out: npm was not there at set-up", True, "make setup")]


STEPS: tuple[Step, ...] = (
    _imaging_study,
    _task,
    _segmentation_and_sr,
    _dice,
    _observations,
    _report,
    _encapsulated_pdf,
    _viewer,
)


async def _report_of(journey: Journey, client: httpx.AsyncClient) -> dict[str, Any]:
    study = f"ImagingStudy/{journey.found['study']['id']}"
    reports = await _search(
        client, journey, "DiagnosticReport", subject=journey.found["study"]["subject"]["reference"]
    )
    for report in reports:
        if any(one["reference"] == study for one in report.get("imagingStudy", [])):
            return report
    raise StepFailed(f"no DiagnosticReport names {study}")


async def _until(
    find: Callable[[], Awaitable[dict[str, Any] | None]], failure: str, interval_s: float = 0.25
) -> dict[str, Any]:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = await find()
        if found is not None:
            return found
        await asyncio.sleep(interval_s)
    raise StepFailed(f"{failure} within {PATIENCE_S:.0f} s")


async def _search(
    client: httpx.AsyncClient, journey: Journey, kind: str, **parameters: str
) -> list[dict[str, Any]]:
    answer = await client.get(f"{journey.base}/fhir/{kind}", params=parameters)
    answer.raise_for_status()
    return [entry["resource"] for entry in answer.json().get("entry", [])]


async def _read(client: httpx.AsyncClient, journey: Journey, reference: str) -> dict[str, Any]:
    answer = await client.get(f"{journey.base}/fhir/{reference}")
    answer.raise_for_status()
    resource: dict[str, Any] = answer.json()
    return resource
