"""The socket that pynetdicom reads from, with the limits that it does not have itself."""

from __future__ import annotations

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from dimse.guard import Request


class LimitedSocket(AssociationSocket):
    """First gives the request that the guard has read, then what comes."""

    def __init__(self, association: Association, request: Request) -> None:
        super().__init__(association, client_socket=request.connection)
        self._replay = bytearray(request.pdu)

    @property
    def ready(self) -> bool:
        """Whether there is something to read."""
        return bool(self._replay) or super().ready

    def recv(self, nr_bytes: int) -> bytearray:
        """Read so many bytes, or fewer if the peer is gone."""
        if self._replay:
            taken = self._replay[:nr_bytes]
            del self._replay[:nr_bytes]
            return taken
        return super().recv(nr_bytes)
