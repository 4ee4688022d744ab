"""Single lesions of a segmentation: each connected part, measured by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.measure import (
    ANY_NEIGHBOUR,
    FloatImage,
    Labels,
    Measurement,
    Region,
    measure_region,
    region_mask,
)
from inference.volume import Volume

MOST = 10  # the largest; what is beyond is in the totals only


@dataclass(frozen=True, slots=True)
class Lesion:
    """One connected part of the whole tumour.

    Attributes:
        number: from 1, the largest first.
        whole: of all of it.
        enhancing: of its enhancing part; volume 0 where it has none.
    """

    number: int
    whole: Measurement
    enhancing: Measurement


def lesions_of(
    labels: Labels, grid: Volume, t1: FloatImage | None, t1c: FloatImage | None
) -> Sequence[Lesion]:
    """The lesions of a label map, at most `MOST` of them; parameters as for `measure`."""
    whole = region_mask(labels, Region.WT)
    parts, count = ndimage.label(whole, structure=ANY_NEIGHBOUR)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")[:MOST]
    enhancing = region_mask(labels, Region.ET)
    found = []
    for number, index in enumerate(order, 1):
        part = parts == index + 1
        found.append(
            Lesion(
                number,
                measure_region(Region.WT, part, grid, t1, t1c),
                measure_region(Region.ET, part & enhancing, grid, t1, t1c),
            )
        )
    return found


def tracking(lesion: Lesion, count: int) -> str:
    """The name of a lesion's tracking UID within a run: a single lesion is the whole tumour."""
    return f"tracking {Region.WT}" if count == 1 else f"tracking lesion {lesion.number}"
