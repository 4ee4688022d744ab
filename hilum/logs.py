"""How our processes log: one line of text or JSON per event, UIDs and durations, no names."""

from __future__ import annotations

import logging
import sys

import structlog

# These libraries log request lines, and a query string can hold a name or a token; Authlib logs
# the tokens themselves.
QUIET = (
    "authlib",
    "httpx",
    "httpcore",
    "uvicorn.access",
    "aiohttp.access",
    "pynetdicom",
    "dicomweb_client",
)


def configure(*, json: bool = False, level: int = logging.INFO) -> None:
    """Send structlog and the standard library's log to standard error in one format."""
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        stamp,
    ]
    renderer = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.format_exc_info if json else _keep,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(name)s %(message)s"
    )
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)


def _keep(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return event
