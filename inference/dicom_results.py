"""Write a result as DICOM: a Segmentation and a TID 1500 measurement report.

Everything follows from the run: UIDs, dates and times, so that a repeated run makes the same
bytes and the archive stores nothing twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import datetime
from io import BytesIO
from typing import Any

import highdicom as hd
import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.sequence import Sequence as DicomSequence
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from inference import terms
from inference.lesions import Lesion, tracking
from inference.measure import LABELS, Labels, Measurement, Region
from inference.models import Model
from inference.runs import Run
from inference.volume import Volume

MANUFACTURER = "Hilum"
PIXEL_DATA = 0x7FE00010
SERIAL_NUMBER = "0"
SEG_SERIES_NUMBER = 9001
SR_SERIES_NUMBER = 9002
PATIENT_EXTRAS = ("IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence")
Group = (
    hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations
    | hd.sr.MeasurementsAndQualitativeEvaluations
)
_PLACES = 6  # decimals of the numbers in the report


def segmentation(labels: Labels, grid: Volume, model: Model, run: Run) -> Dataset:
    """The label map as a BINARY Segmentation of three segments.

    Args:
        labels: on the grid. All zero is a result too: "no lesion found".
        grid: the reference series, with its instances as `sources`.
        model: named in the algorithm identification.
        run: gives UIDs and times.
    """
    sources = headers(grid.sources)
    masks = np.stack([np.isin(labels, LABELS[region]) for region in terms.SEGMENTED], axis=-1)
    if grid.frames:  # highdicom wants the planes in the order of the source's frames
        masks = masks[np.argsort(grid.frames)]
    seg = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=masks.astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(region, model, run) for region in terms.SEGMENTED],
        series_instance_uid=run.uid("SEG series"),
        series_number=SEG_SERIES_NUMBER,
        sop_instance_uid=run.uid("SEG"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=model.name,
        software_versions=model.version,
        device_serial_number=SERIAL_NUMBER,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_description="AI draft, not reviewed",
        content_label="BRAIN_LESION",
        series_description="AI segmentation (draft)",
        omit_empty_frames=bool(labels.any()),
    )
    return settled(seg, sources[0], run)


def report(
    measurements: Mapping[Region, Measurement],
    seg: Dataset,
    grid: Volume,
    model: Model,
    run: Run,
    lesions: Sequence[Lesion] = (),
) -> Dataset:
    """The measurements as a Comprehensive 3D SR on TID 1500, one group per region.

    Where there are several lesions each has a group of its own too; a single one is the whole.
    """
    sources = headers(grid.sources)
    groups = [
        group for region in Region for group in _groups(measurements[region], seg, grid, model, run)
    ]
    if len(lesions) > 1:
        groups += [_lesion_group(lesion, len(lesions), grid, model, run) for lesion in lesions]
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=run.uid("observer"),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=model.name,
        serial_number=SERIAL_NUMBER,
    )
    observer = hd.sr.ObserverContext(
        observer_type=hd.sr.CodedConcept("121007", "DCM", "Device"),
        observer_identifying_attributes=device,
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=terms.MR_OF_HEAD,
        imaging_measurements=groups,
        title=hd.sr.CodedConcept("126000", "DCM", "Imaging Measurement Report"),
    )
    sr = hd.sr.Comprehensive3DSR(
        evidence=[*sources, seg],
        content=content,
        series_instance_uid=run.uid("SR series"),
        series_number=SR_SERIES_NUMBER,
        sop_instance_uid=run.uid("SR"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        is_verified=False,
        series_description="AI measurements (draft)",
    )
    sr.ManufacturerModelName = model.name
    sr.SoftwareVersions = model.version
    sr.DeviceSerialNumber = SERIAL_NUMBER
    return settled(sr, sources[0], run)


def labels_from(seg: Dataset, grid: Volume) -> Labels:
    """Read the label map back from a Segmentation of ours, on the grid it was made on."""
    labels = np.zeros(grid.shape, np.uint8)
    image = hd.seg.Segmentation.from_dataset(seg)
    wanted: dict[str, Any] = {
        "segment_numbers": [1 + index for index in range(len(terms.SEGMENTED))],
        "assert_missing_frames_are_empty": True,
    }
    uids = [str(source.SOPInstanceUID) for source in grid.sources]
    if grid.frames:
        numbers = [frame + 1 for frame in grid.frames]
        masks = image.get_pixels_by_source_frame(uids[0], numbers, **wanted)
    else:
        masks = image.get_pixels_by_source_instance(uids, **wanted)
    for index, region in enumerate(terms.SEGMENTED):
        labels[masks[..., index] > 0] = LABELS[region][0]
    return labels


def encode(dataset: Dataset) -> bytes:
    """The dataset as a DICOM file."""
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def headers(sources: Sequence[Dataset]) -> list[Dataset]:
    """Copies of source instances without pixels, with texts in UTF-8.

    highdicom hands SpecificCharacterSet on and refuses one whose first value is empty, as
    Japanese and Korean equipment writes it.
    """
    copies = []
    for source in sources:
        copy = Dataset()
        # Deep, for elements are shared objects: what is set here must not reach the source.
        copy.update({tag: deepcopy(source[tag]) for tag in source.keys() if tag != PIXEL_DATA})  # noqa: SIM118
        copy.file_meta = source.file_meta
        copy.decode()
        copy.SpecificCharacterSet = "ISO_IR 192"
        copies.append(copy)
    return copies


def _segment(region: Region, model: Model, run: Run) -> hd.seg.SegmentDescription:
    about = terms.REGIONS[region]
    return hd.seg.SegmentDescription(
        segment_number=1 + terms.SEGMENTED.index(region),
        segment_label=about.name,
        segmented_property_category=terms.MORPHOLOGICALLY_ABNORMAL,
        segmented_property_type=about.finding,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=model.name,
            version=model.version,
            family=terms.ARTIFICIAL_INTELLIGENCE,
            source=MANUFACTURER,
            parameters={"sha256": model.digest},
        ),
        tracking_uid=run.uid(f"tracking {region}"),
        tracking_id=region.value,
        anatomic_regions=[terms.BRAIN],
        display_color=hd.color.CIELabColor.from_rgb(*about.colour),
    )


def _groups(
    measured: Measurement, seg: Dataset, grid: Volume, model: Model, run: Run
) -> list[Group]:
    """The measurement groups of a region.

    A segment's volume goes into a group on that segment (TID 1411). Lines have coordinates, which
    that template forbids, so they, and all values of a union of segments, stand in a group of
    their own (TID 1501) under the same tracking identifier.
    """
    about = terms.REGIONS[measured.region]
    name, tracked = measured.region.value, f"tracking {measured.region}"
    common = _about(about.finding, name, run.uid(tracked), model)
    whole, lines = _whole_measurements(measured), _line_measurements(measured, grid)
    if about.segment is None:
        return [hd.sr.MeasurementsAndQualitativeEvaluations(**common, measurements=whole + lines)]
    reference = hd.sr.ReferencedSegment(
        sop_class_uid=seg.SOPClassUID,
        sop_instance_uid=seg.SOPInstanceUID,
        segment_number=about.segment,
        source_series=hd.sr.SourceSeriesForSegmentation(grid.sources[0].SeriesInstanceUID),
    )
    groups: list[Group] = [
        hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=reference, **common, measurements=whole
        )
    ]
    if lines:
        groups.append(hd.sr.MeasurementsAndQualitativeEvaluations(**common, measurements=lines))
    return groups


def _lesion_group(lesion: Lesion, count: int, grid: Volume, model: Model, run: Run) -> Group:
    """One lesion of several (TID 1501): all of it, and how its enhancing part enhances."""
    whole = replace(lesion.whole, enhancement_ratio=lesion.enhancing.enhancement_ratio)
    uid = run.uid(tracking(lesion, count))
    about = _about(terms.REGIONS[Region.WT].finding, f"lesion {lesion.number}", uid, model)
    values = _whole_measurements(whole) + _line_measurements(whole, grid)
    return hd.sr.MeasurementsAndQualitativeEvaluations(**about, measurements=values)


def _about(finding: Code, name: str, tracking_uid: str, model: Model) -> dict[str, Any]:
    """What every group says of its finding."""
    return {
        "tracking_identifier": hd.sr.TrackingIdentifier(uid=tracking_uid, identifier=name),
        "finding_type": finding,
        "finding_sites": [hd.sr.FindingSite(terms.BRAIN)],
        "algorithm_id": hd.sr.AlgorithmIdentification(
            name=model.name,
            version=model.version,
            family=terms.ARTIFICIAL_INTELLIGENCE,
            parameters=[f"sha256={model.digest}"],
        ),
    }


def _whole_measurements(measured: Measurement) -> list[hd.sr.Measurement]:
    found = [
        _number(terms.VOLUME, measured.volume_ml, terms.MILLILITRE),
        _number(terms.COMPONENTS, float(measured.components), terms.ONE),
    ]
    if measured.enhancement_ratio is not None:
        found.append(_number(terms.ENHANCEMENT_RATIO, measured.enhancement_ratio, terms.RATIO))
    return found


def _line_measurements(measured: Measurement, grid: Volume) -> list[hd.sr.Measurement]:
    if measured.diameters is None:
        return []
    axes = (
        (terms.LONG_AXIS, measured.diameters.long_axis),
        (terms.PERPENDICULAR_AXIS, measured.diameters.short_axis),
    )
    found = []
    for name, line in axes:
        where = hd.sr.CoordinatesForMeasurement3D(
            graphic_type=hd.sr.GraphicTypeValues3D.POLYLINE,
            graphic_data=np.array(line.ends_mm),
            frame_of_reference_uid=grid.frame_of_reference,
        )
        found.append(_number(name, line.length_mm, terms.MILLIMETRE, where))
    return found


def _number(
    name: Code,
    value: float,
    unit: Code,
    where: hd.sr.CoordinatesForMeasurement3D | None = None,
) -> hd.sr.Measurement:
    return hd.sr.Measurement(
        name=name,
        value=round(value, _PLACES),
        unit=unit,
        referenced_coordinates=[where] if where is not None else None,
    )


def settled(result: Dataset, source: Dataset, run: Run) -> Dataset:
    """Replace what highdicom takes from the clock or draws, and add what it leaves behind."""
    for keyword in PATIENT_EXTRAS:
        # Without its issuer the PatientID would name another patient.
        if keyword in source:
            result[keyword] = source[keyword]
    result.SpecificCharacterSet = "ISO_IR 192"
    result.TimezoneOffsetFromUTC = run.at.strftime("%z")
    _set_times(result, run.at)
    drawn = {
        item.DimensionOrganizationUID: run.uid("dimensions")
        for item in result.get("DimensionOrganizationSequence", [])
    }
    _replace_uids(result, drawn)
    return result


def _set_times(dataset: Dataset, at: datetime) -> None:
    for prefix in ("Series", "Content", "InstanceCreation"):
        for suffix, value in (("Date", at.strftime("%Y%m%d")), ("Time", at.strftime("%H%M%S"))):
            if f"{prefix}{suffix}" in dataset:
                setattr(dataset, f"{prefix}{suffix}", value)
    for equipment in dataset.get("ContributingEquipmentSequence", []):
        equipment.ContributionDateTime = at.strftime("%Y%m%d%H%M%S%z")


def _replace_uids(dataset: Dataset, replacements: Mapping[str, str]) -> None:
    for element in dataset:
        if element.VR == "SQ" and isinstance(element.value, DicomSequence):
            for item in element.value:
                _replace_uids(item, replacements)
        elif element.VR == "UI" and element.value in replacements:
            element.value = replacements[element.value]
