"""Small DICOM files with what a test needs in them."""

from __future__ import annotations

import io
import struct

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid


def slice_of(**changes):
    """An 8 x 8 MR slice; a keyword argument sets an attribute, None removes it."""
    dataset = Dataset()
    attributes = {
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": generate_uid(),
        "StudyInstanceUID": generate_uid(),
        "SeriesInstanceUID": generate_uid(),
        "SpecificCharacterSet": "ISO_IR 192",
        "PatientID": "P1",
        "PatientName": "Doe^Jane",
        "StudyDate": "20260102",
        "StudyTime": "101500",
        "Modality": "MR",
        "SeriesNumber": 1,
        "InstanceNumber": 1,
        "Rows": 8,
        "Columns": 8,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PixelData": bytes(range(128)),
        **changes,
    }
    for name, value in attributes.items():
        if value is not None:
            setattr(dataset, name, value)
    return dataset


def bytes_of(dataset, syntax=ExplicitVRLittleEndian):
    """The data set as a Part 10 file."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", MRImageStorage)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2.3")
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def element(group, number, vr, value):
    """One explicit little-endian element with a 16-bit length."""
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def part10(data_set, syntax="1.2.840.10008.1.2.1"):
    """Raw data set bytes with the least header that makes them a file."""
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    return b"\0" * 128 + b"DICM" + element(2, 0x10, b"UI", uid) + data_set


def uid_value(text):
    raw = text.encode("latin-1")
    return raw + b"\0" * (len(raw) % 2)


def raw_slice(study="1.2.3", series="1.2.4", instance="1.2.5"):
    """A data set written by hand, so that its UIDs may be anything."""
    return (
        element(8, 0x16, b"UI", uid_value(MRImageStorage))
        + element(8, 0x18, b"UI", uid_value(instance))
        + element(0x20, 0x0D, b"UI", uid_value(study))
        + element(0x20, 0x0E, b"UI", uid_value(series))
    )
