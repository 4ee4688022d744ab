"""Which presentation contexts a batch of instances needs, and on which one each of them goes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from dimse.peers import Peer
from dimse.scu.association import Accepted
from dimse.scu.file import Outgoing
from dimse.scu.negotiation import CONTEXTS, Proposal
from pixels import can_make

EXPLICIT_LE, IMPLICIT_LE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


def batches(items: Sequence[Outgoing], peer: Peer) -> Iterator[list[Outgoing]]:
    """The items in groups whose presentation contexts one association can carry."""
    group: dict[str, list[str]] = {}
    for sop_class, syntaxes in by_class(items).items():
        if group and len(proposals({**group, sop_class: syntaxes}, peer)) > CONTEXTS:
            yield [one for one in items if one.sop_class in group]
            group = {}
        group[sop_class] = syntaxes
    if group:
        yield [one for one in items if one.sop_class in group]


def by_class(items: Iterable[Outgoing]) -> dict[str, list[str]]:
    """The stored transfer syntaxes of each SOP class."""
    found: dict[str, list[str]] = {}
    for sop_class, syntax in dict.fromkeys((one.sop_class, one.transfer_syntax) for one in items):
        found.setdefault(sop_class, []).append(syntax)
    return found


def proposals(syntaxes: dict[str, list[str]], peer: Peer) -> list[Proposal]:
    """One context for each class and syntax, so that the peer's answer tells about each one.

    Beside what is stored: what the peer likes, and the two that every image can be turned into.
    """
    made = []
    for sop_class, stored in syntaxes.items():
        wanted = dict.fromkeys([*peer.transfer_syntaxes, *stored, EXPLICIT_LE, IMPLICIT_LE])
        # A class with that many syntaxes is made of oddities; the stored ones matter most.
        made += [Proposal(sop_class, (syntax,)) for syntax in islice(wanted, CONTEXTS)]
    return made


def choose(
    contexts: Sequence[Accepted],
    item: Outgoing,
    liked: Sequence[str],
    *,
    transcodes: bool,
) -> Accepted | None:
    """The context to send on: the stored syntax, unless the peer likes others better (`liked`)."""
    accepted = {
        one.transfer_syntax: one
        for one in reversed(contexts)
        if one.abstract_syntax == item.sop_class
    }
    stored = item.transfer_syntax
    order = [*liked, stored, EXPLICIT_LE, IMPLICIT_LE, *accepted]
    if stored in liked:
        order = [stored, *order]
    for syntax in order:
        if syntax not in accepted:
            continue
        if syntax == stored or (transcodes and can_make(stored, syntax)):
            return accepted[syntax]
    return None
