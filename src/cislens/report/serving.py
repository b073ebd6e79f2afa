"""Files over HTTP to a browser on this machine: byte ranges, nothing outside what is offered.

igv.js reads indexed files of any size by ranges, which a page opened from a file cannot. The server
listens on the loopback address alone and answers requests that name it (`Host`), so that no page of
another site can read through it.
"""

import logging
import mimetypes
import os
import re
import socket
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote, urlsplit

from cislens.errors import CislensError

logger = logging.getLogger("cislens")

ADDRESS = "127.0.0.1"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_BLOCK = 1 << 20
_POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


class Offered:
    """What a server gives: pages made beforehand, files named one by one, and a folder.

    Attributes:
        pages: address -> text; HTML but under /texts.
        folder: whose files are offered under their names, but none that begins with a dot.
    """

    def __init__(self, folder: Path | None = None, pages: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.pages = dict(pages or {})
        self._files: dict[str, Path] = {}

    def offer(self, path: Path) -> str:
        """Offer a file, wherever it lies; its address."""
        for address, known in self._files.items():
            if known == path:
                return address
        address = f"/files/{len(self._files)}/{quote(path.name)}"
        self._files[address] = path
        return address

    def offer_text(self, name: str, text: str) -> str:
        """Offer a text that is no file; its address."""
        address = f"/texts/{quote(name)}"
        self.pages[address] = text
        return address

    @property
    def files(self) -> list[Path]:
        """The files that were offered one by one."""
        return list(self._files.values())

    def find(self, address: str) -> Path | None:
        """The file at an address, None where nothing is offered there."""
        if address in self._files:
            return self._files[address]
        parts = [unquote(part) for part in address.strip("/").split("/")]
        if self.folder is None or any(_hidden(part) for part in parts):
            return None
        path = self.folder.joinpath(*parts)
        try:
            whole = path.resolve(strict=True)
        except (OSError, ValueError):
            return None
        inside = whole.is_relative_to(self.folder.resolve())
        return whole if inside and whole.is_file() else None


def _hidden(part: str) -> bool:
    return not part or part.startswith(".") or "/" in part or "\\" in part or "\0" in part


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, offered: Offered) -> None:
        self.offered = offered
        super().__init__((ADDRESS, port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A reader that leaves early is no error; anything else is logged."""
        logger.debug("a request of %s was not answered", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 60

    def version_string(self) -> str:
        return "cislens"

    def log_message(self, format: str, *values: object) -> None:  # noqa: A002
        logger.debug(format, *values)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        port = self.server.server_address[1]
        if self.headers.get("Host") not in (f"{ADDRESS}:{port}", f"localhost:{port}"):
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST)
            return
        address = urlsplit(self.path).path
        page = self.server.offered.pages.get(address)
        if page is not None:
            text = page.encode()
            kind = "plain" if address.startswith("/texts/") else "html"
            self._begin(HTTPStatus.OK, len(text), f"text/{kind}; charset=utf-8")
            if body:
                self.wfile.write(text)
            return
        path = self.server.offered.find(address)
        try:
            handle = None if path is None else path.open("rb")
        except OSError:
            handle = None
        if handle is None or path is None:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        with handle:
            self._send(handle, path, body)

    def _send(self, handle: BinaryIO, path: Path, body: bool) -> None:
        size = os.fstat(handle.fileno()).st_size
        found = span(self.headers.get("Range"), size)
        kind = _kind(path)
        if found is None:
            start, stop = 0, size
            self._begin(HTTPStatus.OK, size, kind)
        elif found[0] >= found[1]:
            self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"bytes */{size}")
            return
        else:
            start, stop = found
            where = f"bytes {start}-{stop - 1}/{size}"
            self._begin(HTTPStatus.PARTIAL_CONTENT, stop - start, kind, where)
        if not body:
            return
        handle.seek(start)
        while start < stop and (block := handle.read(min(_BLOCK, stop - start))):
            self.wfile.write(block)
            start += len(block)
        if start < stop:
            self.close_connection = True  # the file became shorter; its length was promised

    def _refuse(self, status: HTTPStatus, where: str | None = None) -> None:
        text = f"{status.value} {status.phrase}\n".encode()
        self._begin(status, len(text), "text/plain; charset=utf-8", where)
        if self.command != "HEAD":
            self.wfile.write(text)

    def _begin(self, status: HTTPStatus, length: int, kind: str, where: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Content-Security-Policy", _POLICY)
        if where is not None:
            self.send_header("Content-Range", where)
        self.end_headers()


def span(text: str | None, size: int) -> tuple[int, int] | None:
    """Bytes [start, stop) that a Range header asks for of a file (RFC 9110, section 14).

    None for the whole file: no header, one that is no single range of bytes, or whose last byte
    is before its first. An empty span is a range that the file cannot give.
    """
    found = _RANGE.fullmatch((text or "").strip())
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        return max(0, size - int(found[2])), size
    first = int(found[1])
    last = int(found[2]) if found[2] else size - 1
    if found[2] and last < first:
        return None
    return first, min(last + 1, size)


def _kind(path: Path) -> str:
    guessed, packed = mimetypes.guess_type(path.name)
    if guessed is None or packed is not None:
        return "application/octet-stream"
    return f"{guessed}; charset=utf-8" if guessed.startswith("text/") else guessed


def server_of(offered: Offered, port: int = 0) -> ThreadingHTTPServer:
    """A server that is bound but does not answer yet; port 0 takes a free one.

    Raises:
        CislensError: if the port is taken or not allowed.
    """
    try:
        return _Server(port, offered)
    except (OSError, OverflowError, socket.gaierror) as error:
        raise CislensError(
            f"port {port} of {ADDRESS} cannot be listened on ({error}); give --port another one, "
            "or 0 for any that is free."
        ) from None


def address_of(server: ThreadingHTTPServer) -> str:
    """What to open in a browser."""
    return f"http://{ADDRESS}:{server.server_address[1]}/"
