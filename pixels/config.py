"""What the pixel work may use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class PixelsConfig:
    """Limits of the decoder processes, and the cache of what they made.

    Attributes:
        processes: Jobs done at the same time, each in a process of its own.
        memory_bytes: Address space of a decoder process; what needs more is refused.
        cpu_s: Processor time for one job.
        timeout_s: Time for one job by the clock; a decoder that takes longer is ended.
        max_frame_bytes: Largest decoded frame.
        max_instance_bytes: Largest file that is inflated or made by transcoding.
        cache: Folder of the cache; None makes everything anew.
        cache_bytes: Size of the cache; what was not used for longest goes first.
    """

    processes: int = 2
    memory_bytes: int = 3 * 1024 * MIB
    cpu_s: int = 120
    timeout_s: float = 180.0
    max_frame_bytes: int = 256 * MIB
    max_instance_bytes: int = 8 * 1024 * MIB
    cache: Path | None = None
    cache_bytes: int = 2 * 1024 * MIB
