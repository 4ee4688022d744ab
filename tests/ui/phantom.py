"""A small brain-like MR series and a segmentation of its bright spot, made with highdicom."""

from __future__ import annotations

import io

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from reportlab.pdfgen import canvas

from tests.dicomweb.server import slice_of

SIZE, SLICES = 96, 12


def mr_series() -> list[Dataset]:
    """Axial slices of 2 x 2 x 3 mm: an ellipsoid with a bright spot off its centre."""
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    made = []
    for number in range(SLICES):
        z = (number - SLICES / 2) / SLICES
        head = ((x - 48) / 36) ** 2 + ((y - 48) / 42) ** 2 + (z / 0.7) ** 2 < 1
        pixels = np.where(head, 300 + 2 * x, 0) + np.where(spot(number), 500, 0)
        made.append(
            slice_of(
                study,
                series,
                InstanceNumber=number + 1,
                FrameOfReferenceUID=frame,
                PositionReferenceIndicator="",
                PatientPosition="HFS",
                ImagePositionPatient=[-96, -96, 3.0 * number],
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                PixelSpacing=[2, 2],
                SliceThickness=3,
                Rows=SIZE,
                Columns=SIZE,
                WindowCenter=450,
                WindowWidth=1000,
                Manufacturer="Phantom",
                PatientName="Phantom^Viewer",
                PixelData=pixels.astype("<u2").tobytes(),
            )
        )
    return made


def spot(number: int) -> np.ndarray:
    """The bright spot in one slice; shape (rows, columns)."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    return (x - 60) ** 2 + (y - 40) ** 2 + (3 * (number - SLICES // 2)) ** 2 < 12**2


def segmentation_of(series: list[Dataset]) -> Dataset:
    """A BINARY Segmentation with one segment, "Tumor"."""
    mask = np.stack([spot(number) for number in range(SLICES)]).astype(np.uint8)
    description = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="Tumor",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Neoplasm,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name="phantom", version="1", family=codes.DCM.ArtificialIntelligence
        ),
    )
    return hd.seg.Segmentation(
        source_images=series,
        pixel_array=mask,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[description],
        series_instance_uid=hd.UID(),
        series_number=100,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="Hilum",
        manufacturer_model_name="phantom",
        software_versions="1",
        device_serial_number="1",
        series_description="Tumor segmentation",
    )


def report_of(image: Dataset) -> Dataset:
    """A structured report of one measurement."""
    evidence = [image]
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=hd.UID(), identifier="lesion 1"),
        measurements=[
            hd.sr.Measurement(name=codes.SCT.Volume, value=1.5, unit=codes.UCUM.CubicMillimeter)
        ],
        source_images=[
            hd.sr.SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID)
        ],
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(
            observer_device_context=hd.sr.ObserverContext(
                observer_type=codes.DCM.Device,
                observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
                    uid=hd.UID()
                ),
            )
        ),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=[group],
    )
    return hd.sr.ComprehensiveSR(
        evidence=evidence,
        content=content,
        series_number=200,
        series_instance_uid=hd.UID(),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="Hilum",
        series_description="Measurements SR",
    )


def pdf_of(image: Dataset) -> Dataset:
    """An Encapsulated PDF of one empty page."""
    made = slice_of(
        image.StudyInstanceUID,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1",
        Modality="DOC",
        SeriesNumber=300,
        SeriesDescription="Report PDF",
        MIMETypeOfEncapsulatedDocument="application/pdf",
        DocumentTitle="Report",
        BurnedInAnnotation="YES",
    )
    for name in ("PixelData", "Rows", "Columns", "BitsAllocated"):
        delattr(made, name)
    pdf = io.BytesIO()
    page = canvas.Canvas(pdf)
    page.drawString(100, 700, "Report")
    page.save()
    raw = pdf.getvalue()
    made.EncapsulatedDocument = raw + b"\0" * (len(raw) % 2)
    made.EncapsulatedDocumentLength = len(raw)
    return made
