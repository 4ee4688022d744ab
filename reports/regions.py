"""The regions of a brain lesion as reports names and draws them, and the codes it reads.

inference writes these codes and colours; a test keeps both sides equal, as workers do not import
each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from records import codes


class Region(StrEnum):
    """Regions, by their code in our brain-lesion code system; in the order of a report."""

    WHOLE = "WT"
    CORE = "TC"
    ENHANCING = "ET"
    NECROTIC = "NCR"
    OEDEMA = "ED"


class Kind(StrEnum):
    """What a figure is a measurement of."""

    VOLUME = "volume"
    LONG_AXIS = "longest diameter"
    SHORT_AXIS = "perpendicular diameter"
    PARTS = "parts"
    ENHANCEMENT = "enhancement ratio"


@dataclass(frozen=True, slots=True)
class RegionTerms:
    """Name of a region in texts; colour (sRGB) in key images, None where it is not drawn."""

    name: str
    colour: tuple[int, int, int] | None = None


REGIONS: dict[Region, RegionTerms] = {
    Region.WHOLE: RegionTerms("Whole tumour"),
    Region.CORE: RegionTerms("Tumour core"),
    Region.ENHANCING: RegionTerms("Enhancing tumour", (235, 94, 40)),
    Region.NECROTIC: RegionTerms("Necrotic or non-enhancing core", (66, 133, 244)),
    Region.OEDEMA: RegionTerms("Oedema", (80, 200, 120)),
}
UNIONS = (Region.WHOLE, Region.CORE)

KIND_OF_CODE: dict[tuple[str, str], Kind] = {
    (code.system, code.code): kind
    for kind, known in {
        Kind.LONG_AXIS: (codes.LONG_AXIS, codes.LONGEST_DIAMETER),
        Kind.SHORT_AXIS: (codes.PERPENDICULAR_AXIS, codes.SHORT_AXIS, codes.ADDITIONAL_DIAMETER),
        Kind.PARTS: (codes.COMPONENTS,),
        Kind.ENHANCEMENT: (codes.ENHANCEMENT_RATIO,),
        Kind.VOLUME: (codes.VOLUME, codes.VOLUME_FROM_REGIONS),
    }.items()
    for code in known
}
UNITS: dict[Kind, tuple[str, ...]] = {
    Kind.VOLUME: ("mL", "cm3"),  # one and the same size
    Kind.LONG_AXIS: ("mm",),
    Kind.SHORT_AXIS: ("mm",),
    Kind.PARTS: ("1", "{count}"),
    Kind.ENHANCEMENT: ("{ratio}", "1"),
}
