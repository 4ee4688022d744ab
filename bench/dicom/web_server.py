"""Our DICOMweb door as a process of its own: tokens, audit and fsync on, as `hilum web` has them.

    python -m bench.dicom.web_server FOLDER DSN PORT

Prints a token, then serves until SIGTERM.
"""

from __future__ import annotations

import sys
from pathlib import Path

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from access import AuditSpool, TokenAuthority
from access.http import OwnTokens, caller_of
from archive import Archive, ArchiveConfig
from dicomweb.app import create_app
from dicomweb.config import DicomwebConfig
from pixels import PixelsConfig

SCOPE = "system/ImagingStudy.cruds"


def main(folder: Path, dsn: str, port: int) -> None:
    """Serve the door at /dicom-web, where Orthanc has its own."""
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(Path(folder / "log").open("w")))  # noqa: SIM115
    with Archive.open(ArchiveConfig(root=folder / "archive", dsn=dsn)) as archive:
        authority = TokenAuthority.load_or_create(folder / "keys", issuer="b", audience="b")
        audit = AuditSpool(folder / "audit", "web")
        config = DicomwebConfig(pixels=PixelsConfig(cache=folder / "cache"))
        verifier = OwnTokens(authority)
        door = create_app(archive, lambda request: caller_of(request, verifier), audit, config)
        app = Starlette(routes=[Mount("/dicom-web", door)], lifespan=door.router.lifespan_context)
        print(authority.mint(subject="bench", scope=SCOPE, lifetime_s=36000), flush=True)
        uvicorn.run(app, host="127.0.0.1", port=port, log_config=None, access_log=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
