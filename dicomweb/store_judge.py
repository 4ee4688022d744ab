"""Whether an instance of a store request may join its study, where not all are open to it."""

from __future__ import annotations

import anyio.from_thread
import orjson

from access import Undecided
from archive import PlacementConflict
from archive.keys import DicomJson, InstanceKey
from dicomweb.door import Visit
from dicomweb.errors import NotDecided, NotGranted
from dicomweb.studies_allowed import NewInstance

_PATIENT = ("00100020", "00100021", "00100024")


class StoreJudge:
    """Called in a worker thread with each instance; asks once for each study and patient."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._known: dict[bytes, bool] = {}

    def __call__(self, key: InstanceKey, study: DicomJson) -> None:
        """Raise NotGranted or NotDecided, with the instance's key."""
        patient = [study.get(name) for name in _PATIENT]
        about = orjson.dumps([key.study, patient], option=orjson.OPT_SORT_KEYS)
        if about not in self._known:
            instance = NewInstance(key.study, study)
            ask = self._visit.door.access.may_store
            try:
                self._known[about] = anyio.from_thread.run(ask, self._visit.caller, instance)
            except Undecided as error:
                raise NotDecided(str(error), key) from error
        if not self._known[about]:
            raise _refused(key)


def hidden(conflict: PlacementConflict) -> NotGranted:
    """The refusal that stands for a UID that is used elsewhere, without saying where."""
    return _refused(conflict.key)


def _refused(key: InstanceKey | None) -> NotGranted:
    return NotGranted("the token does not let this instance join its study", key)
