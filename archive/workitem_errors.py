"""What a work item can refuse. `warning` is the sentence that PS3.18 chapter 11 has for it."""

from __future__ import annotations


class WorkitemError(Exception):
    """Root of the refusals; `warning` is None where the standard has no sentence of its own."""

    def __init__(self, text: str, warning: str | None = None) -> None:
        super().__init__(text)
        self.warning = warning


class InvalidWorkitem(WorkitemError):
    """The data set breaks table CC.2.5-3 of PS3.4: missing, forbidden or impossible attributes."""


class WorkitemExists(WorkitemError):
    """A work item with this UID is there already."""


class WorkitemNotFound(WorkitemError):
    """No such work item, or none that the caller may see."""


class WrongTransaction(WorkitemError):
    """The Transaction UID is missing or is not the one that the item was claimed with."""


class StateConflict(WorkitemError):
    """The state of the work item does not allow the request."""


class SubscriptionNotFound(WorkitemError):
    """The subscriber has no such subscription."""
