"""A file of a report as a DocumentReference of US Core; address and hash as in presentedForm."""

from __future__ import annotations

from typing import Any

from records import codes, identifiers

Resource = dict[str, Any]

PROFILE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-documentreference"
DOCUMENT = f"{identifiers.SID}/document"
DOC_STATUS = {"preliminary": "preliminary", "final": "final"}


def document_of(report: Resource, form: Resource, *, name: str) -> Resource:
    """The DocumentReference of one form.

    Args:
        report: with its subject, performer and, if it has one, encounter.
        form: the Attachment in presentedForm.
        name: of the file, the same for every version of it.
    """
    context: Resource = {
        "period": {"start": report["effectiveDateTime"]} if "effectiveDateTime" in report else {},
        "related": [{"reference": f"DiagnosticReport/{report['id']}"}],
    }
    if "encounter" in report:
        context["encounter"] = [report["encounter"]]
    return {
        "resourceType": "DocumentReference",
        "id": identifiers.derived_uuid("document", name),
        "meta": {"profile": [PROFILE]},
        "identifier": [{"system": DOCUMENT, "value": name}],
        "status": "current",
        "docStatus": DOC_STATUS.get(str(report["status"]), "amended"),
        "type": codes.concept(codes.IMAGING_NARRATIVE, text="Imaging report"),
        "category": [codes.concept(codes.CLINICAL_NOTE)],
        "subject": report["subject"],
        "date": report["issued"],
        "author": list(report.get("performer", [])),
        "content": [{"attachment": form, "format": codes.BY_MEDIA_TYPE.coding}],
        "context": {key: value for key, value in context.items() if value},
    }


def superseded(document: Resource) -> Resource:
    """A document that another one has taken the place of."""
    return {**document, "status": "superseded"}
