"""Overlay planes (PS3.3 C.9.2): graphics of a bit a pixel in groups 6000 to 601E, drawn white."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from pixels.decode import DAMAGE

_DATA, _ROWS, _COLUMNS, _ORIGIN, _FIRST, _FRAMES = 0x3000, 0x0010, 0x0011, 0x0050, 0x0051, 0x0015


def draw_planes(header: Dataset, shown: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """The image with its overlay planes of frame `number`; a damaged plane is left out."""
    for group in range(0x6000, 0x6020, 2):
        if (group, _DATA) not in header:
            continue
        try:
            shown = _drawn(header, group, shown, number)
        except DAMAGE:
            continue
    return shown


def _drawn(header: Dataset, group: int, shown: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    rows, columns = int(header[group, _ROWS].value), int(header[group, _COLUMNS].value)
    top, left = (int(v) - 1 for v in header[group, _ORIGIN].value)
    frames = int(header[group, _FRAMES].value) if (group, _FRAMES) in header else 1
    first = int(header[group, _FIRST].value) if (group, _FIRST) in header else 1
    index = number - first if frames > 1 else 0
    if not 0 <= index < frames or rows < 1 or columns < 1:
        return shown
    data = np.frombuffer(header[group, _DATA].value, np.uint8)
    begin = index * rows * columns
    bits = np.unpackbits(data[begin // 8 : (begin + rows * columns) // 8 + 1], bitorder="little")
    plane = bits[begin % 8 :][: rows * columns].reshape(rows, columns).astype(bool)
    y, x = max(top, 0), max(left, 0)
    visible = plane[y - top : shown.shape[0] - top, x - left : shown.shape[1] - left]
    result = shown.copy()
    result[y : y + visible.shape[0], x : x + visible.shape[1]][visible] = 255
    return result
