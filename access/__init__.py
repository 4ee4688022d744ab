"""The guard: who may. Callers, scopes, tokens, audit spool."""
