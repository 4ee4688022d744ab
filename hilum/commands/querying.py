"""`hilum find`: keys from the command line, answers as a table or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from rich.markup import escape
from rich.table import Table

from dimse.scu.query import FindModel

LEVELS = {"patient": "PATIENT", "study": "STUDY", "series": "SERIES", "image": "IMAGE"}
_STEP = "ScheduledProcedureStepSequence"
_SHOWN = {
    "PATIENT": ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    "STUDY": (
        *("PatientID", "PatientName", "StudyDate", "ModalitiesInStudy", "StudyDescription"),
        *("AccessionNumber", "NumberOfStudyRelatedInstances", "StudyInstanceUID"),
    ),
    "SERIES": (
        *("SeriesNumber", "Modality", "SeriesDescription", "NumberOfSeriesRelatedInstances"),
        "SeriesInstanceUID",
    ),
    "IMAGE": ("InstanceNumber", "SOPClassUID", "SOPInstanceUID"),
}
_WORKLIST = ("PatientID", "PatientName", "AccessionNumber", "RequestedProcedureDescription")
_STEPS = (
    *("ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime", "Modality"),
    *("ScheduledStationAETitle", "ScheduledProcedureStepDescription"),
)


def identifier_of(level: str, keys: Sequence[str], *, worklist: bool) -> Dataset:
    """The identifier of a query: what is shown is asked for, with the values given.

    Raises:
        ValueError: a key is not NAME=VALUE, or its name is not in the dictionary.
    """
    identifier = Dataset()
    if worklist:
        for name in _WORKLIST:
            setattr(identifier, name, "")
        step = Dataset()
        for name in _STEPS:
            setattr(step, name, "")
        setattr(identifier, _STEP, Items([step]))
    else:
        identifier.QueryRetrieveLevel = LEVELS[level]
        for name in _SHOWN[LEVELS[level]]:
            setattr(identifier, name, "")
    for key in keys:
        _put(identifier, key)
    return identifier


def model_of(level: str, *, worklist: bool) -> FindModel:
    """The information model to ask in."""
    if worklist:
        return FindModel.WORKLIST
    return FindModel.PATIENT if level == "patient" else FindModel.STUDY


def _put(identifier: Dataset, key: str) -> None:
    path, separator, value = key.partition("=")
    if not separator:
        raise ValueError(f"{key!r} is not NAME=VALUE, for example -k PatientName=Doe*")
    *sequences, name = path.strip().split(".")
    if not sequences and name in _STEPS and _STEP in identifier:
        sequences = [_STEP]
    target = identifier
    for sequence in sequences:
        tag = _tag(sequence)
        if dictionary_VR(tag) != "SQ":
            raise ValueError(f"{sequence!r} is not a sequence")
        if tag not in target:
            target.add_new(tag, "SQ", Items([Dataset()]))
        target = target[tag].value[0]
    tag = _tag(name)
    target.add_new(tag, dictionary_VR(tag).split(" ")[0], value or None)


def _tag(name: str) -> int:
    tag = tag_for_keyword(name)
    if tag is None and len(name) == 8:
        try:
            tag = int(name, 16) if keyword_for_tag(int(name, 16)) else None
        except ValueError:
            tag = None
    if tag is None:
        raise ValueError(f"there is no DICOM attribute {name!r}; names are as in PatientName")
    return tag


def table_of(identifier: Dataset, answers: Iterable[Dataset]) -> Table:
    """The answers, a column for each key that one of them has a value of."""
    rows = [_flat(answer) for answer in answers]
    asked = list(_flat(identifier))
    names = [name for name in asked if any(row.get(name) for row in rows)]
    table = Table(*names, show_edge=False)
    for row in rows:
        # The answers are a stranger's: no markup of theirs is followed.
        table.add_row(*(escape(row.get(name, "")) for name in names))
    return table


def json_of(answers: Iterable[Dataset]) -> str:
    """The answers in the DICOM JSON model."""
    return json.dumps([answer.to_json_dict() for answer in answers], ensure_ascii=False, indent=2)


def _flat(dataset: Dataset) -> dict[str, str]:
    found: dict[str, str] = {}
    for element in dataset:
        name = element.keyword or f"{element.tag:08X}"
        if name in ("QueryRetrieveLevel", "SpecificCharacterSet", "RetrieveAETitle"):
            continue
        if element.VR == "SQ":
            for item in element.value or ():
                found.update(_flat(item))
            continue
        value = element.value
        values = [value] if value is None or isinstance(value, str) else value
        listed = list(values) if isinstance(values, list | tuple) else None
        text = "\\".join(map(str, listed)) if listed is not None else str(value or "")
        found[name] = "" if text == "None" else "".join(c for c in text if c.isprintable())
    return found
