"""Storage commitment requests that were made, and whose results may still be asked for."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from access import Caller
from archive.keys import DicomJson
from dicomweb.errors import NotFound, TransactionInUse

KEPT = 1000


@dataclass(frozen=True, slots=True)
class _Request:
    subject: str
    result: asyncio.Task[DicomJson]


@dataclass
class Commitments:
    """The requests of this process whose results may still be asked for."""

    _requests: OrderedDict[str, _Request] = field(default_factory=OrderedDict)

    def begin(self, uid: str, caller: Caller, result: asyncio.Task[DicomJson]) -> None:
        """Remember a request; the oldest finished one is forgotten where there are too many."""
        self._requests[uid] = _Request(caller.subject, result)
        for old in list(self._requests)[: max(0, len(self._requests) - KEPT)]:
            if self._requests[old].result.done():
                del self._requests[old]

    def check_free(self, uid: str) -> None:
        """Raise TransactionInUse where the UID was used before."""
        if uid in self._requests:
            raise TransactionInUse("the Transaction UID is in use")

    def result(self, uid: str, caller: Caller) -> asyncio.Task[DicomJson]:
        """The result of the caller's own request; raises NotFound."""
        found = self._requests.get(uid)
        if found is None or found.subject != caller.subject:
            raise NotFound("no storage commitment request has this Transaction UID")
        return found.result
