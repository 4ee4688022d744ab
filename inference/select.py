"""Choose T1, T1 with contrast, T2 and FLAIR among the series of a study."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydicom import Dataset
from pydicom.uid import EnhancedMRImageStorage, MRImageStorage

from inference.errors import NoModelApplies

MINIMUM_SLICES = 10
READABLE = frozenset({MRImageStorage, EnhancedMRImageStorage})


class Sequence(StrEnum):
    """The four inputs of the model, in the order of its channels."""

    T1 = "T1"
    T1C = "T1c"
    T2 = "T2"
    FLAIR = "FLAIR"


# Better ground for the result first: enhancement and oedema are read on these.
REFERENCE_ORDER = (Sequence.T1C, Sequence.FLAIR, Sequence.T2, Sequence.T1)


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """What the choice is made from; read from one instance of the series.

    Times in ms; None where the header has none.
    """

    uid: str
    slices: int
    modality: str = "MR"
    sop_class: str = MRImageStorage
    number: int = 0
    text: str = ""  # description, protocol and sequence names
    image_type: tuple[str, ...] = ()
    scanning: frozenset[str] = frozenset()
    contrast: bool = False
    echo_ms: float | None = None
    repetition_ms: float | None = None
    inversion_ms: float | None = None
    diffusion: bool = False
    in_plane_mm: float = 1.0
    body_part: str = ""


# Words that name what the model must not be given, in the habits of several vendors and languages.
_UNWANTED = re.compile(
    r"(?<![a-z])(locali[sz]er|localisateur|localizador|scout|survey|topogram|planning|"
    r"dwi|dti|adc|trace\w*|tracew|diff\w*|ep2d|ivim|isodwi|b\d{3,4}|"
    r"swi|swan|venobold|t2\*|t2star|t2_?gre|hemo|"
    r"perf\w*|dsc|dce|asl|pcasl|cbf|cbv|mtt|ttp|rcbv|bold|fmri|"
    r"mra|tof|mip|mrv|angio\w*|phase|pc3d|"
    r"spectro\w*|mrs|fieldmap|b0map|sub|subtract\w*|difference|"
    r"screen ?save|report|dose)(?![a-z])"
)
_HEAD = re.compile(r"BRAIN|HEAD|SKULL|NEURO|CEREB|ENCEPH|KOPF|TETE|CRAN")
_FLAIR = re.compile(
    r"flair|tirm|dark.?fluid|dunkel|spcir|(?<![a-z])(ir.?fse|t2.?ir|flr)(?![a-z])|liq\w*.?noir"
)
_T1 = re.compile(
    r"t1|mp.?rage|mp2rage|bravo|(?<![a-z])(fspgr|spgr|tfl\w*|vibe|3d.?tfe|thrive|lava|tfl3d\d?)"
)
_T2 = re.compile(r"t2|(?<![a-z])(cube.?t2|drive|ciss|fiesta|vista.?t2)")
_CONTRAST = re.compile(
    r"(?<![a-z])(post|gd|gad\w*|gado\w*|c\+|ce|km|mit km|contrast\w*|kontrast\w*|contraste|"
    r"avec inj\w*|inj\w*|iv|mdc|con mdc|t1c|t1ce|dotarem|gadovist)(?![a-z])|\+ ?c(?![a-z])|\+ ?gd"
    r"|\+ ?km|t1.?(ce|gd|km)(?![a-z])"
)
_WITHOUT_CONTRAST = re.compile(
    r"(?<![a-z])(pre|nativ\w*|sans|ohne|without|non.?contrast|no.?contrast|w/o|sin|senza|plain)"
    r"(?![a-z])"
)


def facts_of(one: Dataset, slices: int) -> SeriesFacts:
    """Read the facts of one series from one of its instances.

    Args:
        one: its header; one from the middle, for the ends are the least typical.
        slices: number of images, or of frames, in the series.
    """
    words = (one.get(name) for name in ("SeriesDescription", "ProtocolName", "SequenceName"))
    spacing = one.get("PixelSpacing") or [1.0, 1.0]
    timing = _frame_group(one, "MRTimingAndRelatedParametersSequence")
    return SeriesFacts(
        uid=str(one.SeriesInstanceUID),
        slices=slices,
        modality=str(one.get("Modality", "")),
        sop_class=str(one.get("SOPClassUID", "")),
        number=int(one.get("SeriesNumber") or 0),
        text=" | ".join(str(word) for word in words if word).lower(),
        image_type=tuple(str(value).upper() for value in _values(one, "ImageType")),
        scanning=frozenset(str(value).upper() for value in _values(one, "ScanningSequence")),
        contrast=bool(one.get("ContrastBolusAgent") or one.get("ContrastBolusAgentSequence")),
        echo_ms=_number(one, "EchoTime")
        or _number(_frame_group(one, "MREchoSequence"), "EffectiveEchoTime"),
        repetition_ms=_number(one, "RepetitionTime") or _number(timing, "RepetitionTime"),
        inversion_ms=_number(one, "InversionTime"),
        diffusion="DiffusionBValue" in one or "MRDiffusionSequence" in one,
        in_plane_mm=float(spacing[0]),
        body_part=str(one.get("BodyPartExamined") or "").upper(),
    )


def is_usable(series: SeriesFacts) -> bool:
    """Whether the series is an acquired MR image stack of a kind that the model may be given."""
    return (
        series.modality == "MR"
        and series.sop_class in READABLE
        and series.slices >= MINIMUM_SLICES
        and "LOCALIZER" not in series.image_type
        and "SECONDARY" not in series.image_type
        and series.image_type[:1] != ("DERIVED",)
        and "MPR" not in series.image_type
        and "SUBTRACTION" not in series.image_type
        and not series.diffusion
        and (not series.body_part or bool(_HEAD.search(series.body_part)))
        and not _UNWANTED.search(_separated(series.text))
    )


def sequence_of(series: SeriesFacts) -> Sequence | None:
    """Name the sequence of a usable series, by its words first and its timing second."""
    if not is_usable(series):
        return None
    text = _separated(series.text)
    kind = _by_words(text) or _by_timing(series)
    if kind is Sequence.T1 and _has_contrast(series, text):
        return Sequence.T1C
    return kind


def choose(series: Iterable[SeriesFacts]) -> dict[Sequence, SeriesFacts]:
    """Choose at most one series per sequence.

    Among several of one kind the one with more slices is taken, then the finer, then the later
    (a repeat is made because the first was poor).

    Raises:
        NoModelApplies: none of the four is there.
    """
    chosen: dict[Sequence, SeriesFacts] = {}
    for candidate in series:
        kind = sequence_of(candidate)
        if kind and (kind not in chosen or _rank(candidate) > _rank(chosen[kind])):
            chosen[kind] = candidate
    if not chosen:
        raise NoModelApplies("no T1, T2 or FLAIR series of the brain in this study")
    return {kind: chosen[kind] for kind in Sequence if kind in chosen}


def reference(chosen: Mapping[Sequence, SeriesFacts]) -> Sequence:
    """The sequence on whose grid the result is drawn."""
    return next(kind for kind in REFERENCE_ORDER if kind in chosen)


def _rank(series: SeriesFacts) -> tuple[int, float, int]:
    return series.slices, -series.in_plane_mm, series.number


def _by_words(text: str) -> Sequence | None:
    if _FLAIR.search(text) and not re.search(r"t1.{0,6}(flair|tirm)", text):
        return Sequence.FLAIR
    if _T1.search(text):
        return Sequence.T1
    if _T2.search(text):
        return Sequence.T2
    return None


def _by_timing(series: SeriesFacts) -> Sequence | None:
    echo, repetition = series.echo_ms, series.repetition_ms
    if echo is None or repetition is None:
        return None
    if echo >= 70 and repetition >= 2000:
        inverted = series.inversion_ms is not None and series.inversion_ms >= 1400
        return Sequence.FLAIR if inverted else Sequence.T2
    gradient_echo = "GR" in series.scanning
    if echo <= 30 and (repetition <= 1000 or (gradient_echo and repetition <= 3000)):
        return Sequence.T1
    return None


def _has_contrast(series: SeriesFacts, text: str) -> bool:
    # The description is typed for the series; the agent is often set for all that follow, or none.
    if _WITHOUT_CONTRAST.search(text) and not re.search(r"post", text):
        return False
    return series.contrast or bool(_CONTRAST.search(text))


def _separated(text: str) -> str:
    without = re.sub(r"(?<![a-z0-9])-c(?![a-z])|w/o", " without ", text.lower())
    return re.sub(r"[_\-.,;:/\\()\[\]]+", " ", without)


def _frame_group(instance: Dataset, keyword: str) -> Dataset:
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in instance.get(groups) or []:
            if group.get(keyword):
                found: Dataset = group[keyword].value[0]
                return found
    return Dataset()


def _values(instance: Dataset, keyword: str) -> list[str]:
    value = instance.get(keyword)
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) else list(value)


def _number(instance: Dataset, keyword: str) -> float | None:
    value = instance.get(keyword)
    return None if value in (None, "") else float(value)
