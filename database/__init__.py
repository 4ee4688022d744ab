"""Foundation: how each package of ours keeps its tables in PostgreSQL up to date."""

from database.migrate import MigrationError, migrate

__all__ = ["MigrationError", "migrate"]
