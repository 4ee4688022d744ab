"""Counters of a retrieval, and the final status that follows from them (PS3.4 C.4.2.1.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from archive import InstanceRecord
from dimse.retrieve.request import CANCELLED, COMPLETE_WITH_FAILURES, SUBOPERATIONS_FAILED
from dimse.wire.status import SUCCESS


@dataclass(slots=True)
class Tally:
    """What became of the sub-operations. `failures`: SOP instances, with why, once each."""

    total: int
    completed: int = 0
    warning: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    failed_of: Counter[str] = field(default_factory=Counter)

    @property
    def remaining(self) -> int:
        """Sub-operations that have not ended."""
        return self.total - self.completed - self.warning - len(self.failures)

    def fail(self, record: InstanceRecord, why: str) -> None:
        """Count a sub-operation that failed."""
        self.failures[record.key.instance] = why
        self.failed_of[record.key.study] += 1

    def fail_rest(self, records: Sequence[InstanceRecord], done: set[str], why: str) -> None:
        """Count those as failed that nothing was heard of."""
        for record in records:
            if record.key.instance not in done and record.key.instance not in self.failures:
                self.fail(record, why)

    def final(self, *, cancelled: bool) -> int:
        """The status of the final response."""
        if cancelled and self.remaining:
            return CANCELLED
        if not self.failures and not self.warning:
            return SUCCESS
        return COMPLETE_WITH_FAILURES if self.completed or self.warning else SUBOPERATIONS_FAILED

    @property
    def reason(self) -> str:
        """The commonest reason of the failures."""
        counted = Counter(self.failures.values()).most_common(1)
        return counted[0][0] if counted else ""
