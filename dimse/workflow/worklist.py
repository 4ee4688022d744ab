"""C-FIND of the modality worklist (PS3.4 annex K)."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.events import Event

from archive.worklist import Worklist
from archive.worklist_match import STEPS, Key
from dimse.association.admitted import admitted
from dimse.association.ledger import Ledger
from dimse.association.services import Service
from dimse.query.identifier import LEVEL, TIMEZONE, BadIdentifier, pick, read_keys, to_dataset
from dimse.query.request import Extended, supported
from dimse.query.scp import (
    PENDING,
    SYNTAXES,
    Answer,
    read_identifier,
    record_query,
    refusal,
    streamed,
)
from dimse.wire.charset import Terms, choose, parse_terms, texts_of

MODALITY_WORKLIST = "1.2.840.10008.5.1.4.31"


def service(worklist: Worklist, ledger: Ledger, limit: int = 0) -> Service:
    """The worklist service; `limit` as for queries."""
    return Service(
        name="worklist",
        right="worklist",
        abstract_syntaxes={MODALITY_WORKLIST: SYNTAXES},
        handlers=(
            (evt.EVT_C_FIND, _Scheduler(worklist, ledger, limit).on_c_find),
            (evt.EVT_SOP_EXTENDED, _on_extended),
        ),
    )


def _on_extended(event: Any) -> dict[str, bytes]:
    """Fuzzy names are done; the worklist holds local times only (PS3.4 K.5.1.1)."""
    answers = {}
    for uid, information in event.app_info.items():
        answer = bytearray(supported(information))
        if len(answer) > 3:
            answer[3] = 0
        answers[str(uid)] = bytes(answer)
    return answers


class _Scheduler:
    def __init__(self, worklist: Worklist, ledger: Ledger, limit: int) -> None:
        self._worklist = worklist
        self._ledger = ledger
        self._limit = limit

    def on_c_find(self, event: Event) -> Iterator[Answer]:
        """Answer one worklist query: a pending response for each step that matches."""
        who = admitted(event.assoc)
        try:
            identifier, terms = read_identifier(event)
            keys = read_worklist_keys(read_keys(identifier))
        except BadIdentifier as error:
            yield refusal(error), None
            return
        asked = event.assoc.requestor.sop_class_extended.get(UID(MODALITY_WORKLIST))
        record_query(self._ledger, who.caller, "worklist", keys)
        configured = parse_terms(who.peer.character_set) if who.peer else ()
        wished = [one for one in (configured, terms) if one]
        answers = self._answers(keys, Extended.of(asked).fuzzy, wished)
        yield from streamed(event, answers, self._limit)

    def _answers(
        self, keys: tuple[Key, ...], fuzzy: bool, wished: list[Terms]
    ) -> Generator[Answer, None, None]:
        for item in self._worklist.find(keys, fuzzy=fuzzy):
            document = pick(keys, item)
            yield PENDING, to_dataset(document, choose(texts_of(document), wished))


def read_worklist_keys(keys: tuple[Key, ...]) -> tuple[Key, ...]:
    """The keys of a worklist query, steps included.

    Modalities send a Query/Retrieve Level here although there is none (K.4.1.1.3), and leave the
    steps' sequence out: both are passed over, for the answer is clear.

    Raises:
        BadIdentifier: there is no key at all.
    """
    kept = tuple(key for key in keys if key.tag not in (LEVEL, TIMEZONE))
    if not kept:
        raise BadIdentifier("the identifier has no keys", int(STEPS, 16))
    return kept
