"""Other servers whose word counts here: identity providers, and EHRs that issue tokens."""
