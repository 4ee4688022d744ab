"""Packaged synthetic brain MR cases, and the writer that makes DICOM studies of them."""
