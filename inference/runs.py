"""Run: one execution of one model over one study, and the names that follow from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import NAMESPACE_OID, UUID, uuid5


def run_identifier(model_label: str, acquired: Iterable[str]) -> str:
    """The identifier of a run: SHA-256 over the model and the acquired instances.

    Our own SEG and SR join the study and fire its Subscription again. Leaving derived instances
    out of the name keeps a result from ordering the next run, for ever.

    Args:
        model_label: `name@version`.
        acquired: SOP Instance UIDs of the acquired (not derived) instances, any order.
    """
    return hashlib.sha256("\n".join([model_label, *sorted(acquired)]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Run:
    """What every result of a run is named and dated by, so that a repeat is the same.

    Attributes:
        identifier: see `run_identifier`.
        study_uid: Study Instance UID.
        at: when the Task was written (aware); results carry it instead of the clock's time.
    """

    identifier: str
    study_uid: str
    at: datetime

    def uuid(self, name: str) -> UUID:
        """The UUID of one named part of the run."""
        return uuid5(NAMESPACE_OID, f"{self.identifier}/{name}")

    def uid(self, name: str) -> str:
        """The DICOM UID of one named part of the run (PS3.5 B.2, under 2.25)."""
        return f"2.25.{self.uuid(name).int}"
