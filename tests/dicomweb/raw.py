"""HTTP by hand: requests that no client library would send, and the answer to them."""

from __future__ import annotations

import http.client
import io
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit


def head(server, path: str, *, method: str = "POST", **headers: str) -> bytes:
    """Request line and headers; an underscore in a name is a hyphen."""
    lines = [f"{method} /dicomweb{path} HTTP/1.1", f"Host: {urlsplit(server.base).netloc}"]
    lines.append(f"Authorization: Bearer {server.token}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def exchange(
    server, pieces: Iterable[bytes], timeout_s: float = 60, method: str = "POST"
) -> tuple[int, bytes]:
    """Send the pieces as far as the server takes them; status and body of its answer."""
    where = urlsplit(server.base)
    with socket.create_connection((where.hostname, where.port), timeout=timeout_s) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has answered and closed
        answer = http.client.HTTPResponse(_Kept(connection), method=method)
        answer.begin()
        return answer.status, answer.read()


class _Kept:
    """A socket as http.client wants one."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def makefile(self, mode: str) -> io.BufferedReader:
        return self._connection.makefile(mode)


def chunked(pieces: Iterable[bytes]) -> Iterable[bytes]:
    """The pieces in chunked transfer coding."""
    for piece in pieces:
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"
