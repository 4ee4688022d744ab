"""The codes of `records.codes` that a brain lesion result carries, as DICOM writes them.

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
SCHEMES = {
    codes.SCT: "SCT",
    codes.DCM: "DCM",
    codes.NCIT: "NCIt",
    codes.UCUM: "UCUM",
    codes.BRAIN_LESION: LOCAL_SCHEME,
}


def dicom(code: codes.Code) -> Code:
    """A code of `records.codes` as DICOM writes it."""
    return Code(code.code, SCHEMES[code.system], code.display)


BRAIN = dicom(codes.BRAIN)
MORPHOLOGICALLY_ABNORMAL = dicom(codes.MORPHOLOGICALLY_ABNORMAL)
ARTIFICIAL_INTELLIGENCE = dicom(codes.ARTIFICIAL_INTELLIGENCE)
VOLUME = dicom(codes.VOLUME)
LONG_AXIS = dicom(codes.LONG_AXIS)
PERPENDICULAR_AXIS = dicom(codes.PERPENDICULAR_AXIS)
ENHANCEMENT_RATIO = dicom(codes.ENHANCEMENT_RATIO)
COMPONENTS = dicom(codes.COMPONENTS)
MILLILITRE = dicom(codes.MILLILITRE)
MILLIMETRE = dicom(codes.MILLIMETRE)
RATIO = dicom(codes.RATIO)
ONE = Code("1", "UCUM", "no units")  # DICOM's meaning; in FHIR the unit is printed as "1"
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


# The model does not tell necrosis from other non-enhancing core, so the term for both is taken.
REGIONS = {
    Region.NCR: RegionTerms(
        "Necrotic or non-enhancing core",
        dicom(codes.NON_ENHANCING_LESION),
        codes.NECROTIC_CORE,
        (66, 133, 244),
        1,
    ),
    Region.ED: RegionTerms(
        "Oedema",
        dicom(codes.EDEMA),
        codes.OEDEMA,
        (80, 200, 120),
        2,
    ),
    Region.ET: RegionTerms(
        "Enhancing tumour",
        dicom(codes.ENHANCING_LESION),
        codes.ENHANCING_TUMOUR,
        (235, 94, 40),
        3,
    ),
    Region.TC: RegionTerms(
        "Tumour core", dicom(codes.NEOPLASM), codes.TUMOUR_CORE, (255, 196, 0), None
    ),
    Region.WT: RegionTerms(
        "Whole tumour", dicom(codes.NEOPLASM), codes.WHOLE_TUMOUR, (200, 120, 220), None
    ),
}
SEGMENTED = tuple(region for region, terms in REGIONS.items() if terms.segment is not None)
