"""The structure that every rendition shares: what stands where, in which words.

PDF and DOCX draw the same Document, so the same figure reads the same in both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from reports.figures import Figure
from reports.findings import Findings, KeyImage, PersonName, StudyFacts
from reports.narrative import Sentence, findings_text, impression_text
from reports.regions import REGIONS, Kind, Region

TEMPLATE_VERSION = "2"  # part of the input of a rendition: a new one renders every draft anew
BANNER = "AI draft, not reviewed, not for clinical use"
LANGUAGE = "en"
NOT_RECORDED = "not recorded"
NO_VALUE = "–"
SCALE_NOTE = (
    "Volumes by counting voxels. Diameters in the axial slice where the region is widest; the "
    "perpendicular is the longest chord at right angles. Parts are connected in 3D. "
    "Enhancement is mean T1 signal after contrast divided by that before."
)
COLUMNS = (
    ("Region", Kind.VOLUME, ""),
    ("Volume", Kind.VOLUME, "mL"),
    ("Longest", Kind.LONG_AXIS, "mm"),
    ("Perpendicular", Kind.SHORT_AXIS, "mm"),
    ("Parts", Kind.PARTS, ""),
    ("Enhancement", Kind.ENHANCEMENT, "ratio"),
)
SERIES_COLUMNS = ("Series", "Modality", "Description", "Images", "Used as")
_SEX = {"female": "Female", "male": "Male", "other": "Other", "unknown": "Unknown"}


@dataclass(frozen=True, slots=True)
class Row:
    """One region of the measurement table; cells are written figures, in the column order."""

    region: Region
    name: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """The colour of a region in the key images."""

    name: str
    colour: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Document:
    """A report, ready to be drawn.

    Attributes:
        institution: whose letterhead it is.
        patient, study, model: label and value, in order.
        series: a row of cells for each acquired series, as SERIES_COLUMNS names them.
        cautions: printed first, in the banner's colour.
        issued: the only date a rendition may carry.
    """

    title: str
    institution: str
    identifier: str
    issued: datetime
    patient: tuple[tuple[str, str], ...]
    study: tuple[tuple[str, str], ...]
    technique: str
    series: tuple[tuple[str, ...], ...]
    impression: tuple[Sentence, ...]
    findings: tuple[Sentence, ...]
    rows: tuple[Row, ...]
    images: tuple[KeyImage, ...]
    legend: tuple[LegendEntry, ...]
    model: tuple[tuple[str, str], ...]
    omissions: tuple[str, ...]
    cautions: tuple[str, ...]
    footer: str
    banner: str = BANNER
    language: str = LANGUAGE
    columns: tuple[tuple[str, str], ...] = field(
        default=tuple((name, unit) for name, _, unit in COLUMNS)
    )


def document(findings: Findings, institution: str) -> Document:
    """Lay out the findings under the letterhead of an institution."""
    return Document(
        title=findings.title,
        institution=institution,
        identifier=findings.identifier,
        issued=findings.issued,
        patient=_patient(findings),
        study=_study(findings),
        technique=_technique(findings),
        series=tuple(_series(findings.study)),
        impression=tuple(impression_text(findings)),
        findings=tuple(findings_text(findings)),
        rows=tuple(
            Row(r.region, r.name, tuple(_cell(r.figure(kind)) for _, kind, _ in COLUMNS[1:]))
            for r in findings.regions
        ),
        images=findings.images,
        legend=tuple(_legend(findings)) if findings.images and findings.lesion else (),
        model=_model(findings),
        omissions=tuple(f"{o.name}: {o.reason}" for o in findings.omissions),
        cautions=findings.cautions,
        footer=f"Report {findings.identifier[:12]} · {written_time(findings.issued)} · "
        f"{findings.model.name} {findings.model.version}",
    )


def written_names(names: Iterable[PersonName]) -> str:
    """All representations of a name, as they stand in the record."""
    written = [_written_name(name) for name in names]
    return " / ".join(dict.fromkeys(name for name in written if name)) or NOT_RECORDED


def _written_name(name: PersonName) -> str:
    given = " ".join((*name.given, name.suffix)).strip()
    if not name.family and not given:
        return name.text
    family = f"{name.prefix} {name.family}".strip()
    if not given:
        return family
    # Ideographic names are written without a comma between family and given name.
    joint = " " if name.representation == "IDE" else ", "
    return f"{family}{joint}{given}" if family else given


def written_time(moment: datetime | date | None) -> str:
    """A date, or a time with its own offset; the reader's time zone plays no part."""
    if moment is None:
        return NOT_RECORDED
    if not isinstance(moment, datetime):
        return moment.isoformat()
    zone = moment.utcoffset()
    named = " UTC" if zone == timedelta(0) else ""
    if zone:
        named = f" UTC{moment.strftime('%z')[:3]}:{moment.strftime('%z')[3:5]}"
    return f"{moment:%Y-%m-%d %H:%M}{named}"


def _patient(findings: Findings) -> tuple[tuple[str, str], ...]:
    patient = findings.patient
    return (
        ("Name", written_names(patient.names)),
        ("Patient ID", patient.identifier or NOT_RECORDED),
        ("Born", patient.birth_date or NOT_RECORDED),
        ("Sex", _SEX.get(patient.sex, patient.sex) or NOT_RECORDED),
    )


def _study(findings: Findings) -> tuple[tuple[str, str], ...]:
    study = findings.study
    rows = [
        ("Examination", study.description or NOT_RECORDED),
        ("Performed", written_time(study.started)),
        ("Accession", study.accession or NOT_RECORDED),
        ("Reported", written_time(findings.issued)),
    ]
    return (*rows, ("Referrer", study.referrer)) if study.referrer else tuple(rows)


def _technique(findings: Findings) -> str:
    modalities = sorted({s.modality for s in findings.study.series})
    return (
        f"Automated segmentation and measurement by {findings.model.name} "
        f"{findings.model.version} on the acquired {', '.join(modalities) or 'image'} series:"
    )


def _series(study: StudyFacts) -> Iterable[tuple[str, ...]]:
    for series in study.series:
        number = "" if series.number is None else str(series.number)
        description, used_as = series.description or NO_VALUE, series.used_as or NO_VALUE
        yield number, series.modality, description, str(series.instances), used_as


def _cell(figure: Figure | None) -> str:
    return NO_VALUE if figure is None else figure.number


def _legend(findings: Findings) -> Iterable[LegendEntry]:
    for region in findings.regions:
        colour = REGIONS[region.region].colour
        if region.present and colour is not None:
            yield LegendEntry(region.name, colour)


def _model(findings: Findings) -> tuple[tuple[str, str], ...]:
    rows = [
        ("Model", f"{findings.model.name}, version {findings.model.version}"),
        ("Model file", f"SHA-256 {findings.model.digest}" if findings.model.digest else ""),
        ("Run", findings.identifier),
        ("Study UID", findings.study.uid),
        ("Responsible", findings.performer),
        ("Status", "Preliminary. No person has reviewed this report."),
    ]
    return tuple((label, value) for label, value in rows if value)


def issued_utc(issued: datetime) -> datetime:
    """The report's own date in UTC, for metadata that takes no offset."""
    return issued.astimezone(UTC)
