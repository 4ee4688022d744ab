"""What can go wrong in a run. Messages carry UIDs, never patient data: they end in the Task."""

from __future__ import annotations


class InferenceError(Exception):
    """Root of the package's errors."""


class NoModelApplies(InferenceError):
    """The study has no series that the model can read; not a failure."""


class SourceError(InferenceError):
    """The DICOMweb server did not give or take what was asked."""


class UnreadablePixels(InferenceError):
    """The pixel data of an instance could not be decoded."""


class ModelError(InferenceError):
    """The model bundle is incomplete or does not fit its description."""


class GeometryError(InferenceError):
    """The instances do not form one regular volume."""


class MissingGeometry(GeometryError):
    """An instance lacks position, orientation or pixel spacing."""


class MixedSlices(GeometryError):
    """Slices of one series differ in orientation, size or pixel spacing."""


class DuplicateSlice(GeometryError):
    """Two slices lie at the same position."""


class SliceGap(GeometryError):
    """A slice is missing, or the slices are not evenly spaced."""


class SlicesDrift(GeometryError):
    """The slices are shifted against each other in-plane (tilted gantry)."""


class RegistrationError(InferenceError):
    """Two series could not be brought onto one grid."""


class StudyChanged(InferenceError):
    """The run stands for an earlier state of its study, or another worker has its Task."""
