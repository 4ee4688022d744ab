"""Retrieve SCP: C-MOVE and C-GET (PS3.4 annex C)."""
