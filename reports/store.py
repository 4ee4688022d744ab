"""The way into the archive: STOW-RS by dicomweb-client, with a bearer token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from io import BytesIO

import requests
from dicomweb_client import DICOMwebClient
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset

from reports.errors import StoreRefused


class DicomwebStore:
    """Stores instances over DICOMweb. An instance that is there already is no error."""

    def __init__(self, url: str, token: Callable[[], str], timeout_s: float) -> None:
        self._url, self._token, self._timeout_s = url, token, timeout_s

    async def __call__(self, instance: Dataset) -> None:
        """Store one instance; returns when the archive has it for good.

        Raises:
            StoreRefused: it has not; worth another try.
        """
        await asyncio.to_thread(self._store, instance)

    def _store(self, instance: Dataset) -> None:
        uid = str(instance.SOPInstanceUID)
        with requests.Session() as session:
            session.trust_env = False  # no proxy between a worker and its archive
            session.headers["Authorization"] = f"Bearer {self._token()}"
            client = DICOMwebClient(self._url, session=session, timeout=self._timeout_s)
            client.set_http_retry_params(retry=False)  # the job is tried again, and later
            try:
                answer = client.store_instances([_as_file(instance)])
            except (requests.RequestException, OSError) as error:
                raise StoreRefused(uid, type(error).__name__) from error
        failed = answer.get("FailedSOPSequence")
        if failed:
            raise StoreRefused(uid, f"failure reason {failed[0].get('FailureReason')}")


def _as_file(instance: Dataset) -> Dataset:
    """The instance as read from a file: dicomweb-client writes no preamble of its own accord."""
    buffer = BytesIO()
    dcmwrite(buffer, instance, enforce_file_format=True)
    return dcmread(BytesIO(buffer.getvalue()))
