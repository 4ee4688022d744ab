"""Subscriptions of other systems: R4 rest-hooks, and topics of the R5 Backport IG 1.1.

The gateway keeps, judges and delivers them itself. HAPI never sees them, so that it calls nobody
but us, and what is sent is what the client that asked may read when it is sent.
"""
