"""What a run found, and what it stands for in FHIR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inference.key_images import KeyImage
from inference.lesions import Lesion
from inference.measure import Measurement, Region
from inference.models import Model
from inference.runs import Run
from records import identifiers

Resource = dict[str, Any]

RESULT_SYSTEM = f"{identifiers.SID}/inference-result"
US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition"


@dataclass(frozen=True, slots=True)
class Result:
    """What a run found.

    Attributes:
        task: the Task as last read, with `id`, `for`, `focus` and `meta.versionId`.
        study: the ImagingStudy.
        organization: name of the organisation that runs the model.
        seg_uid: SOP Instance UID of the stored Segmentation.
        sr_uid: SOP Instance UID of the stored report.
        inputs: sequence name to Series Instance UID of what the model was given.
        lesions: the connected parts of the whole tumour.
        superseded: what is left of earlier runs, as last read, that this result takes the place
            of: reports, their Observations and DocumentReferences.
    """

    run: Run
    model: Model
    task: Resource
    study: Resource
    organization: str
    measurements: Mapping[Region, Measurement]
    images: Sequence[KeyImage]
    seg_uid: str
    sr_uid: str
    inputs: Mapping[str, str]
    lesions: Sequence[Lesion] = ()
    superseded: Sequence[Resource] = ()

    @property
    def issued(self) -> str:
        """When the Task was written, as a FHIR instant."""
        return self.run.at.isoformat(timespec="seconds")

    @property
    def context(self) -> Resource:
        """Subject, encounter and time of the study, as Observations and report share them."""
        context: Resource = {"subject": self.task["for"]}
        if "encounter" in self.study:
            context["encounter"] = self.study["encounter"]
        context["effectiveDateTime"] = self.study.get("started", self.issued)
        return context

    @property
    def study_reference(self) -> Resource:
        """The ImagingStudy."""
        return {"reference": f"ImagingStudy/{self.study['id']}"}

    def identifier(self, name: str) -> Resource:
        """Names one part of the result, the same for every repeat."""
        return {"system": RESULT_SYSTEM, "value": f"{self.run.identifier}-{name}"}

    def tracking(self, name: str) -> Resource:
        """The tracking UID (DCM 112040) of a finding, as SEG and SR have it."""
        return {
            "system": identifiers.DICOM_UID,
            "value": identifiers.oid(self.run.uid(name)),
        }


def dicom_reference(uid: str) -> Resource:
    """A DICOM object or series by its UID: no resource stands for it alone."""
    return {"identifier": {"system": identifiers.DICOM_UID, "value": identifiers.oid(uid)}}
