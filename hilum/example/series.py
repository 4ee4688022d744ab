"""Write a packaged synthetic case as a DICOM MR study: T1, T1 with contrast, T2 and FLAIR.

The voxels are synthetic (see cases/NOTICE); no patient exists. Everything a receiver sorts, shows
or chooses series by is there, as a scanner would write it.
"""

# SimpleITK carries no annotations:
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import NAMESPACE_OID, uuid4, uuid5

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

CASES = Path(__file__).resolve().parent / "cases"
DEMO_CASE = "synth-ring"
FIXED_TIME = datetime(2026, 1, 15, 9, 30, tzinfo=UTC)


class UnknownCase(LookupError):
    """No packaged case has this name."""

    def __init__(self, case: str) -> None:
        super().__init__(f"no case {case}; there are {', '.join(case_names())}")


@dataclass(frozen=True, slots=True)
class SyntheticPatient:
    """Identity written into the headers; made up, with its own issuer."""

    identifier: str = "SYN-0001"
    name: str = "Synthetic^Ring"
    birth_date: str = "19700101"
    sex: str = "O"
    issuer: str = "HILUM-SYNTHETIC"
    issuer_uri: str = "https://hilum.dev/fhir/sid/synthetic-patient"


@dataclass(frozen=True, slots=True)
class Sequence:
    """One MR sequence: how its series is named and parametrised.

    Times are in ms; `delay_s` is the start of the acquisition after the start of the study.
    """

    file: str
    number: int
    description: str
    attributes: Mapping[str, Any]
    delay_s: int


def _attributes(**values: Any) -> Mapping[str, Any]:
    return MappingProxyType(values)


_GRADIENT_ECHO: dict[str, Any] = {
    "ScanningSequence": ["GR", "IR"],
    "SequenceVariant": ["SP", "MP"],
    "ScanOptions": "PFP",
    "SequenceName": "*tfl3d1",
    "RepetitionTime": 2000.0,
    "EchoTime": 2.9,
    "InversionTime": 900.0,
    "EchoTrainLength": 1,
    "FlipAngle": 9.0,
}
_SPIN_ECHO: dict[str, Any] = {
    "ScanningSequence": "SE",
    "SequenceVariant": ["SK", "SP"],
    "ScanOptions": "PFP",
    "SequenceName": "*spc_200ns",
    "RepetitionTime": 3200.0,
    "EchoTime": 408.0,
    "EchoTrainLength": 258,
    "FlipAngle": 120.0,
}
SEQUENCES = (
    Sequence("t1", 2, "T1 MPRAGE ax", _attributes(**_GRADIENT_ECHO), 60),
    Sequence("t2", 3, "T2 SPACE ax", _attributes(**_SPIN_ECHO), 420),
    Sequence(
        "flair",
        4,
        "T2 FLAIR SPACE ax",
        _attributes(
            **_SPIN_ECHO
            | {
                "ScanningSequence": ["SE", "IR"],
                "ScanOptions": ["PFP"],
                "SequenceName": "*spcir_278ns",
                "RepetitionTime": 5000.0,
                "EchoTime": 386.0,
                "InversionTime": 1650.0,
            }
        ),
        780,
    ),
    Sequence(
        "t1c",
        5,
        "T1 MPRAGE ax +C",
        _attributes(
            **_GRADIENT_ECHO
            | {
                "ContrastBolusAgent": "Gadobutrol (synthetic)",
                "ContrastBolusRoute": "Intravenous",
                "ContrastBolusVolume": 7.5,
            }
        ),
        1500,
    ),
)


@dataclass(frozen=True, slots=True)
class StudyHeader:
    """What every instance of one study shares. All other UIDs are derived from `study_uid`."""

    study_uid: str
    at: datetime
    patient: SyntheticPatient
    description: str = "MR brain with and without contrast"

    def derived_uid(self, *names: object) -> str:
        """A UID that is the same whenever the same part of the same study is named."""
        return f"2.25.{uuid5(NAMESPACE_OID, '/'.join([self.study_uid, *map(str, names)])).int}"

    @property
    def accession(self) -> str:
        """Accession number: 12 characters, derived from the study UID."""
        return "A" + uuid5(NAMESPACE_OID, self.study_uid).hex[:11].upper()


def case_names() -> list[str]:
    """The packaged cases, the demo case first."""
    return [case["id"] for case in json.loads((CASES / "cases.json").read_text())["cases"]]


def write_study(
    case: str,
    folder: Path,
    *,
    patient: SyntheticPatient | None = None,
    study_uid: str | None = None,
    at: datetime | None = None,
) -> list[Path]:
    """Write a case as DICOM files, one folder per series.

    Args:
        case: name of a packaged case, see `case_names`.
        folder: where the series folders are made; created if missing.
        patient: identity for the headers; a synthetic one by default.
        study_uid: Study Instance UID. A given one makes the whole study deterministic: the same
            call writes the same bytes. Left out, the study is a new one, taken now.
        at: start of the study, aware; overrides the time that follows from `study_uid`.

    Returns:
        The files, in the order of series number and slice position.

    Raises:
        UnknownCase: no such case.
    """
    if at is None:
        at = FIXED_TIME if study_uid else datetime.now(UTC).replace(microsecond=0)
    header = StudyHeader(study_uid or f"2.25.{uuid4().int}", at, patient or SyntheticPatient())
    images = {sequence.file: load_image(case, sequence.file) for sequence in SEQUENCES}
    return [
        path
        for sequence in SEQUENCES
        for path in write_series(images[sequence.file], sequence, header, folder)
    ]


def load_image(case: str, file: str) -> sitk.Image:
    """A volume of a case in patient coordinates (LPS, mm), axial, first slice lowest.

    Raises:
        UnknownCase: no such case.
    """
    path = CASES / case / f"{case}_{file}.nii.gz"
    if not path.is_file():
        raise UnknownCase(case)
    image: sitk.Image = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
    return image


def truth(case: str) -> NDArray[np.uint8]:
    """Ground truth labels (slices, rows, columns) on the grid of the written series.

    1 necrotic or non-enhancing core, 2 oedema, 3 enhancing tumour.

    Raises:
        UnknownCase: no such case.
    """
    labels: NDArray[np.uint8] = sitk.GetArrayFromImage(load_image(case, "seg")).astype(np.uint8)
    return labels


def write_series(
    image: sitk.Image, sequence: Sequence, header: StudyHeader, folder: Path
) -> list[Path]:
    """Write one volume as a series of single-frame MR images.

    Args:
        image: integer voxels from 0 to 4095; LPS geometry, any direction.
        sequence: description and acquisition parameters.
        header: what the study's instances share.
        folder: parent of the series folder.

    Returns:
        The files, along the normal of the slices.
    """
    voxels = sitk.GetArrayFromImage(image).astype("<u2")
    common = _series_dataset(image, sequence, header)
    target = folder / f"{sequence.number:02d}-{sequence.file}"
    target.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, plane in enumerate(voxels):
        position = image.TransformIndexToPhysicalPoint((0, 0, index))
        path = target / f"{index + 1:04d}.dcm"
        _write_slice(common, plane, index, position, header, path)
        paths.append(path)
    return paths


def _series_dataset(image: sitk.Image, sequence: Sequence, header: StudyHeader) -> Dataset:
    dataset = Dataset()
    _describe_study(dataset, header)
    _describe_scanner(dataset)
    _describe_grid(dataset, image, header)
    taken = header.at + timedelta(seconds=sequence.delay_s)
    dataset.update(
        _dataset(
            SOPClassUID=MRImageStorage,
            Modality="MR",
            SeriesInstanceUID=header.derived_uid(sequence.number),
            SeriesNumber=sequence.number,
            SeriesDescription=sequence.description,
            ProtocolName=sequence.description,
            SeriesDate=_date(taken),
            SeriesTime=_time(taken),
            AcquisitionDate=_date(taken),
            AcquisitionTime=_time(taken),
            ContentDate=_date(taken),
            ContentTime=_time(taken),
            AcquisitionNumber=1,
            BodyPartExamined="BRAIN",
            PatientPosition="HFS",
            ImageType=["ORIGINAL", "PRIMARY", "OTHER"],
            **sequence.attributes,
        )
    )
    return dataset


def _describe_scanner(dataset: Dataset) -> None:
    dataset.update(
        _dataset(
            Manufacturer="Hilum synthetic",
            ManufacturerModelName="Generator",
            SoftwareVersions="1",
            DeviceSerialNumber="0",
            StationName="SYNTH",
            InstitutionName="Hilum demonstration site",
            MagneticFieldStrength=3.0,
            ImagingFrequency=123.2,
            MRAcquisitionType="3D",
            NumberOfAverages=1.0,
            PixelBandwidth=240.0,
        )
    )


def _describe_grid(dataset: Dataset, image: sitk.Image, header: StudyHeader) -> None:
    columns, rows, _slices = image.GetSize()
    x_mm, y_mm, z_mm = image.GetSpacing()
    direction = np.asarray(image.GetDirection()).reshape(3, 3)
    dataset.update(
        _dataset(
            FrameOfReferenceUID=header.derived_uid("frame of reference"),
            PositionReferenceIndicator="",
            ImageOrientationPatient=[_number(v) for v in (*direction[:, 0], *direction[:, 1])],
            PixelSpacing=[_number(y_mm), _number(x_mm)],
            SliceThickness=_number(z_mm),
            SpacingBetweenSlices=_number(z_mm),
            SamplesPerPixel=1,
            PhotometricInterpretation="MONOCHROME2",
            Rows=rows,
            Columns=columns,
            BitsAllocated=16,
            BitsStored=12,
            HighBit=11,
            PixelRepresentation=0,
        )
    )


def _describe_study(dataset: Dataset, header: StudyHeader) -> None:
    patient = header.patient
    qualifier = _dataset(UniversalEntityID=patient.issuer_uri, UniversalEntityIDType="URI")
    dataset.update(
        _dataset(
            SpecificCharacterSet="ISO_IR 192",
            TimezoneOffsetFromUTC=header.at.strftime("%z"),
            StudyInstanceUID=header.study_uid,
            StudyID="1",
            StudyDate=_date(header.at),
            StudyTime=_time(header.at),
            StudyDescription=header.description,
            AccessionNumber=header.accession,
            ReferringPhysicianName="Referrer^Synthetic",
            PatientName=patient.name,
            PatientID=patient.identifier,
            IssuerOfPatientID=patient.issuer,
            IssuerOfPatientIDQualifiersSequence=[qualifier],
            PatientBirthDate=patient.birth_date,
            PatientSex=patient.sex,
            PatientWeight=75.0,
        )
    )


def _write_slice(
    common: Dataset,
    plane: NDArray[np.uint16],
    index: int,
    position: tuple[float, float, float],
    header: StudyHeader,
    path: Path,
) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = Dataset(common)
    dataset.file_meta = meta
    dataset.SOPInstanceUID = header.derived_uid(common.SeriesNumber, index)
    dataset.InstanceNumber = index + 1
    dataset.ImagePositionPatient = [_number(v) for v in position]
    dataset.WindowCenter = 400
    dataset.WindowWidth = 800
    dataset.PixelData = plane.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path, enforce_file_format=True)


def _dataset(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def _date(at: datetime) -> str:
    return at.strftime("%Y%m%d")


def _time(at: datetime) -> str:
    return at.strftime("%H%M%S")


def _number(value: float) -> str:
    """A DS value of at most 16 characters; -0 is written as 0."""
    return f"{value + 0.0:.9g}"
