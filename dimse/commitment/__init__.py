"""Storage commitment, as SCP and as SCU (PS3.4 annex J)."""
