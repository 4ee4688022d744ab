"""Door: DICOM over TCP (PS3.4, PS3.7, PS3.8). C-ECHO and C-STORE in, C-ECHO and C-STORE out."""

from dimse.peers import Peer, PeerError, Peers
from dimse.scu.echo_store import AssociationFailed, SendResult, echo, send
from dimse.server import DimseConfig, DimseServer

__all__ = [
    "AssociationFailed",
    "DimseConfig",
    "DimseServer",
    "Peer",
    "PeerError",
    "Peers",
    "SendResult",
    "echo",
    "send",
]
