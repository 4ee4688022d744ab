"""What can go wrong in reports. Texts name resources and UIDs, never patient data."""

from __future__ import annotations


class ReportsError(Exception):
    """Root of the package's errors."""


class FindingsError(ReportsError):
    """The FHIR data cannot be put into a report; the same data would give the same error."""


class MissingData(FindingsError):
    """An element that a report needs is not there."""

    def __init__(self, resource: str, element: str) -> None:
        super().__init__(f"{resource} has no {element}")
        self.resource = resource
        self.element = element


class UnreadableValue(FindingsError):
    """A measured value is not one that a report may print (not finite, negative, wrong unit)."""

    def __init__(self, resource: str, reason: str) -> None:
        super().__init__(f"{resource}: {reason}")
        self.resource = resource


class Contradiction(FindingsError):
    """Two measured values cannot both be true."""

    def __init__(self, first: str, second: str, reason: str) -> None:
        super().__init__(f"{first} and {second}: {reason}")


class NotPreliminary(FindingsError):
    """Only a preliminary report is rendered by the machine; a signed one belongs to its signer."""

    def __init__(self, resource: str, status: str) -> None:
        super().__init__(f"{resource} is {status}")
        self.status = status


class StoreRefused(ReportsError):
    """The DICOMweb store did not take the Encapsulated PDF; worth another try."""

    def __init__(self, uid: str, reason: str) -> None:
        super().__init__(f"{uid} was not stored: {reason}")
        self.uid = uid
