"""Two patients of this folder's own on the running stack."""

from tests.imaging_access.conftest import ann, ben, imaging

__all__ = ["ann", "ben", "imaging"]
