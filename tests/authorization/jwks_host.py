"""A client's own web server, which publishes its key set: real HTTP, under the test's control."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class KeyHost:
    """What is answered, and how often somebody asked."""

    url: str = ""
    keys: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    asked: int = 0
    wait_s: float = 0.0


@contextlib.contextmanager
def publishing(port: int = 0) -> Iterator[KeyHost]:
    """The server on a port of the loopback."""
    host = KeyHost()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host.asked += 1
            time.sleep(host.wait_s)
            body = host.keys if isinstance(host.keys, bytes) else json.dumps(host.keys).encode()
            self.send_response(host.status)
            for name, value in host.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host.url = f"http://127.0.0.1:{server.server_address[1]}/jwks.json"
        yield host
        server.shutdown()
