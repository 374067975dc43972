"""Serves the page of a scene over HTTP on this machine.

It listens on 127.0.0.1 and answers GET for a few exact addresses below a secret token, which other users of the machine
do not have. It refuses other Host names (protection against DNS rebinding), and no request can name a file.
"""

import json
import re
import secrets
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from mcti.slides.decoding import Pixels
from mcti.slides.viewer.scene import TILE, Scene

_STATIC = {
    "": ("page.html", "text/html; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "openseadragon.min.js": ("vendor/openseadragon.min.js", "text/javascript; charset=utf-8"),
    "openseadragon-LICENSE.txt": ("vendor/openseadragon-LICENSE.txt", "text/plain; charset=utf-8"),
}
_PICTURE = re.compile(r"(slide|tissue|tiles|scores)_files/(\d{1,2})/(\d{1,7})_(\d{1,7})\.(jpeg|png)", re.ASCII)
_DZI = re.compile(r"(slide|tissue|tiles|scores)\.dzi")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Response = tuple[bytes, str]
"""Body and content type."""


class Server(ThreadingHTTPServer):
    """Serves a scene on a port of the loopback device; port 0: a free one."""

    daemon_threads = True

    def __init__(self, scene: Scene, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.scene, self._token = scene, secrets.token_urlsafe(12)
        number = self.server_address[1]
        self.hosts = {f"127.0.0.1:{number}", f"localhost:{number}"}

    @property
    def url(self) -> str:
        """The address to open."""
        return f"http://127.0.0.1:{self.server_address[1]}/{self._token}/"

    def respond(self, path: str, query: str) -> Response | None:
        """The response for a path and query; None when there is none."""
        prefix = f"/{self._token}/"
        if not secrets.compare_digest(path[: len(prefix)].encode(), prefix.encode()):
            return None
        name = path[len(prefix) :]
        if name in _STATIC:
            file, content_type = _STATIC[name]
            return files("mcti.slides.viewer").joinpath(file).read_bytes(), content_type
        if name == "scene.json":
            return _json(_description(self.scene))
        if name == "tile.json":
            return self._tile_at(query)
        return self._tiles(name)

    def _tile_at(self, query: str) -> Response | None:
        try:
            x, y = (float(parse_qs(query)[axis][0]) for axis in "xy")
        except (KeyError, ValueError):
            return None
        return _json(self.scene.tile_at(x, y))

    def _tiles(self, name: str) -> Response | None:
        if (match := _DZI.fullmatch(name)) and self._has(match[1]):
            return _dzi(self.scene, "jpeg" if match[1] == "slide" else "png").encode(), "application/xml"
        match = _PICTURE.fullmatch(name)
        if not match or not self._has(match[1]) or (match[5] == "jpeg") != (match[1] == "slide"):
            return None
        box = self.scene.box(*(int(number) for number in match.group(2, 3, 4)))
        if box is None:
            return None
        if match[1] == "slide":
            return _encoded(self.scene.slide(box), ".jpeg"), "image/jpeg"
        return _encoded(self.scene.layer(match[1], box), ".png"), "image/png"

    def _has(self, name: str) -> bool:
        return name == "slide" or name in self.scene.layers


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        """Response one request."""
        if self.headers.get("Host", "") not in self.server.hosts:
            self._send(403, b"open the address that mcti view printed\n", "text/plain; charset=utf-8")
            return
        url = urlsplit(self.path)
        response = self.server.respond(url.path, url.query)
        if response is None:
            self._send(404, b"not found\n", "text/plain; charset=utf-8")
        else:
            self._send(200, *response)

    def _send(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": content_type, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def handle_one_request(self) -> None:
        """Handle a request; a browser that closes the connection early is no error."""
        try:
            super().handle_one_request()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: addresses contain the token."""

    def version_string(self) -> str:
        """State no version numbers."""
        return "mcti"


def _description(scene: Scene) -> dict[str, Any]:
    info, scores = scene.info, scene.scores
    legend = None
    if scores is not None:
        low, high = scores.limits
        legend = {"name": scores.name, "low": low, "high": high, "colours": scores.palette()[::15].tolist()}
    return {
        "name": scene.name,
        "width": info.width,
        "height": info.height,
        "mpp": info.mpp[0],
        "layers": scene.layers,
        "legend": legend,
    }


def _dzi(scene: Scene, image_format: str) -> str:
    size = f'<Size Width="{scene.info.width}" Height="{scene.info.height}"/>'
    image = f'<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="{image_format}"'
    image += f' Overlap="0" TileSize="{TILE}">'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{image}{size}</Image>\n'


def _json(value: object) -> Response:
    return json.dumps(value, allow_nan=False).encode(), "application/json"


def _encoded(picture: Pixels, suffix: str) -> bytes:
    import cv2

    encode: Callable[[Pixels], Any] = {
        ".jpeg": lambda p: cv2.imencode(suffix, cv2.cvtColor(p, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88]),
        ".png": lambda p: cv2.imencode(suffix, cv2.cvtColor(p, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_PNG_COMPRESSION, 1]),
    }[suffix]
    encoded, data = encode(np.ascontiguousarray(picture))
    assert encoded, "an array of bytes can be encoded"
    return bytes(data.tobytes())
