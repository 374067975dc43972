"""The folder of a cohort's features: local, or below an `s3://` address.

For S3, slides are processed in a local folder, and the files of each slide are uploaded when they are complete.
"""

import hashlib
import shutil
import tempfile
from pathlib import Path, PurePosixPath

from mcti import s3, storage
from mcti.slides import features
from mcti.storage import Location


def open_store(out: Location, shard_suffix: str, cache: str | None) -> "FeatureStore":
    """The store at a path or an `s3://` address.

    shard_suffix    keeps the local folders of the shards of one address apart
    cache           parent of the local folder of an S3 store; None: the system's temporary folder
    Raises OperationalError when the folder cannot be created or S3 does not answer.
    """
    return S3FeatureStore(str(out), shard_suffix, cache) if storage.is_s3(out) else FeatureStore(Path(out))


def feature_path(folder: Path, slide_id: str) -> Path:
    """The feature file of a slide."""
    return folder / f"{slide_id}.h5"


def preview_path(folder: Path, slide_id: str) -> Path:
    """The JPEG preview of a slide."""
    return folder / "previews" / f"{slide_id}.jpg"


def mask_path(folder: Path, slide_id: str) -> Path:
    """The GeoJSON tissue mask of a slide."""
    return folder / "masks" / f"{slide_id}.geojson"


class FeatureStore:
    """A local folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with storage.translating_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def location(self, name: str) -> str:
        """Path or address of a file of the store, as other processes see it."""
        return str(self.folder / name)

    def read_info(self, slide_id: str) -> features.FeatureFileInfo | None:
        """The facts of a slide's feature file; None when there is none, or it is broken."""
        return features.read_info(feature_path(self.folder, slide_id))

    def read_key(self, slide_id: str) -> str:
        """The key of a slide's feature file; empty when there is none."""
        return features.read_key(feature_path(self.folder, slide_id))

    def exists(self, path: Path) -> bool:
        """Whether the store has the file at this path below `folder`."""
        return path.exists()

    def has_pictures(self, slide_id: str) -> bool:
        """Whether preview and mask of a slide exist."""
        return all(self.exists(path(self.folder, slide_id)) for path in (preview_path, mask_path))

    def publish(self, slide_id: str) -> None:
        """Make the complete files of a slide visible in the store."""

    def remove_slide(self, slide_id: str) -> None:
        """Delete the files that extraction wrote for a slide; features of another tool stay."""
        for path in self._extracted_files(slide_id):
            self._remove(path)

    def remove_imported(self, slide_id: str) -> None:
        """Delete the feature file of a slide whose ready-made features do not exist any more."""
        self._remove(feature_path(self.folder, slide_id))

    def download(self, pattern: str) -> None:
        """Make files that match a pattern available in `folder`."""

    def publish_tables(self, *, merged: bool = False) -> None:
        """Make the tables and contact sheets visible; remove old sheets and, if `merged`, the tables of shards."""

    def close(self) -> None:
        """Remove temporary copies."""

    def _extracted_files(self, slide_id: str) -> list[Path]:
        """The files of a slide that extraction wrote."""
        pictures = [preview_path(self.folder, slide_id), mask_path(self.folder, slide_id)]
        info = self.read_info(slide_id)
        extracted = info is not None and not info.is_imported
        return [*pictures, *([feature_path(self.folder, slide_id)] if extracted else [])]

    def _remove(self, path: Path) -> None:
        storage.remove(path)


class S3FeatureStore(FeatureStore):
    """The objects below an `s3://` address, and the local folder in which slides are processed.

    The name of the folder is derived from the address: after a kill the next run finds the finished blocks in it.
    """

    def __init__(self, address: str, shard_suffix: str, cache: str | None) -> None:
        self.address = address.rstrip("/")
        digest = hashlib.sha256(f"{self.address}\n{shard_suffix}".encode()).hexdigest()[:16]
        super().__init__(Path(cache or tempfile.gettempdir(), f"mcti-extract-{digest}"))
        self._names = {name.removeprefix(self.address + "/") for name in storage.addresses(self.address + "/")}

    def location(self, name: str) -> str:
        """See FeatureStore."""
        return storage.join(self.address, name)

    def read_info(self, slide_id: str) -> features.FeatureFileInfo | None:
        """See FeatureStore. Only the header is downloaded."""
        name = self._name(feature_path(self.folder, slide_id))
        if name not in self._names:
            return None
        with s3.stream(self.location(name)) as stream:
            return features.read_info(stream)

    def read_key(self, slide_id: str) -> str:
        """See FeatureStore."""
        info = self.read_info(slide_id)
        return "" if info is None else info.key

    def exists(self, path: Path) -> bool:
        """See FeatureStore."""
        return self._name(path) in self._names

    def publish(self, slide_id: str) -> None:
        """See FeatureStore. The feature file is uploaded last and its local copy deleted."""
        for path in (preview_path, mask_path, feature_path):
            if path(self.folder, slide_id).exists():
                self._upload(path(self.folder, slide_id))
        storage.remove(feature_path(self.folder, slide_id))

    def download(self, pattern: str) -> None:
        """See FeatureStore."""
        for name in sorted(self._names):
            path = self.folder / name
            if PurePosixPath(name).match(pattern) and not path.exists():
                with storage.translating_os_errors(path):
                    path.parent.mkdir(parents=True, exist_ok=True)
                storage.download(self.location(name), path.parent)

    def publish_tables(self, *, merged: bool = False) -> None:
        """See FeatureStore."""
        written = [path for path in self.folder.iterdir() if path.is_file() and not path.name.startswith(".")]
        for path in written:
            self._upload(path)
        sheets = {path.name for path in written if path.name.startswith("contact-sheet-")}
        for name in sorted(self._names):
            old_sheet = bool(sheets) and name.startswith("contact-sheet-") and name not in sheets
            if old_sheet or (merged and name.startswith("slides-")):
                storage.remove(self.location(name))

    def close(self) -> None:
        """See FeatureStore."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _remove(self, path: Path) -> None:
        storage.remove(path)
        if (name := self._name(path)) in self._names:
            storage.remove(self.location(name))
            self._names.remove(name)

    def _upload(self, path: Path) -> None:
        name = self._name(path)
        storage.upload(path, self.location(name))
        self._names.add(name)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()
