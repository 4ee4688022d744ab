"""What the DICOMweb door refuses by itself; the archive has its own errors.

Texts may name UIDs, attributes and limits. They reach the client, so no patient data.
"""

from __future__ import annotations

from archive.keys import InstanceKey


class DicomwebError(Exception):
    """Root of the door's errors; HTTP statuses are in problems.py.

    Attributes:
        extra: Further members of the problem document, such as what would have been right.
    """

    def __init__(self, text: str, **extra: object) -> None:
        super().__init__(text)
        self.extra = extra


class BadRequest(DicomwebError):
    """A parameter or a path segment is not what PS3.18 allows."""


class MalformedMultipart(DicomwebError):
    """The body is not the multipart message that its header promises."""


class PayloadTooLarge(DicomwebError):
    """A limit of the service is passed."""


class UnsupportedMediaType(DicomwebError):
    """The request's content type or encoding is not one that can be stored."""


class RequestTimeout(DicomwebError):
    """The request's body stopped coming, or comes too slowly."""


class TransactionInUse(DicomwebError):
    """The Transaction UID names another storage commitment request."""


class NotFound(DicomwebError):
    """What the path names is not there, or not the caller's."""


class RefusedInstance(DicomwebError):
    """One instance of a store request is refused; `key` names it."""

    def __init__(self, text: str, key: InstanceKey | None) -> None:
        super().__init__(text)
        self.key = key


class NotGranted(RefusedInstance):
    """The token does not let this instance join its study."""


class NotDecided(RefusedInstance):
    """Whether the instance may join its study cannot be found out now."""


class NotAcceptable(DicomwebError):
    """No representation that the client accepts can be made."""


class NotRenderable(DicomwebError):
    """The instance has no image, or its pixel data cannot be decoded."""
