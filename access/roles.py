"""What each role may do: the one table from roles to SMART scopes."""

from __future__ import annotations

from typing import Literal, get_args

from access.scopes import Scopes

Role = Literal["administrator", "radiologist", "technologist", "researcher", "viewer", "patient"]
ROLES: tuple[Role, ...] = get_args(Role)

_READ_IMAGES = "user/ImagingStudy.rs user/Patient.rs user/Endpoint.rs"

SCOPES: dict[Role, str] = {
    "administrator": "user/*.cruds",
    # Reads everything; writes what reading a study gives: annotations, reports, worklist states.
    "radiologist": (
        "user/*.rs user/ImagingStudy.cru user/DiagnosticReport.cu user/Observation.cu user/Task.cu"
    ),
    # Makes studies: sends them, and works through the worklist.
    "technologist": f"{_READ_IMAGES} user/ImagingStudy.c user/ServiceRequest.rs user/Task.rus",
    "researcher": f"{_READ_IMAGES} user/Observation.rs user/DiagnosticReport.rs",
    "viewer": _READ_IMAGES,
    # Held to their own record: such a user is a Patient in the FHIR store.
    "patient": "user/*.rs",
}

MEANINGS: dict[Role, str] = {
    "administrator": "may do everything",
    "radiologist": "reads everything; writes segmentations, results and reports",
    "technologist": "sends studies and works through the worklist",
    "researcher": "reads images, results and reports",
    "viewer": "reads images",
    "patient": "reads their own record",
}


def scopes_of(role: Role) -> Scopes:
    """The scopes of a role."""
    return Scopes.parse(SCOPES[role])
