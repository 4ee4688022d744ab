"""Modality Performed Procedure Step: N-CREATE, N-SET and N-GET (PS3.4 F.7 and F.8)."""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import evt
from pynetdicom.events import Event

from access import AuditEventKind
from archive import ArchiveError
from archive.header import is_valid_uid, text
from archive.keys import DicomJson
from archive.procedure import (
    SCHEDULED_STEPS,
    STATUS,
    STUDY_UID,
    PerformedSteps,
    StepExists,
    StepFinal,
    StepUnknown,
)
from dimse.association.admitted import admitted
from dimse.association.ledger import Ledger
from dimse.association.services import Service
from dimse.query.identifier import CHARACTER_SET, to_dataset
from dimse.query.scp import SYNTAXES, status
from dimse.wire.charset import UnknownCharacterSet, choose, parse_terms, terms_of, texts_of
from dimse.wire.status import (
    DUPLICATE,
    INVALID_INSTANCE,
    NO_SUCH_INSTANCE,
    PROCESSING_FAILURE,
    SUCCESS,
)

log = structlog.get_logger(__name__)

STEP = "1.2.840.10008.3.1.2.3.3"
STEP_RETRIEVE = "1.2.840.10008.3.1.2.3.4"
NOT_SUPPORTED_WARNING = 0x0001
INVALID_VALUE, MISSING_ATTRIBUTE, MISSING_VALUE = 0x0106, 0x0120, 0x0121
RESOURCES, UNRECOGNISED = 0x0213, 0x0211
# PS3.4 table F.7.2-2.
FINAL_COMMENT = "Performed Procedure Step Object may no longer be updated"
FINAL_ERROR_ID = 0xA710

Answer = tuple[int | Dataset, Dataset | None]

# Type 1 when the step is created (PS3.4 table F.7.2-1). Attributes of type 2 that are left out
# are taken as empty: modalities do it, and a step that is not reported helps nobody.
_NEEDED = (
    "ScheduledStepAttributesSequence", "PerformedProcedureStepID", "PerformedStationAETitle",
    "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime",
    "PerformedProcedureStepStatus", "Modality",
)  # fmt: skip
_NEEDED_AT_END = ("PerformedProcedureStepEndDate", "PerformedProcedureStepEndTime")
_SERIES = "PerformedSeriesSequence"
# What N-SET may repeat, but not change.
_FIXED = (
    "ScheduledStepAttributesSequence", "PatientID", "PatientName", "PatientBirthDate",
    "PatientSex", "PerformedProcedureStepID", "PerformedStationAETitle",
    "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime", "Modality", "StudyID",
)  # fmt: skip
_STATUSES = ("IN PROGRESS", "COMPLETED", "DISCONTINUED")


class _Refused(Exception):
    """An attribute list that is not accepted, with the status that says why."""

    def __init__(self, code: int, comment: str, error_id: int | None = None) -> None:
        super().__init__(comment)
        self.answer = status(code, comment)
        if error_id is not None:
            self.answer.ErrorID = error_id


def service(steps: PerformedSteps, ledger: Ledger) -> Service:
    """The service for performed procedure steps; whoever may read the worklist may report."""
    reporting = _Reporting(steps, ledger)
    return Service(
        name="procedure step",
        right="worklist",
        abstract_syntaxes={STEP: SYNTAXES, STEP_RETRIEVE: SYNTAXES},
        handlers=(
            (evt.EVT_N_CREATE, reporting.on_n_create),
            (evt.EVT_N_SET, reporting.on_n_set),
            (evt.EVT_N_GET, reporting.on_n_get),
        ),
    )


class _Reporting:
    def __init__(self, steps: PerformedSteps, ledger: Ledger) -> None:
        self._steps = steps
        self._ledger = ledger

    def on_n_create(self, event: Event) -> Answer:
        """Keep a step that has begun (PS3.4 F.7.2.1)."""
        try:
            return self._create(event)
        except _Refused as refused:
            return self._refuse(event, refused)
        except ArchiveError as error:
            return self._refuse(event, _unavailable(error))

    def on_n_set(self, event: Event) -> Answer:
        """Bring a step in progress up to date, or end it (PS3.4 F.7.2.2)."""
        try:
            return self._set(event)
        except _Refused as refused:
            return self._refuse(event, refused)
        except ArchiveError as error:
            return self._refuse(event, _unavailable(error))

    def on_n_get(self, event: Event) -> Answer:
        """Give a step back, whole or by attributes (PS3.4 F.8.2.1)."""
        sop_uid = _named(event, "RequestedSOPInstanceUID")
        try:
            step = self._steps.get(sop_uid)
        except StepUnknown:
            return status(NO_SUCH_INSTANCE, "there is no such procedure step"), None
        except ArchiveError as error:
            return _unavailable(error).answer, None
        wanted = [f"{tag:08X}" for tag in event.attribute_identifiers]
        document = step.attributes
        if wanted:
            document = {tag: document[tag] for tag in wanted if tag in document}
        peer = admitted(event.assoc).peer
        configured = parse_terms(peer.character_set) if peer else ()
        answer = to_dataset(
            document, choose(texts_of(document), [configured] if configured else [])
        )
        complete = all(tag in document for tag in wanted)
        return (SUCCESS if complete else NOT_SUPPORTED_WARNING), answer

    def _create(self, event: Event) -> Answer:
        if str(event.context.abstract_syntax) != STEP:
            raise _Refused(UNRECOGNISED, "steps are created in another SOP class")
        asked = _named(event, "AffectedSOPInstanceUID")
        sop_uid = asked or str(generate_uid(prefix=None))
        if not is_valid_uid(sop_uid):
            raise _Refused(INVALID_INSTANCE, "the SOP Instance UID is not valid")
        attributes = _read(event, "attribute_list")
        _demand(attributes, _NEEDED)
        if text(attributes, STATUS) != "IN PROGRESS":
            raise _Refused(INVALID_VALUE, "a new step has the status IN PROGRESS")
        for reference in attributes[SCHEDULED_STEPS]["Value"]:
            if not text(reference or {}, STUDY_UID):
                raise _Refused(MISSING_VALUE, "a scheduled step names no StudyInstanceUID")
        who = admitted(event.assoc).caller
        try:
            started = self._steps.create(sop_uid, attributes, _calling_ae(event))
        except StepExists:
            raise _Refused(DUPLICATE, "there is a step of this SOP Instance UID") from None
        log.info("procedure step begun", step=sop_uid, scheduled=started)
        self._ledger.event(
            who, AuditEventKind.UPDATE, "success", _study(attributes), f"MPPS {sop_uid}: begun"
        )
        if asked:
            return SUCCESS, None
        reply = Dataset()
        reply.AffectedSOPInstanceUID = sop_uid
        return SUCCESS, reply

    def _set(self, event: Event) -> Answer:
        if str(event.context.abstract_syntax) != STEP:
            raise _Refused(UNRECOGNISED, "steps are changed in another SOP class")
        sop_uid = _named(event, "RequestedSOPInstanceUID")
        changes = _read(event, "modification_list")
        try:
            before = self._steps.get(sop_uid)
            _check_changes(before.attributes, changes)
            after = self._steps.update(sop_uid, changes)
        except StepUnknown:
            raise _Refused(NO_SUCH_INSTANCE, "there is no such procedure step") from None
        except StepFinal:
            raise _Refused(PROCESSING_FAILURE, FINAL_COMMENT, FINAL_ERROR_ID) from None
        log.info("procedure step changed", step=sop_uid, status=after.status)
        self._ledger.event(
            admitted(event.assoc).caller,
            AuditEventKind.UPDATE,
            "success",
            _study(after.attributes),
            f"MPPS {sop_uid}: {after.status}",
        )
        return SUCCESS, None

    def _refuse(self, event: Event, refused: _Refused) -> Answer:
        answer = refused.answer
        log.warning("procedure step refused", status=f"0x{answer.Status:04X}", why=str(refused))
        self._ledger.event(
            admitted(event.assoc).caller,
            AuditEventKind.UPDATE,
            "minor",
            None,
            f"MPPS refused with 0x{answer.Status:04X}: {refused}",
        )
        return answer, None


def _named(event: Event, name: str) -> str:
    """A UID of the request's command; empty if it has none."""
    return str(getattr(event.request, name) or "")


def _read(event: Event, name: str) -> DicomJson:
    """The attributes of a request as DICOM JSON in Unicode."""
    try:
        dataset: Dataset = getattr(event, name)
        terms_of(dataset)
        document: DicomJson = dataset.to_json_dict()
    except UnknownCharacterSet:
        raise _Refused(INVALID_VALUE, "Specific Character Set is not known") from None
    # Whatever the library trips over in values that a peer made up.
    except Exception:  # noqa: BLE001
        raise _Refused(INVALID_VALUE, "an attribute cannot be read") from None
    return {tag: value for tag, value in document.items() if tag != CHARACTER_SET}


def _demand(attributes: DicomJson, names: Iterable[str]) -> None:
    """Each attribute is there and has a value (PS3.7 C.5.10 and C.5.11)."""
    for name in names:
        tag = _tag(name)
        if tag not in attributes:
            raise _Refused(MISSING_ATTRIBUTE, f"{name} is missing")
        if not any(value not in (None, "") for value in attributes[tag].get("Value", [])):
            raise _Refused(MISSING_VALUE, f"{name} has no value")


def _check_changes(before: DicomJson, changes: DicomJson) -> None:
    if text(before, STATUS) != "IN PROGRESS":
        raise _Refused(PROCESSING_FAILURE, FINAL_COMMENT, FINAL_ERROR_ID)
    for name in _FIXED:
        tag = _tag(name)
        if tag in changes and changes[tag].get("Value") != before.get(tag, {}).get("Value"):
            raise _Refused(INVALID_VALUE, f"{name} may not be changed")
    after = {**before, **changes}
    if text(after, STATUS) not in _STATUSES:
        raise _Refused(INVALID_VALUE, f"the status is one of {', '.join(_STATUSES)}")
    if text(after, STATUS) == "IN PROGRESS":
        return
    _demand(after, _NEEDED_AT_END)
    if text(after, STATUS) == "COMPLETED":
        _demand(after, (_SERIES,))
        for series in after[_tag(_SERIES)]["Value"]:
            _demand(series or {}, ("SeriesInstanceUID",))


def _tag(name: str) -> str:
    return f"{tag_for_keyword(name):08X}"


def _calling_ae(event: Event) -> str:
    return str(event.assoc.requestor.ae_title).strip()


def _study(attributes: DicomJson) -> str | None:
    references = attributes.get(SCHEDULED_STEPS, {}).get("Value") or [{}]
    return text(references[0] or {}, STUDY_UID) or None


def _unavailable(error: ArchiveError) -> _Refused:
    log.warning("procedure step not kept", error=type(error).__name__)
    return _Refused(RESOURCES, "the database does not answer; send again later")
