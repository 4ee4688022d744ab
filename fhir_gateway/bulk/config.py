"""Settings of bulk exports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MIB = 1024 * 1024
ManifestVersion = Literal["2.0", "4.0"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkConfig:
    """How exports run.

    Attributes:
        folder: where the files are; gateways that share the jobs share it too.
        fhir_base: public base URL of the FHIR API.
        poll_s: Retry-After of a running export; who asks much more often is turned away.
        keep_s: how long a finished export's files can be fetched.
        open_per_client: exports of one client that may wait or run at once.
        at_once: exports that one process works on at once.
        file_rows, file_bytes: a file that reaches one of these ends there.
        page_files: files in one manifest, where a client allows several manifests.
        min_free_bytes: space that exports leave free on their disk.
        patience_s: how long an export waits for a FHIR store that does not answer.
        manifest: form of the manifest: 2.0 (with the parameters of 3.0), or the STU4 ballot.
    """

    folder: Path = Path("exports")
    fhir_base: str = ""
    poll_s: int = 1
    keep_s: int = 3600
    open_per_client: int = 3
    at_once: int = 2
    file_rows: int = 25_000
    file_bytes: int = 128 * MIB
    page_files: int = 20
    min_free_bytes: int = 512 * MIB
    patience_s: float = 900.0
    manifest: ManifestVersion = "2.0"
