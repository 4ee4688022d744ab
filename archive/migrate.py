"""Kept for its importers: see `database.migrate`."""

from database.migrate import MigrationError, migrate

__all__ = ["MigrationError", "migrate"]
