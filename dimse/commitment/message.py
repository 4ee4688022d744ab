"""The data sets of storage commitment, read and written (PS3.4 tables J.3-1 and J.3-2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode, encode

from archive.header import is_valid_uid
from dimse.commitment.table import FailedReference, Reference

COMMITMENT = "1.2.840.10008.1.20.1"
WELL_KNOWN = "1.2.840.10008.1.20.1.1"
REQUEST = 1
ALL_COMMITTED, WITH_FAILURES = 1, 2
MOST = 100_000
"""Instances in one transaction: more is nothing that a modality asks for."""


class BadMessage(Exception):
    """An Action or Event Information that is not one; the text says why, without its values."""


@dataclass(frozen=True, slots=True)
class Report:
    """What an SCP says about a transaction."""

    transaction_uid: str
    committed: tuple[Reference, ...]
    failures: tuple[FailedReference, ...]

    @property
    def event_type(self) -> int:
        """Event Type ID of this report."""
        return WITH_FAILURES if self.failures else ALL_COMMITTED


def read_request(dataset: Dataset) -> tuple[str, tuple[Reference, ...]]:
    """Transaction UID and instances of an N-ACTION. Raises BadMessage."""
    transaction = _uid(dataset, "TransactionUID")
    references = tuple(_reference(item) for item in _items(dataset, "ReferencedSOPSequence"))
    if not references:
        raise BadMessage("ReferencedSOPSequence has no items")
    return transaction, references


def read_report(dataset: Dataset) -> Report:
    """The content of an N-EVENT-REPORT. Raises BadMessage."""
    committed = tuple(_reference(item) for item in _items(dataset, "ReferencedSOPSequence"))
    failures = tuple(
        FailedReference(*_reference(item), int(item.get("FailureReason") or 0))
        for item in _items(dataset, "FailedSOPSequence")
    )
    return Report(_uid(dataset, "TransactionUID"), committed, failures)


def request_dataset(transaction_uid: str, references: Sequence[Reference]) -> Dataset:
    """Action Information."""
    dataset = Dataset()
    dataset.TransactionUID = transaction_uid
    dataset.ReferencedSOPSequence = [_item(*one) for one in references]
    return dataset


def report_dataset(report: Report, retrieve_ae: str) -> Dataset:
    """Event Information."""
    dataset = Dataset()
    dataset.TransactionUID = report.transaction_uid
    dataset.RetrieveAETitle = retrieve_ae
    if report.committed:
        dataset.ReferencedSOPSequence = [_item(*one) for one in report.committed]
    if report.failures:
        dataset.FailedSOPSequence = [_item(*one) for one in report.failures]
    return dataset


def to_bytes(dataset: Dataset, transfer_syntax: str) -> bytes:
    """A data set in one of the uncompressed little-endian syntaxes."""
    encoded = encode(dataset, transfer_syntax == "1.2.840.10008.1.2", True)
    if encoded is None:
        raise BadMessage("the data set cannot be encoded")
    return bytes(encoded)


def from_bytes(data: bytes, transfer_syntax: str) -> Dataset:
    """The data set of a message."""
    return decode(BytesIO(data), transfer_syntax == "1.2.840.10008.1.2", True)


def _items(dataset: Dataset, name: str) -> Sequence[Dataset]:
    items: Sequence[Dataset] = dataset.get(name) or ()
    if len(items) > MOST:
        raise BadMessage(f"{name} has more than {MOST} items")
    return items


def _reference(item: Dataset) -> Reference:
    return Reference(_uid(item, "ReferencedSOPClassUID"), _uid(item, "ReferencedSOPInstanceUID"))


def _uid(dataset: Dataset, name: str) -> str:
    value = str(dataset.get(name) or "")
    if not is_valid_uid(value):
        raise BadMessage(f"{name} is missing or not valid")
    return value


def _item(sop_class: str, instance: str, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
    if reason is not None:
        item.FailureReason = reason
    return item
