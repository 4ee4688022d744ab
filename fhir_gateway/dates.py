"""Date search values in a form that HAPI answers rightly.

Measured on HAPI 8.8: `ge2024` and `ge2024-01` lose resources inside the period. A bound that
names a whole day is right, so a year or month is replaced by the day that bounds it.
"""

from __future__ import annotations

import re
from calendar import monthrange

_PARTIAL = re.compile(r"(gt|lt|ge|le|sa|eb)(\d{4})(?:-(\d{2}))?\Z", re.ASCII)
_FIRST_DAY = frozenset({"ge", "lt", "eb"})  # compare with the beginning of the period


def whole_days(value: str) -> str:
    """The search value (comma-separated alternatives) with every partial bound as a full day.

    `ge` and `lt`, `eb` mean the first day of the period, `gt`, `le`, `sa` the last one. Values
    without such a prefix, and full dates, stay as they are.
    """
    return ",".join(_whole_day(one) for one in value.split(","))


def _whole_day(value: str) -> str:
    match = _PARTIAL.match(value)
    if match is None:
        return value
    prefix, year, month = match[1], int(match[2]), match[3]
    if year == 0 or (month is not None and not 1 <= int(month) <= 12):
        return value  # no such period: HAPI refuses it with its own words
    if prefix in _FIRST_DAY:
        return f"{prefix}{match[2]}-{month or '01'}-01"
    last_month = int(month) if month else 12
    return f"{prefix}{match[2]}-{last_month:02d}-{monthrange(year, last_month)[1]:02d}"
