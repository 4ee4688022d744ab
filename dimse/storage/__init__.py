"""Storage SCP: our own receive loop, from the connection to the archive."""
