"""What our handlers know of an association: who was admitted to it, and whether it must end."""

from __future__ import annotations

from pynetdicom.association import Association

from dimse.association.admission import Admitted
from dimse.association.register import Open

_ADMITTED, _OPEN = "hilum_admitted", "hilum_open"


def admitted(association: Association) -> Admitted:
    """Caller, peer and rights of an association that we accepted."""
    found = vars(association).get(_ADMITTED)
    if not isinstance(found, Admitted):
        raise LookupError("nobody was admitted to this association")
    return found


def is_ending(association: Association) -> bool:
    """Whether the server stops and waits for the answer to the request that is under way."""
    found = vars(association).get(_OPEN)
    return isinstance(found, Open) and found.ending


def admit(association: Association, who: Admitted, entry: Open) -> None:
    """Remember who uses an association."""
    vars(association).update({_ADMITTED: who, _OPEN: entry})
