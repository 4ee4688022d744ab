"""What our handlers know of an association: who was admitted to it."""

from __future__ import annotations

from pynetdicom.association import Association

from dimse.admission import Admitted

_ADMITTED = "hilum_admitted"


def admitted(association: Association) -> Admitted:
    """Caller, peer and rights of an association that we accepted."""
    found = vars(association).get(_ADMITTED)
    if not isinstance(found, Admitted):
        raise LookupError("nobody was admitted to this association")
    return found


def admit(association: Association, who: Admitted) -> None:
    """Remember who uses an association."""
    vars(association)[_ADMITTED] = who
