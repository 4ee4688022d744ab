"""DICOM studies for the tests, written by pydicom and stored through the real archive."""

from __future__ import annotations

from io import BytesIO

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from archive import Source


def header(study=None, series=None, **changes):
    """A small MR instance of its own series; keyword arguments are DICOM keywords."""
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID = MRImageStorage
    data.SOPInstanceUID = generate_uid()
    data.StudyInstanceUID = study or generate_uid()
    data.SeriesInstanceUID = series or generate_uid()
    data.Modality = "MR"
    data.StudyDate, data.StudyTime = "20260102", "030405"
    data.PatientName, data.PatientID = "Doe^Jane", generate_uid()[-12:]
    data.PatientBirthDate, data.PatientSex = "19700131", "F"
    data.AccessionNumber, data.StudyID = "", ""
    data.SeriesNumber, data.InstanceNumber = 1, 1
    data.Rows = data.Columns = 2
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation, data.SamplesPerPixel = 15, 0, 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.PixelData = bytes(8)
    for keyword, value in changes.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    return data


def code(value, scheme, meaning):
    """One code sequence item."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def store(archive, data, ae="CLINIC_A"):
    """Store one instance as if `ae` had sent it."""
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    with archive.receive() as incoming:
        incoming.write(buffer.getvalue())
        return archive.store(incoming, Source("dimse", calling_ae=ae))
