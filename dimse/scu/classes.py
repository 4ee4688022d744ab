"""Which SOP classes a peer's study holds: C-GET must propose them beforehand."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dimse.peers import Peer
from dimse.scu.negotiation import AssociationBroken, AssociationFailed, Calling
from dimse.scu.query import Asking, PeerRefused
from dimse.wire.contexts import storage_classes

_SERIES = 200
# First those that are met most, for there is room for 127.
_USUAL = tuple(
    "1.2.840.10008.5.1.4.1.1." + tail
    for tail in (
        *("2", "4", "2.1", "4.1", "1", "1.1", "1.2", "7", "6.1", "3.1", "12.1", "12.2", "128"),
        *("20", "88.11", "88.22", "88.33", "88.59", "66.4", "66", "11.1", "104.1", "130", "30"),
        *("481.1", "481.2", "481.3", "481.5", "481.8", "13.1.3", "7.4", "77.1.4", "77.1.6"),
    )
)


def classes_of(
    peer: Peer, study: str, calling: Calling, series: frozenset[str] = frozenset()
) -> tuple[str, ...]:
    """SOP classes of a study at the peer, asked for one instance of each series.

    A peer that does not tell is taken to hold anything.
    """
    found: dict[str, None] = {}
    try:
        with Asking(peer, calling) as asking:
            uids = series or _series_of(asking, study)
            for uid in sorted(uids)[:_SERIES]:
                keys = _keys("IMAGE", study, SeriesInstanceUID=uid, SOPClassUID="")
                for answer in asking.find(keys, most=1):
                    sop_class = str(answer.get("SOPClassUID", "") or "")
                    if not sop_class:
                        return everything()
                    found[sop_class] = None
    except (AssociationFailed, AssociationBroken, PeerRefused):
        return everything()
    return tuple(found) or everything()


def everything() -> tuple[str, ...]:
    """Every storage class, the usual ones first."""
    return (*_USUAL, *sorted(storage_classes() - set(_USUAL)))


def _series_of(asking: Asking, study: str) -> frozenset[str]:
    answers = asking.find(_keys("SERIES", study, SeriesInstanceUID=""))
    return frozenset(str(one.get("SeriesInstanceUID", "")) for one in answers) - {""}


def _keys(level: str, study: str, **more: str) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    identifier.StudyInstanceUID = study
    for name, value in more.items():
        setattr(identifier, name, value)
    return identifier
