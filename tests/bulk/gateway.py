"""A gateway as a process of its own: `python -m tests.bulk.gateway settings.json`."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from access import AuditSpool, TokenAuthority
from access.grants import GrantSigner
from fhir_gateway.app import create_app, mount
from fhir_gateway.bulk.config import BulkConfig
from fhir_gateway.config import GatewayConfig

PROFILES = Path(__file__).resolve().parents[2] / "profiles"


def main(settings):
    folder = Path(settings["folder"])
    config = GatewayConfig(
        dsn=settings["dsn"],
        records_url=settings["records_url"],
        grants=GrantSigner.load_or_create(Path(settings["grants"])),
        public_url=settings["public_url"],
        audit_folder=folder / "audit",
        profiles=PROFILES,
        hook_base="http://127.0.0.1:1/hooks",
        hook_secret="hook-secret-of-the-tests",
        bulk=BulkConfig(**settings["bulk"]),
    )
    authority = TokenAuthority.load_or_create(
        folder / "keys", issuer=config.public_url, audience=config.fhir_base
    )
    fhir = create_app(config, authority, AuditSpool(config.audit_folder, f"web{settings['port']}"))

    @contextlib.asynccontextmanager
    async def lifespan(_):
        async with fhir.router.lifespan_context(fhir):
            yield

    app = FastAPI(lifespan=lifespan)
    mount(app, fhir)
    uvicorn.run(app, port=settings["port"], log_level="warning")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
