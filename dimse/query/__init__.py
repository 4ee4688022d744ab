"""Query SCP: C-FIND (PS3.4 annex C)."""
