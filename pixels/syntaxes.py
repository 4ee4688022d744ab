"""Transfer syntaxes: which can be decoded here, which can be made, which have lost something."""

from __future__ import annotations

from pydicom import uid

IMPLICIT_LE = str(uid.ImplicitVRLittleEndian)
EXPLICIT_LE = str(uid.ExplicitVRLittleEndian)
DEFLATED = str(uid.DeflatedExplicitVRLittleEndian)
EXPLICIT_BE = str(uid.ExplicitVRBigEndian)
RLE = str(uid.RLELossless)
JPEG_LS = str(uid.JPEGLSLossless)
JPEG_2000 = str(uid.JPEG2000Lossless)
HTJ2K = str(uid.HTJ2KLossless)
JPEG_XL_LOSSLESS, JPEG_XL_JPEG, JPEG_XL = (f"1.2.840.10008.1.2.4.11{n}" for n in range(3))

# Uncompressed; frames of them leave as Explicit VR Little Endian holds them.
NATIVE = frozenset({IMPLICIT_LE, EXPLICIT_LE, DEFLATED, EXPLICIT_BE, "1.2.840.113619.5.2"})

# What a file can be turned into, most widely read first. Each of them keeps every pixel value.
TARGETS = (EXPLICIT_LE, IMPLICIT_LE, JPEG_2000, JPEG_LS, RLE, HTJ2K)
COMPRESSED_TARGETS = TARGETS[2:]

_DECODABLE = frozenset(
    {
        *NATIVE,
        RLE,
        str(uid.JPEGBaseline8Bit),
        str(uid.JPEGExtended12Bit),
        str(uid.JPEGLossless),
        str(uid.JPEGLosslessSV1),
        JPEG_LS,
        str(uid.JPEGLSNearLossless),
        JPEG_2000,
        str(uid.JPEG2000),
        HTJ2K,
        str(uid.HTJ2KLosslessRPCL),
        str(uid.HTJ2K),
        JPEG_XL_LOSSLESS,
        JPEG_XL_JPEG,
        JPEG_XL,
    }
)
# JPEG 2000 and HTJ2K without the word lossless may still be: their colours are not converted.
_LOSSY = frozenset(
    {
        str(uid.JPEGBaseline8Bit),
        str(uid.JPEGExtended12Bit),
        str(uid.JPEGLSNearLossless),
        JPEG_XL_JPEG,
        JPEG_XL,
    }
)


def can_decode(transfer_syntax: str) -> bool:
    """Whether pixel data in this transfer syntax can become native here."""
    return transfer_syntax in _DECODABLE


def can_make(source: str, target: str) -> bool:
    """Whether a file in `source` can be turned into `target`, as far as the names tell."""
    return source == target or (source in _DECODABLE and target in TARGETS)


def is_lossy(transfer_syntax: str) -> bool:
    """Whether pixel data in this transfer syntax always went through lossy compression."""
    return transfer_syntax in _LOSSY
