"""The caller: whoever stands at a door, in one shape for all doors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from access.scopes import Grant, Interaction, Scopes

CallerKind = Literal["system", "user", "patient", "modality"]


@dataclass(frozen=True, slots=True)
class Caller:
    """One authenticated peer and what it may do.

    Attributes:
        subject: who: the token's subject, or the calling AE title of a modality.
        kind: a machine, a person, an app with one patient's data, or a DICOM peer.
        scopes: what the token grants; empty for a modality.
        client: the application that acts, where the token names one.
        address: network address of the peer, for the audit trail.
        studies: the only Study Instance UIDs it may see; None means every study.
        patient: logical id of the Patient in the token's launch context.
        encounter: logical id of the Encounter in it.
        fhir_user: who the person is in the FHIR store, such as `Practitioner/x`.
        reads_itself: the app was allowed to know who that is (scope `fhirUser`), so that the
            resource is read whatever else is granted (SMART App Launch 2.2, fhirUser).
        fhir_context: further resources of the launch (SMART `fhirContext`).
        session: id of the authorization that the token came from (`sid`).
        token_id: `jti` of the token.
    """

    subject: str
    kind: CallerKind
    scopes: Scopes = field(default_factory=Scopes)
    client: str | None = None
    address: str | None = None
    studies: frozenset[str] | None = None
    patient: str | None = None
    encounter: str | None = None
    fhir_user: str | None = None
    fhir_context: tuple[Mapping[str, Any], ...] = ()
    session: str | None = None
    token_id: str | None = None
    reads_itself: bool = False

    def may(self, resource_type: str, interaction: Interaction) -> bool:
        """True when some scope grants this interaction on this FHIR resource type.

        Whether it grants it on the very resource, of this patient and with these codes, is
        decided by `grants_for` and, in the end, by the FHIR store.
        """
        return bool(self.grants_for(resource_type, interaction))

    def may_on_all(self, resource_type: str, interaction: Interaction) -> bool:
        """True when the grant has no limit: no filter, and no compartment of one patient."""
        return any(
            grant.filter is None and self.patient_of(grant) is None
            for grant in self.grants_for(resource_type, interaction)
        )

    def grants_for(self, resource_type: str, interaction: Interaction) -> list[Grant]:
        """The grants that count; a `patient/` one needs a patient in the token."""
        return [
            grant
            for grant in self.scopes.rules_for(resource_type, interaction)
            if grant.context != "patient" or self.patient is not None
        ]

    def patient_of(self, grant: Grant) -> str | None:
        """Id of the Patient to whose compartment a grant is held; None: to nobody's.

        A user who is a patient reads their own record, and no more, by `user/` scopes too.
        """
        if grant.context == "patient":
            return self.patient
        kind, _, own = (self.fhir_user or "").partition("/")
        return own if grant.context == "user" and kind == "Patient" else None

    @property
    def limited(self) -> bool:
        """Whether any grant is limited to a patient or by a filter, or to some studies."""
        return self.studies is not None or any(
            grant.filter is not None or grant.context == "patient" or self.patient_of(grant)
            for grant in self.scopes.grants
        )

    def may_see_study(self, study_uid: str) -> bool:
        """True when the caller is not limited to studies, or this is one of them."""
        return self.studies is None or study_uid in self.studies
