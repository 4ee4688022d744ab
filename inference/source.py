"""Source: the pixels of a study over DICOMweb, and the place where results are stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, TypeVar

import requests
import structlog
from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from inference.dicom_results import encode
from inference.errors import SourceError

log = structlog.get_logger(__name__)
Answer = TypeVar("Answer")

ANY_TRANSFER_SYNTAX = (("application/dicom", "*"),)
FAILED_SOP_SEQUENCE = "FailedSOPSequence"
NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class SeriesHeader:
    """A series as it is chosen by: one of its instances without pixels, and its slices."""

    instance: Dataset
    slices: int


class Source:
    """One study's DICOMweb server, with a token good for one run. Blocking; use in a thread."""

    def __init__(self, url: str, token: str, timeout_s: float = 60.0) -> None:
        self._client = DICOMwebClient(
            url, headers={"Authorization": f"Bearer {token}"}, timeout=timeout_s
        )
        # A short second try only: longer waits are the queue's, which a restart does not forget.
        self._client.set_http_retry_params(max_attempts=2, wait_exponential_multiplier=100)

    def series_header(self, study: str, series: str) -> SeriesHeader:
        """The header of one instance of a series, and how many slices it has.

        Raises:
            SourceError: the server refused or could not be reached.
        """
        answer: list[dict[str, Any]] = self._ask(
            f"metadata of series {series}",
            lambda: self._client.retrieve_series_metadata(study, series),
        )
        if not answer:
            raise SourceError(f"series {series} is empty")
        middle = Dataset.from_json(answer[len(answer) // 2], _no_bulk_data)
        return SeriesHeader(middle, sum(_frames(instance) for instance in answer))

    def instances(self, study: str, series: str) -> list[Dataset]:
        """All instances of a series with their pixels, in one streamed request.

        Raises:
            SourceError: as above, or what came is not DICOM.
        """
        return self._ask(f"series {series}", lambda: list(self._stream(study, series)))

    def find_instance(self, study: str, series: str, instance: str) -> Dataset | None:
        """One instance, or None where the server does not have it.

        Raises:
            SourceError: the server refused or could not be reached.
        """

        def fetch() -> Dataset | None:
            try:
                return self._client.retrieve_instance(
                    study, series, instance, media_types=ANY_TRANSFER_SYNTAX
                )
            except requests.HTTPError as error:
                if error.response is not None and error.response.status_code == NOT_FOUND:
                    return None
                raise

        return self._ask(f"instance {instance}", fetch)

    def store(self, study: str, datasets: Sequence[Dataset]) -> None:
        """Store results by STOW-RS. An instance that is already there stays as it is.

        Raises:
            SourceError: an instance was not stored and is not there.
        """
        parts = [dcmread(BytesIO(encode(dataset))) for dataset in datasets]
        answer: Dataset | None = None
        try:
            answer = self._client.store_instances(parts, study)
        except (requests.RequestException, ValueError, OSError) as error:
            log.info("stow_answered_with_error", study=study, error=_cause(error))
        refused = [] if answer is None else answer.get(FAILED_SOP_SEQUENCE) or []
        if answer is not None and not refused:
            return
        # A refusal may only mean that the first attempt of this run had already stored it.
        for part in parts:
            place = (part.StudyInstanceUID, part.SeriesInstanceUID, part.SOPInstanceUID)
            if self.find_instance(*place) is None:
                raise SourceError(f"instance {part.SOPInstanceUID} was not stored")

    def _stream(self, study: str, series: str) -> list[Dataset]:
        return list(self._client.iter_series(study, series, media_types=ANY_TRANSFER_SYNTAX))

    def _ask(self, what: str, request: Callable[[], Answer]) -> Answer:
        try:
            return request()
        except (requests.RequestException, InvalidDicomError, ValueError, OSError) as error:
            raise SourceError(f"{what} could not be had: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    """A short cause that holds no URL and no body, so no patient data."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code}"
    return type(error).__name__


def _frames(instance: dict[str, Any]) -> int:
    """Number of Frames (0028,0008) in the DICOM JSON model; 1 where it is absent."""
    return int(instance.get("00280008", {}).get("Value", [1])[0])


def _no_bulk_data(_tag: str, _vr: str, _uri: str) -> None:
    """Bulk data stays on the server; headers are enough here."""
    return None
