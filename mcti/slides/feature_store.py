"""Where the features of a cohort lie: a local folder, or S3.

On S3, slides are worked on in a local folder, and each one goes up when it is whole.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from mcti import s3, storage
from mcti.slides import features
from mcti.slides.extraction import companions
from mcti.storage import Location


def at(out: Location, part: str, cache: str | None) -> "Store":
    """The store at a path or an address; `part` tells the shards of one address apart."""
    return RemoteStore(str(out), part, cache) if storage.is_s3(out) else Store(Path(out))


class Store:
    """A local folder: what is written there is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with storage.translating_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def beside(self, name: str) -> str:
        """Where a file that is no result lies, for others to see."""
        return str(self.folder / name)

    def known(self, path: Path) -> features.Stored | None:
        """What the feature file at a path in `folder` says of itself."""
        return features.stored(path)

    def key(self, path: Path) -> str:
        """The key that the feature file at a path in `folder` states; empty when there is none."""
        return features.stored_key(path)

    def there(self, path: Path) -> bool:
        """Whether the file at a path in `folder` is there."""
        return path.exists()

    def publish(self, slide_id: str) -> None:
        """A slide is whole."""

    def forget(self, slide_id: str) -> None:
        """Take away what extraction wrote for a slide; what others put there under its name stays."""
        for path in _ours(self.folder, slide_id, self.known):
            storage.remove(path)

    def fetch(self, pattern: str) -> None:
        """Bring small files of a pattern into `folder`."""

    def mirror(self, *, parts: bool = False) -> None:
        """The tables are written; take away old contact sheets, and the tables of shards (`parts`)."""

    def close(self) -> None:
        """All is done."""


class RemoteStore(Store):
    """The objects below an `s3://` address, and the local folder that work is done in.

    The folder's name follows from the address, so a run that was killed goes on with the blocks it left there.
    """

    def __init__(self, address: str, part: str, cache: str | None) -> None:
        self.address = address.rstrip("/")
        word = hashlib.sha256(f"{self.address}\n{part}".encode()).hexdigest()[:16]
        super().__init__(Path(cache or tempfile.gettempdir(), f"mcti-extract-{word}"))
        found = storage.addresses(self.address + "/")
        self._names = {name.removeprefix(self.address + "/") for name in found}

    def beside(self, name: str) -> str:
        """See Store."""
        return storage.join(self.address, name)

    def known(self, path: Path) -> features.Stored | None:
        """See Store; only the header is fetched."""
        name = self._name(path)
        if name not in self._names:
            return None
        with s3.stream(storage.join(self.address, name)) as stream:
            return features.stored(stream)

    def key(self, path: Path) -> str:
        """See Store."""
        known = self.known(path)
        return "" if known is None else known.key

    def there(self, path: Path) -> bool:
        """See Store."""
        return self._name(path) in self._names

    def publish(self, slide_id: str) -> None:
        """See Store: previews go up first, so who sees the features sees the rest; the local copy goes."""
        for path in (*companions(self.folder, slide_id), self.folder / f"{slide_id}.h5"):
            if path.exists():
                self._send(path)
        storage.remove(self.folder / f"{slide_id}.h5")

    def forget(self, slide_id: str) -> None:
        """See Store."""
        for path in _ours(self.folder, slide_id, self.known):
            storage.remove(path)
            if (name := self._name(path)) in self._names:
                storage.remove(storage.join(self.address, name))
                self._names.remove(name)

    def fetch(self, pattern: str) -> None:
        """See Store."""
        for name in sorted(self._names):
            path = self.folder / name
            if PurePosixPath(name).match(pattern) and not path.exists():
                with storage.translating_os_errors(path):
                    path.parent.mkdir(parents=True, exist_ok=True)
                storage.download(storage.join(self.address, name), path.parent)

    def mirror(self, *, parts: bool = False) -> None:
        """See Store."""
        written = [path for path in self.folder.iterdir() if path.is_file() and not path.name.startswith(".")]
        for path in written:
            self._send(path)
        sheets = {path.name for path in written if path.name.startswith("contact-sheet-")}
        for name in sorted(self._names):
            old_sheet = bool(sheets) and name.startswith("contact-sheet-") and name not in sheets
            if old_sheet or (parts and name.startswith("slides-")):
                storage.remove(storage.join(self.address, name))

    def close(self) -> None:
        """See Store."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _send(self, path: Path) -> None:
        name = self._name(path)
        storage.upload(path, storage.join(self.address, name))
        self._names.add(name)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def _ours(folder: Path, slide_id: str, known: Callable[[Path], features.Stored | None]) -> list[Path]:
    """Where extraction writes for a slide; without the features when another tool made them."""
    target = folder / f"{slide_id}.h5"
    stored = known(target)
    made_here = stored is not None and not stored.imported
    return [*companions(folder, slide_id), *([target] if made_here else [])]
