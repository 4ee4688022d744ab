"""`hilum export`: bulk `$export` through the gateway, files checked and written whole."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from rich.console import Console

from hilum.minting import mint
from hilum.settings import Settings

SCOPE = "system/*.rs"
LIFETIME = "8h"
LONGEST_WAIT_S = 8 * 3600.0


class ExportFailed(Exception):
    """The server refused or lost the export; the text is the server's own."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for; see the options of `hilum export`."""

    folder: Path
    group: str | None = None
    patients: bool = False
    types: str | None = None
    since: str | None = None

    def url(self, base: str) -> str:
        """The kick-off URL (Bulk Data Access IG 2.0)."""
        level = "/Patient" if self.patients else ""
        if self.group is not None:
            level = f"/Group/{quote(self.group, safe='')}"
        return f"{base}{level}/$export"

    def parameters(self) -> dict[str, str]:
        """Its query parameters."""
        asked = {"_type": self.types, "_since": self.since}
        return {name: value for name, value in asked.items() if value}


def run_export(settings: Settings, running: dict[str, Any], request: Request, out: Console) -> int:
    """Export into the folder. Returns the exit status."""
    token = mint(settings, subject="operator", scope=SCOPE, lifetime=LIFETIME)
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/fhir+json"}
    try:
        with httpx.Client(headers=headers, timeout=60.0, trust_env=False) as client:
            with out.status("exporting"):
                manifest = _wait(client, _kick_off(client, running["fhir"], request))
            request.folder.mkdir(parents=True, exist_ok=True)
            counts = _download(client, manifest, request.folder)
    except (ExportFailed, httpx.HTTPError, OSError) as error:
        out.print(f"[red]not exported:[/red] {error}", highlight=False, soft_wrap=True)
        return 1
    for name, count in sorted(counts.items()):
        out.print(f"  {count:7} {name}", highlight=False)
    out.print(f"{sum(counts.values())} resources in {request.folder}", highlight=False)
    return 0


def _kick_off(client: httpx.Client, base: str, request: Request) -> str:
    answer = client.get(
        request.url(base), params=request.parameters(), headers={"Prefer": "respond-async"}
    )
    if answer.status_code != httpx.codes.ACCEPTED:
        raise ExportFailed(_reason(answer))
    return answer.headers["Content-Location"]


def _wait(client: httpx.Client, status_url: str) -> dict[str, Any]:
    end = time.monotonic() + LONGEST_WAIT_S
    while time.monotonic() < end:
        answer = client.get(status_url)
        if answer.status_code == httpx.codes.OK:
            manifest: dict[str, Any] = answer.json()
            return manifest
        if answer.status_code not in (httpx.codes.ACCEPTED, httpx.codes.TOO_MANY_REQUESTS):
            raise ExportFailed(_reason(answer))
        time.sleep(_pause(answer.headers.get("Retry-After")))
    raise ExportFailed(f"not finished after {LONGEST_WAIT_S / 3600:.0f} h; it is at {status_url}")


def _pause(retry_after: str | None) -> float:
    """Seconds that the server asks us to wait: a number or an HTTP date; at most 30."""
    if not retry_after:
        return 1.0
    if retry_after.isdigit():
        return min(30.0, max(0.5, float(retry_after)))
    try:
        return min(
            30.0, max(0.5, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
        )
    except ValueError:
        return 1.0


def _download(client: httpx.Client, manifest: dict[str, Any], folder: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    used: dict[str, int] = {}
    for output in manifest["output"]:
        kind = str(output["type"])
        used[kind] = used.get(kind, 0) + 1
        name = f"{kind}.{used[kind]:03}.ndjson"
        counts[name] = _download_file(client, output["url"], folder / name)
        expected = output.get("count")
        if expected is not None and expected != counts[name]:
            raise ExportFailed(f"{name} has {counts[name]} lines, the manifest says {expected}")
    return counts


def _download_file(client: httpx.Client, url: str, path: Path) -> int:
    # Under another name until it is whole, so that a broken download is never taken for a file.
    partial = path.with_suffix(".partial")
    lines = 0
    with client.stream("GET", url) as answer, partial.open("wb") as file:
        if answer.status_code != httpx.codes.OK:
            answer.read()
            raise ExportFailed(_reason(answer))
        for chunk in answer.iter_bytes():
            lines += chunk.count(b"\n")
            file.write(chunk)
    partial.replace(path)
    return lines


def _reason(answer: httpx.Response) -> str:
    try:
        issue = answer.json()["issue"][0]
        return f"{answer.status_code}: {issue.get('diagnostics') or issue['details']['text']}"
    except (ValueError, KeyError, IndexError, TypeError):
        return f"the server answered {answer.status_code}"
