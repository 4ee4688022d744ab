"""DICOM services beside other servers in the same run: ratios count, not the figures."""
