"""The VR of an attribute whose encoding does not say it (implicit VR, or UN)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from pydicom.datadict import dictionary_VR, private_dictionary_VR


@lru_cache(maxsize=8192)
def dictionary_vr(tag: int, signed: bool = False) -> str:
    """VR of a public attribute; "UN" if the dictionary does not hold it.

    Args:
        tag: Group and element as one number.
        signed: Value of PixelRepresentation, which decides between US and SS (PS3.5 A.1).
    """
    if tag & 0xFFFF == 0:
        return "UL"
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return "UN"
    if " or " not in vr:
        return vr if len(vr) == 2 else "UN"
    if "US" in vr and "SS" in vr:
        return "SS" if signed else "US"
    return "OW"


@lru_cache(maxsize=8192)
def _private_vr(tag: int, creator: str) -> str:
    try:
        vr = private_dictionary_VR(tag, creator)
    except KeyError:
        return "UN"
    return vr if len(vr) == 2 else "UN"


def implicit_vr(tag: int, creators: Mapping[int, str], signed: bool) -> str:
    """VR of an implicit element; `creators` maps group and block to the private creator."""
    group, number = tag >> 16, tag & 0xFFFF
    if not group & 1:
        return dictionary_vr(tag, signed)
    if 0x10 <= number <= 0xFF:
        return "LO"
    creator = creators.get(group << 8 | number >> 8)
    return _private_vr(tag, creator) if creator else "UN"
