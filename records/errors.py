"""What the FHIR store can answer besides success; one case per cause, no resource content."""

from __future__ import annotations

from typing import Any


class RecordsError(Exception):
    """Root: the FHIR store refused or failed.

    Attributes:
        status: HTTP status, or None when there was no answer.
        issues: OperationOutcome.issue of the answer. It may quote resource content, so it
            is kept out of the text.
    """

    def __init__(
        self, text: str, *, status: int | None = None, issues: list[dict[str, Any]] | None = None
    ) -> None:
        super().__init__(text)
        self.status = status
        self.issues = issues or []

    @property
    def diagnostics(self) -> str:
        """The store's own words; for a person who may see patient data, not for logs."""
        return "; ".join(str(i["diagnostics"]) for i in self.issues if "diagnostics" in i)


class RecordsUnavailable(RecordsError):
    """No connection, no answer in time, or 502/503/504 after every retry. Try again later."""


class NotFound(RecordsError):
    """No such resource, or it is deleted (404, 410)."""


class VersionConflict(RecordsError):
    """Somebody else changed the resource since it was read (409, 412 with If-Match)."""


class PreconditionFailed(RecordsError):
    """A condition matched several resources, or validation on write refused it (412)."""


class Denied(RecordsError):
    """The store does not accept our internal credential (401, 403)."""


class Rejected(RecordsError):
    """The store will not take this content (400, 422); a retry would be refused again."""


class StoreFailed(RecordsError):
    """The store failed inside (500); the same request may work later."""
