"""What is agreed on for one association: the same for our own receiver and for pynetdicom.

PS3.7 annex D (contexts, roles, extended negotiation) and PS3.8 9.3.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.uid import UID
from pynetdicom._globals import APPLICATION_CONTEXT_NAME
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import PresentationContext

from dimse.association.admission import Admitted
from dimse.association.identity import UserIdentity
from dimse.association.services import Services
from dimse.wire.contexts import VERIFICATION, is_accepted
from dimse.wire.fileheader import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION

# PS3.8 9.3.3.2, result of a presentation context.
ACCEPTED, USER_REJECTION, UNKNOWN_ABSTRACT_SYNTAX, UNKNOWN_TRANSFER_SYNTAX = 0, 1, 3, 4
_GET_CLASSES = frozenset(
    "1.2.840.10008.5.1.4.1.2." + tail for tail in ("1.3", "2.3", "3.3", "4.3", "5.3")
)

Roles = tuple[bool, bool]  # whether the peer is SCU, and whether it is SCP
_DEFAULT: Roles = (True, False)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Results of a negotiation.

    Attributes:
        contexts: Every proposed context with its result, by ID.
        roles: Answers to the role selection items.
        plain: Only verification and storage towards us were agreed on.
    """

    contexts: tuple[PresentationContext, ...]
    roles: tuple[SCP_SCU_RoleSelectionNegotiation, ...]
    plain: bool

    @property
    def accepted(self) -> list[PresentationContext]:
        """The contexts that may be used."""
        return [context for context in self.contexts if context.result == ACCEPTED]


def negotiate(
    request: A_ASSOCIATE, who: Admitted, services: Services, extra_classes: Sequence[str]
) -> Agreement:
    """Decide on the contexts and roles that a peer proposes."""
    proposed = request.presentation_context_definition_list
    asked = {
        str(item.sop_class_uid): (bool(item.scu_role), bool(item.scp_role))
        for item in request.user_information
        if isinstance(item, SCP_SCU_RoleSelectionNegotiation)
    }
    gets = "retrieve" in who.rights and any(
        str(context.abstract_syntax) in _GET_CLASSES and services.of(str(context.abstract_syntax))
        for context in proposed
    )
    results = [_answer(context, who, services, extra_classes, gets, asked) for context in proposed]
    results.sort(key=lambda context: context.context_id or 0)
    granted = {
        str(context.abstract_syntax): (bool(context.as_scp), bool(context.as_scu))
        for context in results
        if context.result == ACCEPTED and str(context.abstract_syntax) in asked
    }
    plain = not any(
        context.result == ACCEPTED
        and (context.as_scu or services.of(str(context.abstract_syntax)) is not None)
        for context in results
    )
    roles = tuple(_role_item(uid, *roles) for uid, roles in sorted(granted.items()))
    return Agreement(tuple(results), roles, plain)


def _answer(
    context: PresentationContext,
    who: Admitted,
    services: Services,
    extra_classes: Sequence[str],
    gets: bool,
    asked: dict[str, Roles],
) -> PresentationContext:
    uid = str(context.abstract_syntax)
    offered = [str(syntax) for syntax in context.transfer_syntax]
    service = services.of(uid)
    storage = service is None and uid != VERIFICATION
    if service is None and not is_accepted(uid, extra_classes):
        return _result(context, UNKNOWN_ABSTRACT_SYNTAX, offered[0])
    # Data sets are kept as they come, so any transfer syntax will do; the peer's first is taken.
    wanted = offered if service is None else service.abstract_syntaxes[uid]
    syntax = next((syntax for syntax in wanted if syntax in offered), None)
    if syntax is None:
        return _result(context, UNKNOWN_TRANSFER_SYNTAX, offered[0])
    peer_as_scp = gets if storage else service is not None and uid in service.peer_as_scp
    right = "store" if storage else service.right if service is not None else None
    may = right is None or right in who.rights
    # To receive what it gets, a peer need not be allowed to store.
    scu, scp = asked.get(uid, _DEFAULT)
    scu, scp = scu and (may or (storage and gets and scp)), scp and peer_as_scp
    if not scu and not scp:
        return _result(context, USER_REJECTION, syntax)
    return _result(context, ACCEPTED, syntax, (scu, scp))


def _result(
    context: PresentationContext, result: int, syntax: str, roles: Roles = (False, False)
) -> PresentationContext:
    answer = PresentationContext()
    answer.context_id = context.context_id
    answer.abstract_syntax = context.abstract_syntax
    answer.transfer_syntax = [UID(syntax)]
    answer.result = result
    # Seen from us: the peer as SCU makes us SCP.
    answer._as_scp, answer._as_scu = roles
    return answer


def _role_item(uid: str, scu: bool, scp: bool) -> SCP_SCU_RoleSelectionNegotiation:
    item = SCP_SCU_RoleSelectionNegotiation()
    item.sop_class_uid = UID(uid)
    item.scu_role, item.scp_role = scu, scp
    return item


def identity_of(request: A_ASSOCIATE) -> UserIdentity | None:
    """The user identity that a request carries."""
    for item in request.user_information:
        if isinstance(item, UserIdentityNegotiation) and item.user_identity_type is not None:
            return UserIdentity(
                kind=item.user_identity_type,
                primary=item.primary_field or b"",
                secondary=item.secondary_field or b"",
                response_requested=bool(item.positive_response_requested),
            )
    return None


def maximum_of(request: A_ASSOCIATE) -> int:
    """Longest P-DATA-TF that the peer can receive; 0: any."""
    for item in request.user_information:
        if isinstance(item, MaximumLengthNotification):
            return item.maximum_length_received
    return 0


def extended_of(request: A_ASSOCIATE) -> dict[str, bytes]:
    """SOP Class Extended Negotiation items of a request."""
    return {
        str(item.sop_class_uid): item.service_class_application_information or b""
        for item in request.user_information
        if isinstance(item, SOPClassExtendedNegotiation)
    }


def acceptance(
    request: A_ASSOCIATE,
    who: Admitted,
    agreement: Agreement,
    maximum_pdu: int,
    extended: Mapping[str, bytes] | None = None,
) -> A_ASSOCIATE:
    """The A-ASSOCIATE-AC that tells the peer what was agreed on."""
    answer = A_ASSOCIATE()
    answer.application_context_name = UID(APPLICATION_CONTEXT_NAME)
    answer.calling_ae_title = request.calling_ae_title
    answer.called_ae_title = request.called_ae_title
    answer.result, answer.result_source = 0, 1
    answer.presentation_context_definition_results_list = list(agreement.contexts)
    length = MaximumLengthNotification()
    length.maximum_length_received = maximum_pdu
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION
    items: list[Any] = [length, implementation, version, *agreement.roles]
    for uid, information in (extended or {}).items():
        item = SOPClassExtendedNegotiation()
        item.sop_class_uid = UID(uid)
        item.service_class_application_information = information
        items.append(item)
    if who.identity_response is not None:
        confirmed = UserIdentityNegotiation()
        confirmed.server_response = who.identity_response
        items.append(confirmed)
    answer.user_information = items
    return answer
