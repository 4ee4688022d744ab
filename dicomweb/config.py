"""What the DICOMweb door needs to know before it opens."""

from __future__ import annotations

from dataclasses import dataclass

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
        store_concurrency: Instances of one request that are committed at the same time.
        max_results: Most matches in one QIDO-RS answer, whatever limit asks for.
        max_frames: Most frames in one frames request.
        max_frame_bytes: Largest decoded frame that is made for rendering or transcoding.
        max_decoded_bytes: Largest instance that is decompressed as a whole.
        max_viewport: Largest width or height of a rendered image, in pixels.
        decoders: Images that are decoded at the same time, each in a process of its own.
        decode_timeout_s: A decoder that takes longer is ended, and its image refused.
    """

    base_url: str | None = None
    cors_origins: tuple[str, ...] = ()
    max_parts: int = 10_000
    max_part_bytes: int = 8 * 1024 * MIB
    store_concurrency: int = 6
    max_results: int = 1000
    max_frames: int = 10_000
    max_frame_bytes: int = 256 * MIB
    max_decoded_bytes: int = 1024 * MIB
    max_viewport: int = 4096
    decoders: int = 2
    decode_timeout_s: float = 60.0
