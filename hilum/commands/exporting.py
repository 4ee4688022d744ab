"""`hilum export`: a bulk export through the gateway, gone on with after a break, files checked.

The folder keeps `export.json` while an export is not whole: where it is waited for. The same
command on the same folder then goes on with it and fetches only what is missing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from rich.console import Console

from hilum.commands.minting import mint
from hilum.settings import Settings

SCOPE = "system/*.rs"
LIFETIME = "8h"
LONGEST_WAIT_S = 8 * 3600.0
STATE_FILE = "export.json"
PARTS = ("output", "deleted", "error")
WAIT = (httpx.codes.ACCEPTED, httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)
OVER = (httpx.codes.NOT_FOUND, httpx.codes.INTERNAL_SERVER_ERROR)  # unknown now, or failed
FORMATS = {"ndjson": "application/fhir+ndjson", "parquet": "application/vnd.apache.parquet"}


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
    form: str = "ndjson"

    def url(self, base: str) -> str:
        """The kick-off URL (Bulk Data Access IG 2.0)."""
        level = "/Patient" if self.patients else ""
        if self.group is not None:
            level = f"/Group/{quote(self.group, safe='')}"
        return f"{base}{level}/$export"

    def parameters(self) -> dict[str, str]:
        """Its query parameters."""
        form = FORMATS[self.form] if self.form != "ndjson" else None
        asked = {"_type": self.types, "_since": self.since, "_outputFormat": form}
        return {name: value for name, value in asked.items() if value}


def run_export(settings: Settings, running: dict[str, Any], request: Request, out: Console) -> int:
    """Export into the folder. Returns the exit status."""
    token = mint(settings, subject="operator", scope=SCOPE, lifetime=LIFETIME)
    # Files are checked by their digest, which is of the plain content.
    headers = {
        "Authorization": f"Bearer {token}",
        "Accept": "application/fhir+json",
        "Accept-Encoding": "identity",
    }
    try:
        request.folder.mkdir(parents=True, exist_ok=True)
        with httpx.Client(headers=headers, timeout=60.0, trust_env=False) as client:
            with out.status("exporting") as line:
                place = _kick_off(client, running["fhir"], request)
                manifest = _wait(client, place, request.folder, line.update)
            counts = _download(client, manifest, request.folder)
            client.delete(place)
    except (ExportFailed, httpx.HTTPError, OSError) as error:
        out.print(f"[red]not exported:[/red] {error}", highlight=False, soft_wrap=True)
        return 1
    (request.folder / STATE_FILE).unlink(missing_ok=True)
    for name, count in sorted(counts.items()):
        out.print(f"  {count:7} {name}", highlight=False)
    total = sum(count for name, count in counts.items() if "/" not in name)
    out.print(f"{total} resources in {request.folder}", highlight=False)
    out.print(f"as of {manifest['transactionTime']}", highlight=False)
    return 0


def _kick_off(client: httpx.Client, base: str, request: Request) -> str:
    """The status URL of an export: of the one that this folder waits for, if it is the same."""
    url, parameters = request.url(base), request.parameters()
    state = request.folder / STATE_FILE
    asked = {"url": url, "parameters": parameters}
    if state.exists():
        place = _kept_place(state, asked)
        if client.get(place).status_code != httpx.codes.NOT_FOUND:
            return place
    if any(
        found for part in ("*", "*/*") for found in request.folder.glob(f"{part}.{request.form}")
    ):
        raise ExportFailed(f"{request.folder} holds another export; choose a new or empty folder")
    answer = client.get(url, params=parameters, headers={"Prefer": "respond-async"})
    if answer.status_code != httpx.codes.ACCEPTED:
        raise ExportFailed(_reason(answer))
    place = str(answer.headers["Content-Location"])
    partial = state.with_name(f"{STATE_FILE}.partial")
    partial.write_text(json.dumps({"asked": asked, "place": place}))
    partial.replace(state)
    return place


def _kept_place(state: Path, asked: dict[str, Any]) -> str:
    """Where the export that a folder waits for is. Raises ExportFailed: it is another one."""
    try:
        kept = json.loads(state.read_text())
        if kept["asked"] == asked:
            return str(kept["place"])
    except (ValueError, KeyError, TypeError):
        raise ExportFailed(f"{state} cannot be read; remove it to begin anew") from None
    raise ExportFailed(f"{state} is of another export; remove it to begin this one")


def _wait(
    client: httpx.Client, status_url: str, folder: Path, show: Callable[[str], None]
) -> dict[str, Any]:
    end = time.monotonic() + LONGEST_WAIT_S
    while time.monotonic() < end:
        answer = client.get(status_url)
        if answer.status_code == httpx.codes.OK:
            manifest: dict[str, Any] = answer.json()
            return manifest
        if answer.status_code not in WAIT:
            if answer.status_code in OVER:
                (folder / STATE_FILE).unlink(missing_ok=True)  # it will not come; begin anew
            raise ExportFailed(_reason(answer))
        if progress := answer.headers.get("X-Progress"):
            show(f"exporting: {progress}")
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


def _named(manifest: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each file of the manifest with the name that it gets here."""
    used: dict[str, int] = {}
    for part in PARTS:
        for item in manifest.get(part, manifest.get("outcome", []) if part == "error" else []):
            kind = str(item.get("type", part))
            ending = str(item["url"]).rpartition(".")[2]
            key = f"{part}/{kind}"
            used[key] = used.get(key, 0) + 1
            folder = "" if part == "output" else f"{part}/"
            yield f"{folder}{kind}.{used[key]:03}.{ending}", item


def _download(client: httpx.Client, manifest: dict[str, Any], folder: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, item in _named(manifest):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        _download_file(client, item["url"], path)
        counts[name] = int(item.get("count", 0))
        if name.endswith(".ndjson") and (found := _lines(path)) != item.get("count", found):
            raise ExportFailed(f"{name} has {found} lines, the manifest says {item['count']}")
    return counts


def _download_file(client: httpx.Client, url: str, path: Path) -> None:
    """Fetch a file, or the rest of it, and check it by its digest.

    It has another name until it is whole, so that a broken download is never taken for a file.
    """
    partial = path.with_name(path.name + ".partial")
    if path.exists():
        known = {"If-None-Match": f'"{_digest(path).hex()}"'}
        with client.stream("GET", url, headers=known) as same:
            if same.status_code == httpx.codes.NOT_MODIFIED:
                return
        path.unlink()
    for start in (partial.stat().st_size if partial.exists() else 0, 0):
        expected = _append(client, url, partial, start)
        if expected is None or expected == _digest(partial):
            partial.replace(path)
            return
        partial.unlink()  # the rest of another file: once more from its beginning
    raise ExportFailed(f"{path.name} is not what the server says it is")


def _append(client: httpx.Client, url: str, partial: Path, start: int) -> bytes | None:
    """Fetch from an offset on; returns the digest of the whole file, where the server tells it."""
    headers = {"Range": f"bytes={start}-"} if start else {}
    with client.stream("GET", url, headers=headers) as answer:
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return b""  # no digest is this: it is fetched from its beginning
        if answer.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            answer.read()
            raise ExportFailed(_reason(answer))
        goes_on = answer.status_code == httpx.codes.PARTIAL_CONTENT
        with partial.open("ab" if goes_on else "wb") as file:
            for chunk in answer.iter_bytes():
                file.write(chunk)
        shown = answer.headers.get("Repr-Digest", "")
    found = shown.partition("sha-256=:")[2].partition(":")[0]
    return base64.b64decode(found) if found else None


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _reason(answer: httpx.Response) -> str:
    try:
        issue = answer.json()["issue"][0]
        return f"{answer.status_code}: {issue.get('diagnostics') or issue['details']['text']}"
    except (ValueError, KeyError, IndexError, TypeError):
        return f"the server answered {answer.status_code}"
