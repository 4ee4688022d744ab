"""C-STORE: a data set comes in, its bytes are kept as they are, and the sender learns what became
of it (PS3.4 annex B)."""

from __future__ import annotations

from io import BytesIO
from typing import cast

import structlog
from pydicom.dataset import Dataset
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event

from archive import Archive, ArchiveError, Source
from dimse.association import admitted
from dimse.fileheader import file_header
from dimse.ledger import Ledger
from dimse.status import SUCCESS, failure_of, response

log = structlog.get_logger(__name__)


def on_c_store(event: Event, archive: Archive, ledger: Ledger) -> int | Dataset:
    """Answer one C-STORE request with its status (PS3.4 B.2.3).

    Success is sent only once the instance is on disk: the sender may delete its own copy as soon
    as it reads the answer.
    """
    caller = admitted(event.assoc).caller
    request = cast(C_STORE, event.request)
    sop_class, instance = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
    syntax = str(event.context.transfer_syntax)
    source = Source("dimse", calling_ae=caller.subject, address=caller.address)
    association = id(event.assoc)
    try:
        with archive.receive() as incoming:
            incoming.write(file_header(sop_class, instance, syntax, caller.subject))
            incoming.write(cast(BytesIO, request.DataSet).getbuffer())
            stored = archive.store(incoming, source, announced=(sop_class, instance))
    except ArchiveError as error:
        failure = failure_of(error)
        study = error.key.study if error.key else None
        ledger.add(association, caller, study, type(error).__name__)
        log.warning(
            "instance refused",
            instance=instance,
            status=f"0x{failure.status:04X}",
            error=type(error).__name__,
        )
        return response(failure)
    ledger.add(association, caller, stored.key.study, stored.outcome)
    return SUCCESS
