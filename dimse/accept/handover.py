"""pynetdicom behind our guard: it serves associations that we have negotiated.

pynetdicom 3 has no public way to bring one's own transport, negotiation and decisions; its parts
are put together here, and only here, as its own request handler does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from pynetdicom import AE, evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.transport import AddressInformation, AssociationServer, AssociationSocket

from dimse.accept.guard import Request
from dimse.association.admission import Admitted
from dimse.association.admitted import admit
from dimse.association.negotiation import Agreement, acceptance, extended_of
from dimse.association.register import Open
from dimse.association.services import Services


@dataclass(frozen=True, slots=True)
class Accepted:
    """An association that was let in: by which request, as whom, with which contexts."""

    request: Request
    primitive: A_ASSOCIATE
    who: Admitted
    agreement: Agreement


class Handover(AssociationServer):
    """pynetdicom's server without a socket of its own: it gets accepted ones from the guard."""

    def __init__(
        self,
        ae: AE,
        address: tuple[str, int],
        services: Services,
        handlers: Sequence[evt.EventHandlerType],
    ) -> None:
        self._our_services = services
        super().__init__(ae, address, ae.ae_title, [], evt_handlers=list(handlers))

    def server_bind(self) -> None:
        """Bind nothing: the guard has the port."""

    def server_activate(self) -> None:
        """Listen to nothing."""

    def make(
        self,
        accepted: Accepted,
        entry: Open,
        transport: Callable[[Association, Request], AssociationSocket],
    ) -> Association:
        """An association that is ready to be run, by `run` in this thread or by `start`."""
        association = Association(self.ae, MODE_ACCEPTOR)
        association._server = self
        admit(association, accepted.who, entry)
        association.acse = _Acceptor(association, accepted, entry, self._our_services)
        association.set_socket(transport(association, accepted.request))
        acceptor = association.acceptor
        acceptor.maximum_length = self.ae.maximum_pdu_size
        acceptor.ae_title = self.ae_title
        acceptor.address_info = AddressInformation.from_tuple(self.server_address)
        acceptor.implementation_class_uid = self.ae.implementation_class_uid
        acceptor.implementation_version_name = self.ae.implementation_version_name
        association.requestor.address_info = AddressInformation.from_tuple(accepted.request.address)
        self._bind_all(association)
        evt.trigger(association, evt.EVT_CONN_OPEN, {"address": accepted.request.address})
        return association

    def _bind_all(self, association: Association) -> None:
        for event, bound in self._handlers.items():
            pairs = [bound] if isinstance(bound, tuple) else bound
            for handler, arguments in cast(Any, pairs):
                association.bind(event, handler, arguments)


class _Acceptor(ACSE):
    """Answers the request as it was agreed, instead of negotiating by pynetdicom's own rules."""

    def __init__(
        self, association: Association, accepted: Accepted, entry: Open, services: Services
    ) -> None:
        super().__init__(association)
        self._accepted = accepted
        self._entry = entry
        self._services = services

    def _negotiate_as_acceptor(self) -> None:
        request = cast(A_ASSOCIATE, self.requestor.primitive)
        self.requestor.ae_title = request.calling_ae_title
        agreement = self._accepted.agreement
        self.assoc._accepted_cx = {
            cast(int, context.context_id): context for context in agreement.accepted
        }
        self.assoc._rejected_cx = [one for one in agreement.contexts if one.result != 0]
        answers = self._services.extended(self.assoc, extended_of(request))
        answer = acceptance(
            request, self._accepted.who, agreement, self.acceptor.maximum_length or 0, answers
        )
        self.acceptor.primitive = answer
        self.dul.send_pdu(answer)
        evt.trigger(self.assoc, evt.EVT_ACCEPTED, {})
        self.assoc.is_established = True
        evt.trigger(self.assoc, evt.EVT_ESTABLISHED, {})
        self._watch_requests()

    def _watch_requests(self) -> None:
        """Count each request as under way until it is answered, also by who took it over above."""
        association: Any = self.assoc
        answer = association._serve_request

        def serve(message: Any, context_id: int) -> None:
            self._entry.serve(partial(answer, message, context_id))

        association._serve_request = serve
