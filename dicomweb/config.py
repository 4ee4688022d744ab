"""What the DICOMweb door needs to know before it opens."""

from __future__ import annotations

from dataclasses import dataclass, field

from pixels import PixelsConfig

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class DicomwebConfig:
    """Limits and outer face of the DICOMweb service.

    Attributes:
        base_url: Service root as clients see it, without a trailing slash; None takes it from
            each request (right unless a proxy rewrites the host).
        cors_origins: Origins of browser apps that may call the service.
        max_parts: Most instances in one STOW-RS request.
        max_part_bytes: Largest instance taken by STOW-RS.
        max_request_bytes: Largest body of one request, after its content coding is undone.
        max_bulk_bytes: Most bytes of bulk data in one store request of metadata and bulk data.
        max_metadata_bytes: Largest JSON or XML document taken.
        body_idle_s: A body that stands still for so long is given up, in seconds.
        min_body_rate: Bytes a second that a body must come with on average, after body_idle_s.
        store_concurrency: Instances of one request that are committed at the same time.
        max_results: Most matches in one QIDO-RS answer, whatever limit asks for.
        max_frames: Most frames in one frames request.
        max_viewport: Largest width or height of a rendered image, in pixels.
        pixels: Limits of the decoder processes, and their cache.
    """

    base_url: str | None = None
    cors_origins: tuple[str, ...] = ()
    max_parts: int = 10_000
    max_part_bytes: int = 8 * 1024 * MIB
    max_request_bytes: int = 64 * 1024 * MIB
    max_bulk_bytes: int = 4 * 1024 * MIB
    max_metadata_bytes: int = 64 * MIB
    body_idle_s: float = 30.0
    min_body_rate: int = 1024
    store_concurrency: int = 6
    max_results: int = 1000
    max_frames: int = 10_000
    max_viewport: int = 4096
    pixels: PixelsConfig = field(default_factory=PixelsConfig)
