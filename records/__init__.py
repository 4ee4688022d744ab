"""Store 2: facts at rest in HAPI, seen from Python."""
