"""The DIMSE services of a server beside storage and verification, and which of them answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pynetdicom import evt
from pynetdicom.events import Event

from dimse.peers import Right

Handler = Callable[[Event], Any]


class NobodyAnswers(NotImplementedError):
    """No service takes this operation: pynetdicom answers 0x0211, or aborts the association."""


@dataclass(frozen=True, slots=True)
class Service:
    """One DIMSE service: what it accepts and how it answers.

    Attributes:
        right: What a peer must have to use it; None: whoever was admitted.
        abstract_syntaxes: Transfer syntaxes that each abstract syntax is accepted with, best first.
        handlers: Who answers which of pynetdicom's events, for the associations' contexts with
            one of its abstract syntaxes only.
        peer_as_scp: Abstract syntaxes of which the peer may take the SCP role (PS3.7 D.3.3.4).
    """

    name: str
    right: Right | None
    abstract_syntaxes: Mapping[str, tuple[str, ...]]
    handlers: tuple[tuple[evt.EventType, Handler], ...]
    peer_as_scp: frozenset[str] = frozenset()


class Services:
    """All services of a server; no two share an abstract syntax."""

    def __init__(self, services: Sequence[Service] = ()) -> None:
        self._services = tuple(services)
        self._by_syntax: dict[str, Service] = {}
        for service in services:
            for abstract_syntax in service.abstract_syntaxes:
                other = self._by_syntax.setdefault(abstract_syntax, service)
                if other is not service:
                    raise ValueError(f"{abstract_syntax}: both {other.name} and {service.name}")

    def __iter__(self) -> Iterator[Service]:
        return iter(self._services)

    def of(self, abstract_syntax: str) -> Service | None:
        """The service of an abstract syntax; None: it is not ours, or is storage."""
        return self._by_syntax.get(abstract_syntax)

    def handlers(self) -> list[evt.EventHandlerType]:
        """One handler for each event, which finds the service by the message's context.

        Notification events go to every service that wants them.
        """
        found: list[evt.EventHandlerType] = []
        for event in {event for service in self for event, _ in service.handlers}:
            if event is evt.EVT_SOP_EXTENDED:
                continue  # answered in `extended`, during the negotiation
            if isinstance(event, evt.InterventionEvent):
                found.append((event, self._dispatch(event)))
            else:
                found.extend((event, handler) for handler in self._all(event))
        return found

    def extended(self, association: Any, asked: Mapping[str, bytes]) -> dict[str, bytes]:
        """What the services answer to SOP Class Extended Negotiation items (PS3.7 D.3.3.5)."""
        answers: dict[str, bytes] = {}
        for service in self:
            mine = {uid: info for uid, info in asked.items() if uid in service.abstract_syntaxes}
            for event, handler in service.handlers:
                if mine and event is evt.EVT_SOP_EXTENDED:
                    event_of = Event(association, evt.EVT_SOP_EXTENDED, {"app_info": mine})
                    answers.update(handler(event_of) or {})
        return answers

    def _all(self, event: evt.EventType) -> list[Handler]:
        return [
            handler for service in self for which, handler in service.handlers if which is event
        ]

    def _dispatch(self, event: evt.EventType) -> Handler:
        table = {
            service.name: handler
            for service in self
            for which, handler in service.handlers
            if which is event
        }

        def answer(what: Event) -> Any:
            service = self.of(str(what.context.abstract_syntax))
            handler = table.get(service.name) if service is not None else None
            if handler is None:
                raise NobodyAnswers(f"nobody answers {event.name} here")
            return handler(what)

        return answer
