"""Compare a segmentation with a ground truth."""

from __future__ import annotations

import numpy as np

from inference.errors import GeometryError
from inference.measure import Labels, Mask, Region, region_mask


def dice(one: Mask, other: Mask) -> float:
    """Dice coefficient of two masks, from 0 to 1; 1 when both are empty.

    Raises:
        GeometryError: the masks have different shapes.
    """
    if one.shape != other.shape:
        raise GeometryError(f"masks of shape {one.shape} and {other.shape} cannot be compared")
    total = int(one.sum()) + int(other.sum())
    return 2 * int(np.logical_and(one, other).sum()) / total if total else 1.0


def dice_by_region(labels: Labels, truth: Labels) -> dict[Region, float]:
    """Dice of each region of two label maps on the same grid."""
    return {
        region: dice(region_mask(labels, region), region_mask(truth, region)) for region in Region
    }
