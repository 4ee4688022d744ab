"""Coded terms of a brain lesion result in DICOM; in FHIR the same codes come from `records.codes`.

Sources: DICOM PS3.16 CID 7168 (lesion types), CID 7469/7472 (measurements), CID 7162. Whole tumour
and tumour core have no code in these sets: they are named by our own code, beside the general
SNOMED CT term.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.sr.coding import Code

from inference.measure import Region
from records import codes

LOCAL_SCHEME = "99HILUM"
BRAIN = Code("12738006", "SCT", "Brain")
MORPHOLOGICALLY_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
NEOPLASM = Code("108369006", "SCT", "Neoplasm")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
VOLUME = Code("118565006", "SCT", "Volume")
LONG_AXIS = Code("103339001", "SCT", "Long axis")
PERPENDICULAR_AXIS = Code("131189007", "SCT", "Perpendicular Axis")
ENHANCEMENT_RATIO = Code("enhancement-ratio", LOCAL_SCHEME, "T1 signal after/before contrast")
COMPONENTS = Code("components", LOCAL_SCHEME, "Number of connected components")
MILLILITRE = Code("mL", "UCUM", "mL")
MILLIMETRE = Code("mm", "UCUM", "mm")
RATIO = Code("{ratio}", "UCUM", "ratio")
ONE = Code("1", "UCUM", "no units")
MR_OF_HEAD = Code("24590-2", "LN", "MR Brain WO and W contrast IV")


@dataclass(frozen=True, slots=True)
class RegionTerms:
    """How one region is named and drawn.

    Attributes:
        name: for texts.
        finding: the coded finding (CID 7168 for the three segments).
        local: our own code for exactly this region, as FHIR has it.
        colour: sRGB, for overlays and as the segment's recommended colour.
        segment: segment number in our SEG; None for a union of segments.
    """

    name: str
    finding: Code
    local: codes.Code
    colour: tuple[int, int, int]
    segment: int | None


def _local(region: Region, meaning: str) -> codes.Code:
    return codes.Code(codes.BRAIN_LESION, region.value, meaning)


# The model does not tell necrosis from other non-enhancing core, so the term for both is taken.
REGIONS = {
    Region.NCR: RegionTerms(
        "Necrotic or non-enhancing core",
        Code("C81175", "NCIt", "Non-Enhancing Lesion"),
        _local(Region.NCR, "Necrotic or non-enhancing tumour core"),
        (66, 133, 244),
        1,
    ),
    Region.ED: RegionTerms(
        "Oedema",
        Code("79654002", "SCT", "Edema"),
        _local(Region.ED, "Peritumoural oedema or infiltration"),
        (80, 200, 120),
        2,
    ),
    Region.ET: RegionTerms(
        "Enhancing tumour",
        Code("C113842", "NCIt", "Enhancing Lesion"),
        _local(Region.ET, "Enhancing tumour"),
        (235, 94, 40),
        3,
    ),
    Region.TC: RegionTerms("Tumour core", NEOPLASM, codes.TUMOUR_CORE, (255, 196, 0), None),
    Region.WT: RegionTerms("Whole tumour", NEOPLASM, codes.WHOLE_TUMOUR, (200, 120, 220), None),
}
SEGMENTED = tuple(region for region, terms in REGIONS.items() if terms.segment is not None)
