"""`hilum hapi`: prepare HAPI's database, then become the Java process."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from hilum import wiring
from hilum.processes import fhir_store
from hilum.settings import Settings, SettingsError


def serve(settings: Settings) -> None:
    """Replace this process with HAPI. Does not return.

    Raises:
        SettingsError: Java or the build is missing, or the database cannot be prepared.
    """
    config = wiring.hapi_config(settings)
    log_file = settings.data / "log" / "hapi-prepare.log"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    try:
        fhir_store.prepare_database(config, wiring.hapi_cache(settings), log_file)
    except fhir_store.FhirStoreError as error:
        raise SettingsError(str(error)) from error
    command = fhir_store.command(config)
    program = shutil.which(command[0]) or command[0]
    environment = {**os.environ, **fhir_store.environment(config)}
    os.execve(Path(program), command, environment)  # noqa: S606 - our own command line
