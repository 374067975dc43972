"""The page of a scene over HTTP, for this machine alone.

It listens on 127.0.0.1, answers GET for a handful of exact addresses below a secret word (other users of the machine
do not know it), refuses other Host names (a page elsewhere cannot reach it by renaming itself), and reads no file that
a request names: there is no path to traverse.
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

Answer = tuple[bytes, str]


class Server(ThreadingHTTPServer):
    """A scene on a port of the loopback device; port 0 takes a free one."""

    daemon_threads = True

    def __init__(self, scene: Scene, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.scene, self._word = scene, secrets.token_urlsafe(12)
        number = self.server_address[1]
        self.hosts = {f"127.0.0.1:{number}", f"localhost:{number}"}

    @property
    def url(self) -> str:
        """The address to open."""
        return f"http://127.0.0.1:{self.server_address[1]}/{self._word}/"

    def answer(self, path: str, query: str) -> Answer | None:
        """Body and type of what stands at a path; None when there is nothing."""
        prefix = f"/{self._word}/"
        if not secrets.compare_digest(path[: len(prefix)].encode(), prefix.encode()):
            return None
        name = path[len(prefix) :]
        if name in _STATIC:
            file, kind = _STATIC[name]
            return files("mcti.slides.viewer").joinpath(file).read_bytes(), kind
        if name == "scene.json":
            return _json(_description(self.scene))
        if name == "at.json":
            return self._at(query)
        return self._tiles(name)

    def _at(self, query: str) -> Answer | None:
        try:
            x, y = (float(parse_qs(query)[axis][0]) for axis in "xy")
        except (KeyError, ValueError):
            return None
        return _json(self.scene.at(x, y))

    def _tiles(self, name: str) -> Answer | None:
        if (found := _DZI.fullmatch(name)) and self._has(found[1]):
            return _dzi(self.scene, "jpeg" if found[1] == "slide" else "png").encode(), "application/xml"
        found = _PICTURE.fullmatch(name)
        if not found or not self._has(found[1]) or (found[5] == "jpeg") != (found[1] == "slide"):
            return None
        box = self.scene.box(*(int(number) for number in found.group(2, 3, 4)))
        if box is None:
            return None
        if found[1] == "slide":
            return _encoded(self.scene.slide(box), ".jpeg"), "image/jpeg"
        return _encoded(self.scene.layer(found[1], box), ".png"), "image/png"

    def _has(self, name: str) -> bool:
        return name == "slide" or name in self.scene.layers


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        """Answer one request."""
        if self.headers.get("Host", "") not in self.server.hosts:
            self._send(403, b"open the address that mcti view printed\n", "text/plain; charset=utf-8")
            return
        parts = urlsplit(self.path)
        found = self.server.answer(parts.path, parts.query)
        if found is None:
            self._send(404, b"there is nothing here\n", "text/plain; charset=utf-8")
        else:
            self._send(200, *found)

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def handle_one_request(self) -> None:
        """A browser that leaves in the middle of a picture is no error."""
        try:
            super().handle_one_request()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: the addresses of a session are nobody's business."""

    def version_string(self) -> str:
        """No versions to strangers."""
        return "mcti"


def _description(scene: Scene) -> dict[str, Any]:
    facts, scores = scene.facts, scene.scores
    legend = None
    if scores is not None:
        low, high = scores.limits
        legend = {"name": scores.name, "low": low, "high": high, "colours": scores.palette()[::15].tolist()}
    return {
        "name": scene.name,
        "width": facts.width,
        "height": facts.height,
        "mpp": facts.mpp[0],
        "layers": scene.layers,
        "legend": legend,
    }


def _dzi(scene: Scene, form: str) -> str:
    size = f'<Size Width="{scene.facts.width}" Height="{scene.facts.height}"/>'
    image = f'<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="{form}" Overlap="0" TileSize="{TILE}">'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{image}{size}</Image>\n'


def _json(value: object) -> Answer:
    return json.dumps(value, allow_nan=False).encode(), "application/json"


def _encoded(picture: Pixels, suffix: str) -> bytes:
    import cv2

    way: Callable[[Pixels], Any] = {
        ".jpeg": lambda p: cv2.imencode(suffix, cv2.cvtColor(p, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88]),
        ".png": lambda p: cv2.imencode(suffix, cv2.cvtColor(p, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_PNG_COMPRESSION, 1]),
    }[suffix]
    whole, data = way(np.ascontiguousarray(picture))
    assert whole, "a picture of bytes encodes"
    return bytes(data.tobytes())
