"""To what a caller's grants on imaging studies are held: a patient, a filter, or both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

from access import Caller
from access.grants import Rights, Rule

RESOURCE = "ImagingStudy"
Letter = Literal["c", "r", "u", "d", "s"]


@dataclass(frozen=True, slots=True)
class Limit:
    """What a study must satisfy to be covered by one grant.

    Attributes:
        patient: logical id of the Patient that it is about; None for anybody.
        filter: search parameters with the values that the grant names.
    """

    patient: str | None
    filter: tuple[tuple[str, str], ...] = ()

    def rights(self) -> Rights:
        """Read access to the studies inside it and to nothing else."""
        query = urlencode(self.filter, safe=",:/.|") or None
        studies = Rule(types=(RESOURCE,), letters="rs", patient=self.patient, filter=query)
        return Rights(mode="internal", subject="study-access", rules=(studies,))

    def query(self) -> dict[str, str]:
        """As search parameters; the filter's names never include `patient`."""
        about = {} if self.patient is None else {"patient": f"Patient/{self.patient}"}
        return {**dict(self.filter), **about}


def limits_of(caller: Caller, letter: Letter) -> tuple[Limit, ...] | None:
    """One limit for each grant with this letter, all of them apart; None if one has no limit."""
    if caller.may_on_all(RESOURCE, letter):
        return None
    found = {
        Limit(caller.patient_of(grant), grant.filter or ())
        for grant in caller.grants_for(RESOURCE, letter)
    }
    return tuple(sorted(found, key=repr))
