"""C-ECHO and C-STORE to a peer. Files go out as they are: nothing is decoded or transcoded."""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import structlog
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from dimse.contexts import VERIFICATION
from dimse.fileheader import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from dimse.pace import quicken
from dimse.peers import Peer

log = structlog.get_logger(__name__)

CONTEXTS_PER_ASSOCIATION = 128
MAXIMUM_PDU = 1024 * 1024

Progress = Callable[["SendResult"], None]
Context = tuple[str, str]


class AssociationFailed(Exception):
    """The peer could not be reached, or did not accept the association."""


@dataclass(frozen=True, slots=True)
class SendResult:
    """What became of one file. `status` is the peer's C-STORE status; None if none came."""

    path: Path
    status: int | None
    text: str

    @property
    def ok(self) -> bool:
        """The peer has it: success, or one of the C-STORE warnings (PS3.4 B.2.3)."""
        return self.status is not None and (self.status == 0 or self.status >> 12 == 0xB)


@dataclass(frozen=True, slots=True)
class _Outgoing:
    path: Path
    context: Context


def echo(peer: Peer, *, calling_ae: str = "HILUM", timeout_s: float = 10.0) -> float:
    """C-ECHO; returns the seconds from connecting to the answer. Raises AssociationFailed."""
    started = time.monotonic()
    association = _associate(peer, [(VERIFICATION, "1.2.840.10008.1.2")], calling_ae, timeout_s)
    try:
        answer = association.send_c_echo()
    finally:
        association.release()
    if answer.get("Status") is None or answer.Status != 0:
        raise AssociationFailed(f"{peer} did not answer C-ECHO with success")
    return time.monotonic() - started


def send(
    peer: Peer,
    paths: Iterable[Path],
    *,
    calling_ae: str = "HILUM",
    progress: Progress | None = None,
    timeout_s: float = 30.0,
) -> list[SendResult]:
    """Send Part 10 files by C-STORE, on as many associations as their contexts need.

    Args:
        peer: Where to.
        paths: The files; one that is not DICOM gets a result of its own.
        calling_ae: Our AE title.
        progress: Called with each result as it comes.
        timeout_s: Longest wait for an association and for each answer.

    Returns:
        One result for each file, in the order in which they were dealt with.

    Raises:
        AssociationFailed: the peer accepts no association.
    """
    results: list[SendResult] = []

    def report(result: SendResult) -> None:
        results.append(result)
        if progress is not None:
            progress(result)

    outgoing: list[_Outgoing] = []
    for path in paths:
        found = _read_context(path)
        if isinstance(found, SendResult):
            report(found)
        else:
            outgoing.append(found)
    for contexts, group in _groups(outgoing):
        _send_group(peer, contexts, group, report, calling_ae, timeout_s)
    return results


def _read_context(path: Path) -> _Outgoing | SendResult:
    """SOP class and transfer syntax from the file's meta information."""
    try:
        meta = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"]).file_meta
        sop_class, syntax = str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)
        _ = meta.MediaStorageSOPInstanceUID
    except InvalidDicomError:
        return SendResult(path, None, "not a DICOM Part 10 file")
    except (AttributeError, OSError, ValueError, EOFError, RecursionError) as error:
        return SendResult(path, None, f"cannot be read ({type(error).__name__})")
    return _Outgoing(path, (sop_class, syntax))


def _groups(outgoing: Sequence[_Outgoing]) -> Iterator[tuple[list[Context], list[_Outgoing]]]:
    """Files with the contexts that one association can carry, 128 at most (PS3.8 9.3.2.2)."""
    contexts = iter(dict.fromkeys(one.context for one in outgoing))
    while part := list(islice(contexts, CONTEXTS_PER_ASSOCIATION)):
        chosen = set(part)
        yield part, [one for one in outgoing if one.context in chosen]


def _send_group(
    peer: Peer,
    contexts: list[Context],
    group: list[_Outgoing],
    report: Progress,
    calling_ae: str,
    timeout_s: float,
) -> None:
    """Send a group; an association that breaks is renewed as long as each one gets further."""
    done = 0
    while done < len(group):
        association = _associate(peer, contexts, calling_ae, timeout_s)
        before = done
        try:
            while done < len(group):
                result = _send_one(association, group[done])
                if result is None:
                    break
                report(result)
                done += 1
        finally:
            if association.is_established:
                association.release()
        if done < len(group) and done == before:
            report(SendResult(group[done].path, None, "the association broke; no answer came"))
            done += 1


def _send_one(association: Association, one: _Outgoing) -> SendResult | None:
    """The peer's answer; None if the association broke before it came."""
    if not association.is_established:
        return None
    accepted = {
        (str(context.abstract_syntax), str(context.transfer_syntax[0]))
        for context in association.accepted_contexts
    }
    if one.context not in accepted:
        return SendResult(one.path, None, "the peer does not accept its class or transfer syntax")
    try:
        with _even(one.path) as path:
            answer = association.send_c_store(path)
    except (AttributeError, ValueError, OSError) as error:
        return SendResult(one.path, None, f"cannot be sent ({type(error).__name__})")
    except RuntimeError:
        return None
    status = answer.get("Status")
    if status is None:
        return None
    return SendResult(one.path, int(answer.Status), status_text(answer))


@contextmanager
def _even(path: Path) -> Iterator[Path]:
    """The file, or a copy with the NUL that makes an odd deflated data set even (PS3.5 A.5)."""
    if path.stat().st_size % 2 == 0:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="hilum-send-") as folder:
        padded = Path(folder) / "padded.dcm"
        shutil.copyfile(path, padded)
        with padded.open("ab") as file:
            file.write(b"\0")
        yield padded


def status_text(answer: Dataset) -> str:
    """A status in words, with the peer's comment."""
    status = int(answer.Status)
    category, meaning = STORAGE_SERVICE_CLASS_STATUS.get(status, ("Unknown", ""))
    comment = str(answer.get("ErrorComment", "") or "")
    words = f"0x{status:04X} {category}" + (f": {meaning}" if meaning else "")
    return f"{words} ({comment})" if comment else words


def _associate(
    peer: Peer, contexts: Sequence[Context], calling_ae: str, timeout_s: float
) -> Association:
    # From the file in pieces: memory stays flat, nothing is decoded, and it is the faster way.
    _config.STORE_SEND_CHUNKED_DATASET = True
    _config.LOG_HANDLER_LEVEL = "none"
    ae = AE(calling_ae)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION
    ae.connection_timeout = ae.acse_timeout = timeout_s
    ae.dimse_timeout = ae.network_timeout = timeout_s
    association = ae.associate(
        peer.host,
        peer.port,
        contexts=[build_context(abstract, [syntax]) for abstract, syntax in contexts],
        ae_title=peer.ae_title,
        max_pdu=MAXIMUM_PDU,
        evt_handlers=[(evt.EVT_CONN_OPEN, _hurry)],
    )
    if association.is_established:
        return association
    if association.is_rejected:
        raise AssociationFailed(f"{peer} rejected the association")
    raise AssociationFailed(f"{peer} could not be reached, or aborted the association")


def _hurry(event: evt.Event) -> None:
    """Send small messages at once: Nagle and delayed ACK together cost 40 ms an instance."""
    quicken(event.assoc)
    transport = event.assoc.dul.socket
    if transport is not None and transport.socket is not None:
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
