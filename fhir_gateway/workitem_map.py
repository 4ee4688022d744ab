"""Between a Task and a work item: codes, times, inputs and outputs, as pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import NAMESPACE_OID, uuid5
from zoneinfo import ZoneInfo

from archive.keys import DicomJson
from archive.workitem_document import (
    CANCEL_CODE,
    CANCEL_REASON,
    CANCELED_AT,
    CODE,
    INPUT,
    LABEL,
    OUTPUT,
    PERFORMED,
    PRIORITY,
    PROGRESS,
    READINESS,
    REQUEST,
    START,
    STATE,
    STUDY_UID,
    WORKLIST_LABEL,
    code_item,
    data_set,
    element,
    first,
    now,
)
from records import identifiers

Resource = dict[str, Any]

SCHEME = "99HILUM"
WORKLIST = "Inference"
STATION = code_item("HILUM", SCHEME, "Hilum inference worker")
PATIENT = ("00100010", "00100020", "00100021", "00100024", "00100030", "00100040")
ORDER = ("00080050", "00080051", "00321060", "00321064")
DERIVED = frozenset({"SEG", "SR", "PR", "KO", "DOC", "RWV", "REG", "PMAP", "RTSTRUCT"})
MODEL = "model"
ATTEMPTS = "attempts"
DESCRIPTION, COMPLETE_PERCENT = "00741006", "00741004"
OUTPUTS = frozenset({"segmentation", "measurement-report"})
# PS3.16 CID 9301.
REASONS = {
    "cancelled": ("110527", "DCM", "Duplicate order"),
    "rejected": ("110521", "DCM", "Objects incorrectly formatted"),
    "failed": ("110501", "DCM", "Equipment failure"),
}
UNSPECIFIED = ("110513", "DCM", "Discontinued for unspecified reason")


def order_identifier(uid: str) -> dict[str, str]:
    """Task.identifier of the work item that has ordered it."""
    return {"system": identifiers.DICOM_UID, "value": identifiers.oid(uid)}


def orders_of(task: Resource) -> list[str]:
    """UIDs of the work items that have ordered a Task."""
    return [
        identifiers.uid_of(str(one["value"]))
        for one in task.get("identifier", [])
        if one.get("system") == identifiers.DICOM_UID
    ]


def mirror_uid(task: Resource) -> str:
    """The UID of the work item that shows a Task which no work item has ordered."""
    return f"2.25.{uuid5(NAMESPACE_OID, f'workitem of Task {run_of(task)}').int}"


def run_of(task: Resource) -> str:
    """Identifier of the run that the Task stands for."""
    return next(
        str(one["value"])
        for one in task.get("identifier", [])
        if one.get("system") == identifiers.INFERENCE_RUN
    )


def model_of(task: Resource) -> str:
    """`name@version` of the model of a Task."""
    return str(_input(task, MODEL, "valueString") or "")


def _input(task: Resource, name: str, kind: str) -> Any:
    found = (one for one in task.get("input", []) if one.get("type", {}).get("text") == name)
    return next((one.get(kind) for one in found), None)


def mirrored(task: Resource, imaging: Resource, study: DicomJson) -> DicomJson:
    """The data set of a work item that shows a Task.

    Args:
        imaging: the ImagingStudy that the Task is about.
        study: attributes of the same study in the archive.
    """
    uid = str(first(study, STUDY_UID))
    order = {name: study[name] for name in (STUDY_UID, *ORDER) if name in study}
    label = str(task.get("code", {}).get("text") or task.get("description") or model_of(task))
    item = data_set(
        {
            STATE: "SCHEDULED",
            PRIORITY: "MEDIUM",
            LABEL: label[:64],
            WORKLIST_LABEL: WORKLIST,
            START: moment(str(task["authoredOn"])),
            READINESS: "READY",
            STUDY_UID: uid,
            REQUEST: order,
            CODE: model_code(task),
        }
    )
    item[INPUT] = element(INPUT, *_inputs(uid, imaging))
    return item | {name: study[name] for name in PATIENT if name in study}


def model_code(task: Resource) -> DicomJson:
    """The workitem code of the model that a Task runs."""
    meaning = str(task.get("description") or model_of(task))
    return code_item(model_of(task), SCHEME, meaning[:64])


def _inputs(study_uid: str, imaging: Resource) -> list[DicomJson]:
    return [
        _references(
            study_uid,
            str(series["uid"]),
            (
                (identifiers.uid_of(str(one.get("sopClass", {}).get("code", ""))), str(one["uid"]))
                for one in series["instance"]
            ),
        )
        for series in imaging.get("series", [])
        if series.get("modality", {}).get("code") not in DERIVED and series.get("instance")
    ]


def _references(
    study_uid: str, series_uid: str | None, instances: Iterable[tuple[str, str]]
) -> DicomJson:
    """One item of the Referenced Instances and Access Macro (PS3.3 10.3b)."""
    found = [data_set({"00081150": kind, "00081155": uid}) for kind, uid in instances]
    item = data_set({"0040E020": "DICOM", STUDY_UID: study_uid})
    if series_uid is not None:
        item["0020000E"] = element("0020000E", series_uid)
    return item | {"00081199": element("00081199", *found)}


def output_uids(task: Resource) -> list[str]:
    """SOP Instance UIDs of the segmentation and the report that a Task has made."""
    return [
        identifiers.uid_of(str(one["valueReference"]["identifier"]["value"]))
        for one in task.get("output", [])
        if one.get("type", {}).get("text") in OUTPUTS
        and "identifier" in one.get("valueReference", {})
    ]


def running(task: Resource) -> DicomJson:
    """What a work item says while its Task runs."""
    attempt = _input(task, ATTEMPTS, "valueInteger") or 1
    item = data_set({COMPLETE_PERCENT: "0", DESCRIPTION: f"Running, attempt {attempt}"})
    return {PROGRESS: element(PROGRESS, item)}


def performed(task: Resource, instances: Iterable[DicomJson], dicomweb_base: str) -> DicomJson:
    """What a completed work item says: when, by what, and which objects it has made.

    Args:
        instances: the made objects as the archive finds them, with study and series.
        dicomweb_base: public URL of DICOMweb.
    """
    period = task.get("executionPeriod", {})
    item = data_set(
        {
            "00404028": STATION,
            "00404050": moment(str(period.get("start") or task["authoredOn"])),
            "00404019": model_code(task),
            "00404051": moment(str(period.get("end") or task["lastModified"])),
        }
    )
    item[OUTPUT] = element(OUTPUT, *_outputs(instances, dicomweb_base))
    done = data_set({COMPLETE_PERCENT: "100", DESCRIPTION: "Completed"})
    return {PERFORMED: element(PERFORMED, item), PROGRESS: element(PROGRESS, done)}


def _outputs(instances: Iterable[DicomJson], dicomweb_base: str) -> list[DicomJson]:
    series: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for one in instances:
        place = (str(first(one, STUDY_UID)), str(first(one, "0020000E")))
        series[place].append((str(first(one, "00080016")), str(first(one, "00080018"))))
    found = []
    for (study_uid, series_uid), references in sorted(series.items()):
        url = f"{dicomweb_base}/studies/{study_uid}/series/{series_uid}"
        item = _references(study_uid, series_uid, sorted(references))
        item["0040E025"] = element("0040E025", data_set({"00081190": url}))
        found.append(item)
    return found


def canceled(reason: str, code: tuple[str, str, str]) -> DicomJson:
    """What a canceled work item says."""
    value, scheme, meaning = code
    item = data_set({CANCELED_AT: now(), CANCEL_REASON: reason[:1024], DESCRIPTION: "Canceled"})
    item[CANCEL_CODE] = element(CANCEL_CODE, code_item(value, scheme, meaning))
    return {PROGRESS: element(PROGRESS, item)}


def ended(task: Resource) -> DicomJson:
    """What a work item says whose Task has ended without a result."""
    reason = str(task.get("statusReason", {}).get("text") or f"the Task is {task['status']}")
    return canceled(reason, REASONS.get(str(task["status"]), UNSPECIFIED))


def moment(instant: str) -> str:
    """A FHIR instant as a DT value in UTC."""
    return datetime.fromisoformat(instant).astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")


def starts_at(value: str, zone: str | None) -> datetime | None:
    """A scheduled start; without an offset it is in the site's zone. None if it is not exact."""
    digits, sign, offset = value.split(".")[0], "", ""
    for mark in "+-":
        if mark in value:
            digits, sign, offset = value.split(mark)[0].split(".")[0], mark, value.split(mark)[1]
    try:
        at = datetime.strptime(digits.ljust(12, "0")[:12], "%Y%m%d%H%M")  # noqa: DTZ007
        if not sign:
            return at.replace(tzinfo=ZoneInfo(zone) if zone else UTC)
        shift = timedelta(hours=int(offset[:2]), minutes=int(offset[2:]))
        return at.replace(tzinfo=timezone(shift if sign == "+" else -shift))
    except ValueError:
        return None
