"""The OHIF viewer at /ohif/: prepared static files, a generated configuration, its own CSP.

The files come from tools/ohif.py: moved to /ohif/, trimmed, with a gzip twin beside each.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from mimetypes import guess_type
from pathlib import Path
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from access.browser import session_of
from ui.pages import PAGE_HEADERS, render

PREFIX = "/ohif"
_DAY_S = 86_400
# webpack names: 100.bundle.cb02411ce321d4e4.js, 0ddf166f7a343eda.wasm
_HASHED_NAME = re.compile(r"(^|\.)[0-9a-f]{16}\.[a-z0-9]+$")
# What a session that has ended looks like to OHIF: sign in, and come back to the same page.
_SESSION_OVER = """window.config.httpErrorHandler = (error) => {
  const status = error && (error.status || (error.request && error.request.status));
  if (status === 401) {
    const here = window.location.pathname + window.location.search;
    window.location.assign("/login?next=" + encodeURIComponent(here));
  }
};
"""
_MEDIA_TYPES = {
    ".wasm": "application/wasm",
    ".js": "text/javascript",
    ".webapp": "application/json",
}


@dataclass(frozen=True, slots=True)
class _Asset:
    """One file of the bundle and how to send it."""

    path: Path
    media_type: str
    gzip_path: Path | None
    cache_control: str
    etag: str


def content_security_policy(dicomweb_base: str) -> str:
    """The policy of the viewer's pages.

    Looser than the rest of Hilum where OHIF needs it: WebAssembly decoders, workers and PDF
    views from blob: URLs, styles set by React, and 'unsafe-eval' because its array library
    compiles accessors with `new Function` when a SEG is loaded. Scripts come from files of ours
    only: the inline ones were moved out by tools/ohif.py.
    """
    parts = urlsplit(dicomweb_base)
    elsewhere = f" {parts.scheme}://{parts.netloc}" if parts.netloc else ""
    return "; ".join(
        (
            "default-src 'self'",
            "script-src 'self' 'unsafe-eval' 'wasm-unsafe-eval' blob:",
            "worker-src 'self' blob:",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            f"connect-src 'self' data: blob:{elsewhere}",
            "object-src 'self' blob:",
            "frame-src 'self' blob:",
            "frame-ancestors 'self'",
            "base-uri 'self'",
            "form-action 'self'",
        )
    )


def viewer_configuration(dicomweb_base: str) -> dict[str, object]:
    """The object OHIF reads as `window.config`."""
    return {
        "name": "hilum",
        "routerBasename": PREFIX,
        "extensions": [],
        "modes": [],
        "modesConfiguration": {"@ohif/mode-segmentation": _with_documents()},
        "customizationService": {},
        "showStudyList": True,
        "maxNumberOfWebWorkers": 3,
        "showWarningMessageForCrossOrigin": True,
        "showCPUFallbackMessage": True,
        "showLoadingIndicator": True,
        "strictZSpacingForVolumeViewport": True,
        "groupEnabledModesFirst": True,
        "maxNumRequests": {"interaction": 100, "thumbnail": 5, "prefetch": 25},
        "showErrorDetails": "production",
        "investigationalUseDialog": {"option": "never"},
        "defaultDataSourceName": "hilum",
        "dataSources": [
            {
                "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
                "sourceName": "hilum",
                "configuration": _data_source(dicomweb_base),
            }
        ],
    }


def _with_documents() -> dict[str, object]:
    """Lets the segmentation mode show SR and PDF as the basic mode does.

    By itself it has no handler for them, and puts a warning sign at their series.
    """
    sr, pdf = "@ohif/extension-cornerstone-dicom-sr", "@ohif/extension-dicom-pdf"
    sr_handlers = [f"{sr}.sopClassHandlerModule.{name}" for name in ("dicom-sr-3d", "dicom-sr")]
    pdf_handlers = [f"{pdf}.sopClassHandlerModule.dicom-pdf"]
    viewports = [
        {"namespace": f"{sr}.viewportModule.dicom-sr", "displaySetsToDisplay": sr_handlers},
        {"namespace": f"{pdf}.viewportModule.dicom-pdf", "displaySetsToDisplay": pdf_handlers},
    ]
    # The commands of immutability-helper, which OHIF applies to the mode.
    return {
        "sopClassHandlers": {"$push": [*sr_handlers, *pdf_handlers]},
        "routes": {0: {"layoutInstance": {"props": {"viewports": {"$push": viewports}}}}},
    }


def _data_source(dicomweb_base: str) -> dict[str, object]:
    """OHIF's DICOMweb client: pixels and thumbnails as frames, no endpoint beyond WADO-RS."""
    return {
        "friendlyName": "Hilum",
        "name": "hilum",
        # OHIF saves Label Map Segmentation by default; the bitmap mode writes the BINARY
        # Segmentation that every reader knows.
        "segmentation": {
            "store": {"defaultMode": "bitmap", "transferSyntaxUID": "1.2.840.10008.1.2.1"}
        },
        "qidoRoot": dicomweb_base,
        "wadoRoot": dicomweb_base,
        "wadoUriRoot": dicomweb_base,
        "qidoSupportsIncludeField": True,
        "supportsReject": False,
        "dicomUploadEnabled": True,
        "imageRendering": "wadors",
        "thumbnailRendering": "wadors",
        "enableStudyLazyLoad": True,
        "supportsFuzzyMatching": False,
        "supportsWildcard": True,
        "staticWado": False,
        "singlepart": "bulkdata,video,pdf",
        "bulkDataURI": {"enabled": True, "relativeResolution": "studies"},
        "omitQuotationForMultipartRequest": True,
    }


def create_app(
    folder: Path | None,
    dicomweb_base: str,
    login_url: Callable[[Request], str] | None = None,
) -> Starlette:
    """The application to mount at /ohif.

    Args:
        folder: what tools/ohif.py wrote; None or a folder without index.html: every page
            says that the viewer is not installed, and how to install it.
        dicomweb_base: DICOMweb service root as the browser sees it, e.g. `/dicomweb`.
        login_url: where who is not signed in is sent from a page; None: pages are shown to all,
            and only DICOMweb asks who it is.
    """
    headers = _headers(dicomweb_base)
    assets = _assets(folder) if folder is not None else {}
    index = assets.get("index.html")
    script = f"window.config = {json.dumps(viewer_configuration(dicomweb_base), indent=1)};\n"
    if login_url is not None:
        script += _SESSION_OVER

    def serve(request: Request) -> Response:
        name: str = request.path_params.get("path", "")
        if index is None:
            page = render("viewer_missing.html")
            return HTMLResponse(page, status_code=503, headers=PAGE_HEADERS)
        if name == "app-config.js":
            fresh = {"Cache-Control": "no-cache", **headers}
            return Response(script, media_type="text/javascript", headers=fresh)
        asset = assets.get(name)
        if asset is None and Path(name).suffix in {".js", ".css", ".wasm", ".map", ".png"}:
            # A missing chunk answered with a page would fail as a syntax error far away.
            return Response("not found", status_code=404, media_type="text/plain", headers=headers)
        if asset in (None, index) and login_url is not None and not _may_open(request):
            return RedirectResponse(login_url(request), 303, {"Cache-Control": "no-store"})
        return _send(asset or index, request, headers)

    routes = [
        Route("/", serve, methods=["GET"]),
        Route("/{path:path}", serve, methods=["GET"]),
    ]
    return Starlette(routes=routes)


def _may_open(request: Request) -> bool:
    """Whether the viewer will have something to show to DICOMweb: a session or a token."""
    return (
        session_of(request) is not None
        or "token" in request.query_params
        or "authorization" in request.headers
    )


def _headers(dicomweb_base: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": content_security_policy(dicomweb_base),
        # crossOriginIsolated: SharedArrayBuffer for the volume loader.
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Embedder-Policy": "require-corp",
        "Cross-Origin-Resource-Policy": "same-origin",
        # The first URL may carry a short-lived token in its query.
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def _assets(folder: Path) -> Mapping[str, _Asset]:
    """Every file of the bundle by its name: what is not here cannot be asked for."""
    found: dict[str, _Asset] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix == ".gz" or path.name.startswith("."):
            continue
        name = path.relative_to(folder).as_posix()
        packed = path.with_name(path.name + ".gz")
        kind = _MEDIA_TYPES.get(path.suffix) or guess_type(path.name)[0]
        found[name] = _Asset(
            path=path,
            media_type=kind or "application/octet-stream",
            gzip_path=packed if packed.is_file() else None,
            cache_control=_cache_control(name),
            etag=f'"{sha256(path.read_bytes()).hexdigest()[:32]}"',
        )
    return found


def _cache_control(name: str) -> str:
    if _HASHED_NAME.search(name):
        return f"public, max-age={365 * _DAY_S}, immutable"
    if name.startswith("assets/"):
        return f"public, max-age={_DAY_S}"
    return "no-cache"


def _send(asset: _Asset, request: Request, headers: Mapping[str, str]) -> Response:
    packed = asset.gzip_path if "gzip" in request.headers.get("accept-encoding", "") else None
    etag = asset.etag if packed is None else f'{asset.etag[:-1]}-gz"'
    answer = {"Cache-Control": asset.cache_control, "ETag": etag, "Vary": "Accept-Encoding"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={**headers, **answer})
    if packed is not None:
        answer["Content-Encoding"] = "gzip"
    return FileResponse(
        packed or asset.path, media_type=asset.media_type, headers={**headers, **answer}
    )
