"""The caller: whoever stands at a door, in one shape for all doors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from access.scopes import Interaction, Scopes

CallerKind = Literal["system", "user", "modality"]


@dataclass(frozen=True, slots=True)
class Caller:
    """One authenticated peer and what it may do.

    Attributes:
        subject: who: the token's subject, or the calling AE title of a modality.
        kind: a machine, a person, or a DICOM peer.
        scopes: what the token grants; empty for a modality.
        client: the application that acts, where the token names one.
        address: network address of the peer, for the audit trail.
        studies: the only Study Instance UIDs it may see; None means every study.
    """

    subject: str
    kind: CallerKind
    scopes: Scopes = field(default_factory=Scopes)
    client: str | None = None
    address: str | None = None
    studies: frozenset[str] | None = None

    def may(self, resource_type: str, interaction: Interaction) -> bool:
        """True when the scopes grant this interaction on this FHIR resource type."""
        return self.scopes.allows(resource_type, interaction)

    def may_see_study(self, study_uid: str) -> bool:
        """True when the caller is not limited to studies, or this is one of them."""
        return self.studies is None or study_uid in self.studies
