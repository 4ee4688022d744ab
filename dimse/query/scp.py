"""C-FIND of the Query/Retrieve service: Patient Root and Study Root (PS3.4 C.4.1)."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import structlog
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.events import Event

from access import AuditEventKind, Caller
from archive import Archive, ArchiveError, QueryError
from archive.keys import DicomJson
from archive.match import LevelName
from archive.worklist_match import Key
from dimse.association.admitted import admitted
from dimse.association.ledger import Ledger
from dimse.association.services import Service
from dimse.query.flow import Flow
from dimse.query.identifier import (
    CHARACTER_SET,
    LEVEL,
    TIMEZONE,
    BadIdentifier,
    pick,
    to_dataset,
)
from dimse.query.request import (
    MODELS,
    Extended,
    Request,
    read_request,
    supported,
)
from dimse.wire.charset import Terms, UnknownCharacterSet, choose, parse_terms, terms_of, texts_of
from dimse.wire.status import (
    DOES_NOT_MATCH,
    OUT_OF_RESOURCES,
    STOPPING,
    UNABLE_TO_PROCESS,
    failure_of,
)

log = structlog.get_logger(__name__)

PENDING, PENDING_WARNING, CANCELLED = 0xFF00, 0xFF01, 0xFE00
SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2")
Answer = tuple[int | Dataset, Dataset | None]
_COMMENT_CHARS = 64  # an LO


@dataclass(frozen=True, slots=True)
class QueryConfig:
    """How queries are answered.

    Attributes:
        ae_title: What the answers name as the place to retrieve from.
        limit: More matches than this end with a refusal; 0 is no limit.
    """

    ae_title: str = "HILUM"
    limit: int = 0


def service(archive: Archive, ledger: Ledger, config: QueryConfig) -> Service:
    """The query service."""
    answering = Finder(archive, ledger, config)
    return Service(
        name="query",
        right="query",
        abstract_syntaxes=dict.fromkeys(MODELS, SYNTAXES),
        handlers=((evt.EVT_C_FIND, answering.on_c_find), (evt.EVT_SOP_EXTENDED, on_extended)),
    )


def on_extended(event: Any) -> dict[str, bytes]:
    """Say which extensions of the baseline we do (PS3.4 C.5.1.1)."""
    return {str(uid): supported(information) for uid, information in event.app_info.items()}


class Finder:
    """Answers C-FIND from the archive."""

    def __init__(self, archive: Archive, ledger: Ledger, config: QueryConfig) -> None:
        self._archive = archive
        self._ledger = ledger
        self._config = config

    def on_c_find(self, event: Event) -> Iterator[Answer]:
        """Answer one C-FIND request: a pending response for each match, then the end."""
        who = admitted(event.assoc)
        model = str(event.request.AffectedSOPClassUID)
        try:
            identifier, terms = read_identifier(event)
            extended = Extended.of(event.assoc.requestor.sop_class_extended.get(UID(model)))
            request = read_request(model, identifier, extended, who.caller.studies, self._extra())
        except BadIdentifier as error:
            yield refusal(error), None
            return
        except ArchiveError as error:
            yield failed(error), None
            return
        record_query(self._ledger, who.caller, request.level, request.keys)
        configured = parse_terms(who.peer.character_set) if who.peer else ()
        wished = [one for one in (configured, terms) if one]
        yield from streamed(event, self._answers(request, wished), self._config.limit)

    def _extra(self) -> dict[str, LevelName]:
        """Extended query tags that are filled in."""
        tags = self._archive.query_tags.list()
        return {one.tag: one.level for one in tags if one.done >= one.total}

    def _answers(self, request: Request, wished: list[Terms]) -> Generator[Answer, None, None]:
        for match in self._archive.iterate(request.row, request.query):
            yield self._answer(request, match, wished)

    def _answer(self, request: Request, match: DicomJson, wished: list[Terms]) -> Answer:
        document = pick(request.keys, match)
        document[LEVEL] = {"vr": "CS", "Value": [request.level]}
        document["00080054"] = {"vr": "AE", "Value": [self._config.ae_title]}
        document["00080056"] = {"vr": "CS", "Value": ["ONLINE"]}
        if request.query.timezone is not None and TIMEZONE in match:
            document[TIMEZONE] = match[TIMEZONE]
        status = PENDING_WARNING if request.unsupported else PENDING
        return status, to_dataset(document, choose(texts_of(document), wished))


def read_identifier(event: Event) -> tuple[Dataset, Terms]:
    """The identifier of a C-FIND request and its character set. Raises BadIdentifier."""
    try:
        identifier: Dataset = event.identifier
        return identifier, terms_of(identifier)
    except UnknownCharacterSet:
        raise BadIdentifier("Specific Character Set is not known", int(CHARACTER_SET, 16)) from None
    # Whatever the library trips over in bytes that a peer made up.
    except Exception:  # noqa: BLE001
        raise BadIdentifier("the identifier cannot be parsed") from None


def streamed(event: Event, answers: Generator[Answer, None, None], limit: int) -> Iterator[Answer]:
    """Pass answers on as the peer takes them; end with a status of its own where one is due."""
    flow = Flow(event)
    try:
        with closing(answers):
            for number, answer in enumerate(answers):
                turn = flow.turn()
                if turn == "cancelled":
                    yield CANCELLED, None
                if turn == "ending":
                    yield status(OUT_OF_RESOURCES, STOPPING), None
                if turn != "go":
                    return
                if limit and number >= limit:
                    log.warning("query has more matches than allowed", limit=limit)
                    comment = f"more than {limit} matches; ask for less"
                    yield status(OUT_OF_RESOURCES, comment), None
                    return
                yield answer
        if flow.turn() == "cancelled":
            yield CANCELLED, None
    except QueryError as error:
        yield refusal(BadIdentifier(str(error))), None
    except ArchiveError as error:
        yield failed(error), None


def failed(error: ArchiveError) -> Dataset:
    """What an error of the archive means to who asked."""
    failure = failure_of(error)
    code = OUT_OF_RESOURCES if failure.status == OUT_OF_RESOURCES else UNABLE_TO_PROCESS
    log.warning("query failed", error=type(error).__name__)
    return status(code, failure.comment)


def refusal(error: BadIdentifier) -> Dataset:
    """Identifier does not match SOP class, with the element at fault (PS3.4 C.4.1.1.4)."""
    log.info("query refused", why=error.comment)
    answer = status(DOES_NOT_MATCH, error.comment)
    if error.tag is not None:
        answer.OffendingElement = error.tag
    return answer


def status(code: int, comment: str) -> Dataset:
    """Status and Error Comment as pynetdicom takes them from a handler."""
    answer = Dataset()
    answer.Status = code
    answer.ErrorComment = comment[:_COMMENT_CHARS]
    return answer


def record_query(ledger: Ledger, caller: Caller, level: str, keys: tuple[Key, ...]) -> None:
    """One audit record for a query: which keys had a value, not what the values were."""
    asked = " ".join(key.tag for key in keys if not key.is_universal and key.tag != LEVEL)
    query = f"C-FIND {level}: {asked or 'universal'}"
    ledger.event(caller, AuditEventKind.QUERY, "success", query=query)
