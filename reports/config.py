"""Configuration of the reports worker and its hook: one frozen object, read by the root."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from records.transport import Credentials


@dataclass(frozen=True, slots=True)
class ReportsConfig:
    """What a worker is told.

    Attributes:
        records_url: FHIR base URL for internal callers.
        records_credentials: what lets each request in there.
        dicomweb_url: DICOMweb base URL, without a trailing slash.
        token: gives a bearer token for DICOMweb; called for each store, so it may be short-lived.
        hook_secret: what a hook caller must show.
        institution: name in the letterhead.
        max_tries: of one job; the sweep takes the report up again later.
        retry_wait_s: wait before the second try; doubles with each further one.
        sweep_window_s: how far back the sweep looks for reports that changed.
        startup_window_s: the same for the first sweep of a worker, which may have been down.
        stalled_s: silence after which a worker counts as dead and its jobs are given to another.
        dicomweb_timeout_s: of one request.
    """

    records_url: str
    records_credentials: Credentials = field(repr=False)
    dicomweb_url: str
    token: Callable[[], str] = field(repr=False)
    hook_secret: str = field(repr=False)
    institution: str = "Hilum demonstration site"
    max_tries: int = 7
    retry_wait_s: int = 2
    sweep_window_s: int = 3600
    startup_window_s: int = 7 * 24 * 3600
    stalled_s: int = 25
    dicomweb_timeout_s: float = 60.0
