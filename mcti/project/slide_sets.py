"""What `mcti init` reads from slides and ready-made features: the table of slides, the format, and what files state."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mcti.cohort.assembly import SLIDE_SUFFIXES, slide_name
from mcti.cohort.layouts import patient_from_barcode
from mcti.errors import DataError, MctiError
from mcti.project import column_names, foreign_tables
from mcti.slides import exchange, feature_import, features
from mcti.slides.feature_sets.entries import SetEntry
from mcti.slides.portable import MissingMpp, PortableFeatures

_SLIDE_NAMES = ("slide_id", "slide", "slide_name", "filename", "file_name", "file", "image", "image_id", "wsi")
_PATH_NAMES = ("path", "slide_path", "file_path", "location")
_ANY_MPP = 0.25
_FORMATS = ("trident", "stamp", "slide2vec", "h5", "npy", "parquet")


@dataclass(frozen=True)
class SlidesProposal:
    """The table of slides: patients, slides, the table to be written (None: the source can be used), and why."""

    patients: tuple[str, ...]
    slides: int
    table: pd.DataFrame | None
    changes: tuple[str, ...]


@dataclass(frozen=True)
class FeaturesProposal:
    """Settings of `extract.import`, the number of entries, and the names of their slides."""

    settings: dict[str, object]
    names: tuple[str, ...]
    width: int


def propose_table(location: str, patients: Collection[str]) -> SlidesProposal:
    """The table of slides of a table, or of a folder of slide files whose names start with the patient.

    Raises DataError when it has no column of slides, or no slide belongs to a patient.
    """
    if Path(location).is_dir():
        files = sorted(p for p in Path(location).rglob("*") if p.suffix.casefold() in SLIDE_SUFFIXES and p.is_file())
        if not files:
            hint = f"name the folder of the slide files ({', '.join(sorted(SLIDE_SUFFIXES))}), or a table of slides"
            raise DataError("the folder has no slide file", location, hint)
        table = of_names({slide_name(p.name): str(p.resolve()) for p in files}, patients, location)
        return SlidesProposal(tuple(table["patient_id"]), len(table), table, (f"the {len(table)} files of {location}",))
    source = foreign_tables.read(location)
    frame, changes = source.frame, source.differences
    plain = {column_names.plain(str(name)): str(name) for name in frame.columns}
    sources = {"patient_id": column_names.guess(frame.columns).get("patient_id")}
    sources["slide_id"] = next((plain[name] for name in _SLIDE_NAMES if name in plain), None)
    sources["path"] = next((plain[name] for name in _PATH_NAMES if name in plain), None)
    for name in ("patient_id", "slide_id"):
        if sources[name] is None:
            hint = f"write columns patient_id and slide_id; the columns are {', '.join(map(str, frame.columns[:8]))}"
            raise DataError(f"no column has a known name of {name}", location, hint)
    renamed = {source: name for name, source in sources.items() if source is not None and source != name}
    frame, changes = (
        frame.rename(columns=renamed),
        (*changes, *(f"{name}: the column {old}" for old, name in renamed.items())),
    )
    if changes and "path" in frame.columns:  # the converted table is in another folder
        folder = Path(location).resolve().parent
        frame["path"] = [str(folder / path) if path and "://" not in path else path for path in frame["path"]]
    return SlidesProposal(tuple(frame["patient_id"]), len(frame), frame if changes else None, changes)


def of_names(slides: dict[str, str], patients: Collection[str], where: str) -> pd.DataFrame:
    """Patient, slide and path of each slide (one row per slide), from the names: the longest patient id that starts it.

    A name without one has the patient of its TCGA barcode.

    Raises DataError when no slide belongs to a patient.
    """
    rows = []
    for name, path in slides.items():
        starts = [p for p in patients if name == p or (name.startswith(p) and not name[len(p)].isalnum())]
        patient = max(starts, key=len, default=patient_from_barcode(name))
        if patient in patients:
            rows.append({"patient_id": patient, "slide_id": name, **({"path": path} if path else {})})
    if not rows:
        what = f"no file name starts with a patient of the clinical table ({min(slides, default='no file')!r})"
        raise DataError(what, where, "write a table with the columns patient_id and slide_id: --slides TABLE")
    return pd.DataFrame(rows)


def propose_features(path: str, stated: dict[str, object]) -> FeaturesProposal:
    """Format, encoder, resolution and patch size of a set of features: as stated, else as its first file states them.

    Raises DataError when no format fits.
    """
    root = Path(path)
    if not root.exists():
        raise DataError("no such file or folder", path, "check the path of --features")
    if root.suffix.lower() == ".zip":
        raise DataError("features in an archive", path, f"unpack it: python -m zipfile -e {root.name} features")
    formats = [str(stated["format"])] if "format" in stated else _candidates(root)
    reasons = []
    for name in formats:
        try:
            entries = exchange.find_entries(root, name)
            first = _first(entries[0])
        except MctiError as error:
            reasons.append(f"{name}: {error.what}")
            continue
        known = feature_import.stated_values(first)
        settings = {"format": name, "path": path, "encoder": known.get("encoder", "unknown")}
        settings |= {"mpp": known.get("target_mpp", "unknown"), "patch_size": known.get(features.PATCH_SIZE, "unknown")}
        return FeaturesProposal(
            settings | stated, tuple(entry.name for entry in entries), int(first.features.shape[-1])
        )
    raise DataError(
        f"no format fits ({'; '.join(reasons[:3])})", path, "state it: --features-format NAME (docs/slides.md)"
    )


def _first(entry: SetEntry) -> PortableFeatures:
    try:
        return entry.read(None)
    except MissingMpp:  # tiles in µm: encoder and sizes do not depend on the resolution of the slide
        return entry.read(_ANY_MPP)


def _candidates(root: Path) -> list[str]:
    """The formats that the names of the files allow."""
    if root.is_dir() and any((root / name).is_dir() for name in ("h5_files", "pt_files")):
        return ["clam"]
    names = {p.suffix.casefold() for p in ([root] if root.is_file() else root.rglob("*")) if p.is_file()}
    if names & {".h5", ".hdf5"}:
        return ["trident", "stamp", "h5"]
    if names & {".pt", ".pth"}:
        return ["slide2vec", "pt"] if (root / "coordinates").is_dir() else ["pt"]
    return [name for name in _FORMATS if f".{name}" in names] or ["npy"]
