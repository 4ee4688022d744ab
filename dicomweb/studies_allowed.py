"""Which studies a caller may reach, where its token does not open them all.

The DICOM side knows no patients: whoever mounts this door says who may. A token without a limit
to a patient or a filter is never asked about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from access import Caller
from archive.keys import DicomJson

RESOURCE = "ImagingStudy"
Letter = Literal["c", "r", "u", "d", "s"]


@dataclass(frozen=True, slots=True)
class NewInstance:
    """What an instance that is to be stored says of its study.

    Attributes:
        study: Study Instance UID.
        attributes: DICOM JSON of the study level, patient included.
    """

    study: str
    attributes: DicomJson


class StudyAccess(Protocol):
    """Answers for callers whose grants are held to a patient or a filter.

    Each method may raise `access.Undecided` when who may cannot be found out now.
    """

    async def may(self, caller: Caller, study: str, letter: Letter) -> bool:
        """Whether a grant with this letter covers the study; false for one nobody knows."""

    async def visible(self, caller: Caller, letter: Letter) -> frozenset[str] | None:
        """Every study that grants with this letter cover; None for no limit."""

    async def may_store(self, caller: Caller, instance: NewInstance) -> bool:
        """Whether the instance may join its study, or begin it."""


class OpenOrShut:
    """Nobody to ask: a grant without a limit opens every study, any other none."""

    async def may(self, caller: Caller, study: str, letter: Letter) -> bool:  # noqa: ARG002
        """As the grants say."""
        return caller.may_on_all(RESOURCE, letter)

    async def visible(self, caller: Caller, letter: Letter) -> frozenset[str] | None:
        """As the grants say."""
        return None if caller.may_on_all(RESOURCE, letter) else frozenset()

    async def may_store(self, caller: Caller, instance: NewInstance) -> bool:  # noqa: ARG002
        """As the grants say."""
        return caller.may_on_all(RESOURCE, "c")
