"""Configuration of the inference worker and its hook: one frozen object, read by the root."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from records.transport import Credentials


@dataclass(frozen=True, slots=True)
class InferenceConfig:
    """What a worker is told.

    Attributes:
        records_url: FHIR base URL for internal callers.
        records_credentials: what lets each request in there.
        dicomweb_url: DICOMweb base URL, without a trailing slash.
        token: gives a bearer token for DICOMweb; called once per run, so it may be short-lived.
        hook_secret: what a hook caller must show.
        model: bundle folder; the packaged reference model when None.
        threads: for ONNX Runtime; 0 lets it choose.
        organization: who runs the model, as named in FHIR.
        max_attempts: claims of one Task before it ends as failed.
        retry_wait_s: wait before the second attempt; doubles with each further one.
        sweep_window_s: how far back the sweep looks for studies and Tasks.
        startup_window_s: the same for the first sweep of a worker, which may have been down.
        stuck_s: age at which an unfinished Task without news is offered to the workers again.
        stalled_s: silence after which a worker counts as dead and its jobs are given to another.
        dicomweb_timeout_s: of one request.
    """

    records_url: str
    records_credentials: Credentials = field(repr=False)
    dicomweb_url: str
    token: Callable[[], str] = field(repr=False)
    hook_secret: str = field(repr=False)
    model: Path | None = None
    threads: int = 0
    organization: str = "Hilum demonstration site"
    max_attempts: int = 3
    retry_wait_s: int = 2
    sweep_window_s: int = 3600
    startup_window_s: int = 7 * 24 * 3600
    stuck_s: int = 60
    stalled_s: int = 25
    dicomweb_timeout_s: float = 60.0
