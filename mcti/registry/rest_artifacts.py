"""Files that an MLflow server keeps for its clients (`mlflow-artifacts:` addresses): list, download and upload.

Files at any other address (a bucket that the client itself must reach) are for MLflow's own client.
"""

import posixpath
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

from mcti.errors import DataError
from mcti.registry.rest import Server

_ENDPOINT = "/api/2.0/mlflow-artifacts/artifacts"
_CHUNK = 1 << 20
_THREADS = 8  # a small file takes the time of its request


@dataclass(frozen=True)
class Artifact:
    """A file or folder; path: relative to the run or version."""

    path: str
    is_dir: bool
    file_size: int | None


class Artifacts:
    """The files at the server; `root` is the address of the files of a run or of a version."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def serves(self, root: str) -> bool:
        """Whether this server has the files: an address without a host, or with its host."""
        parts = urlsplit(root)
        return parts.scheme == "mlflow-artifacts" and parts.netloc in ("", urlsplit(self._server.uri).netloc)

    def listed(self, root: str, path: str) -> list[Artifact]:
        """The files and folders directly below `path`; none where it is a file, or does not exist."""
        response = self._server.send("GET", _ENDPOINT, params={"path": _key(root, path)})
        items = [_artifact(item, path) for item in response.json().get("files", ())]
        is_file = len(items) == 1 and not items[0].is_dir and items[0].path == _join(path, posixpath.basename(path))
        return [] if is_file else sorted(items, key=lambda item: item.path)

    def download(self, root: str, path: str, out: Path) -> Path:
        """The file or folder at `path`, copied into the folder `out` under its name.

        Raises ApiError when there is no such file.
        """
        target = out / posixpath.basename(path)
        items = self.listed(root, path)
        if items:
            self._download_all(root, items, target)
        else:
            self._download_file(root, path, target)
        return target

    def download_folder(self, root: str, path: str, out: Path) -> Path:
        """As `download` of a folder; a folder that does not exist is an empty one."""
        target = out / posixpath.basename(path)
        self._download_all(root, self.listed(root, path), target)
        return target

    def upload_files(self, root: str, files: Mapping[str, Path]) -> None:
        """Write local files, several at a time: {path at the server: file}."""
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda path, file: self._upload_file(root, path, file), files, files.values()))

    def _upload_file(self, root: str, path: str, file: Path) -> None:
        with file.open("rb") as content:
            # An empty file would be sent in chunks of unknown number.
            self.upload(root, path, content if file.stat().st_size else b"")

    def upload(self, root: str, path: str, content: bytes | BinaryIO) -> None:
        """Write a file at `path`."""
        headers = {"Content-Type": "application/octet-stream"}
        self._server.send("PUT", f"{_ENDPOINT}/{quote(_key(root, path))}", data=content, headers=headers)

    def _download_all(self, root: str, items: list[Artifact], target: Path) -> None:
        """Copy files and folders; the list of their folder states what each is, so that only folders are listed."""
        target.mkdir(parents=True, exist_ok=True)
        for item in items:
            if item.is_dir:
                self.download_folder(root, item.path, target)
            else:
                self._download_file(root, item.path, target / posixpath.basename(item.path))

    def _download_file(self, root: str, path: str, target: Path) -> None:
        """Copy a file in chunks: weights may be larger than the memory of a task."""
        target.parent.mkdir(parents=True, exist_ok=True)
        address = f"{_ENDPOINT}/{quote(_key(root, path))}"
        with (
            self._server.send("GET", address, stream=True) as response,
            target.open("wb") as file,
            self._server.waiting(address),
        ):
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)


def _artifact(item: dict[str, Any], folder: str) -> Artifact:
    name = str(item["path"])
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or name.startswith("/"):  # a name must not lead out of the folder of the download
        raise DataError(f"the file name {name!r} leads out of its folder", "the answer of MLflow", "check the server")
    size = item.get("file_size")
    return Artifact(_join(folder, name), bool(item.get("is_dir")), None if size is None else int(size))


def _key(root: str, path: str) -> str:
    """The path of a file at the server."""
    return _join(urlsplit(root).path.strip("/"), path)


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part)
