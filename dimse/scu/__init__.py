"""Service class user: associations that we open, to ask, to send and to fetch."""
