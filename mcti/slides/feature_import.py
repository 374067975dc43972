"""Ready-made features of one slide as a file of the feature store (`extract.source: import`)."""

import hashlib
import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from mcti import pinned, storage
from mcti.errors import DataError, UsageError
from mcti.params import ExtractParams, ImportParams, from_json
from mcti.params.result_settings import result_text
from mcti.slides import exchange, features
from mcti.slides.exchange import PortableFeatures
from mcti.slides.feature_source import FeatureSource
from mcti.slides.feature_store import FeatureStore, feature_path
from mcti.slides.manifest import SlideRow
from mcti.slides.slide_table import SlideOutcome
from mcti.slides.status import SlideError, Status

KEY_PREFIX = "import:"
"""First characters of the key of features that `mcti extract` imported. It can import them again."""
UNKNOWN = "unknown"
MAX_MPP_DIFFERENCE = 0.1
"""Relative difference of two resolutions that count as equal: scanners of one magnification differ by up to 8 %."""


def import_slide(row: SlideRow, source: FeatureSource, params: ImportParams, store: FeatureStore) -> SlideOutcome:
    """Write the ready-made features of one slide to the store, unless they exist already; its row of slides.csv.

    A slide without a file, with a broken file or with contradictory features leaves no feature file.
    Raises OperationalError for faults of the machine, UsageError for a setting that fits no slide.
    """
    try:
        if row.problem:
            raise SlideError(Status.READ_ERROR, row.problem)
        return _reuse_or_import(row, source, params, store)
    except (UsageError, pinned.ChecksumMismatch):
        raise
    except SlideError as error:
        return SlideOutcome(row.slide_id, row.patient_id, error.status.value, error.reason)
    except DataError as error:  # of the reader: the file is broken
        store.remove_imported(row.slide_id)
        reason = f"{error.what}: {error.hint}"
        return SlideOutcome(row.slide_id, row.patient_id, Status.READ_ERROR.value, reason)


def compute_key(versions: dict[str, str], mpp: float | None, params: ImportParams) -> str:
    """The key of imported features: SHA-256 over the files, the mpp of the manifest and the settings.

    versions    of the slide's files by name. The address of the folder is left out: a copy gives the same features.
    """
    settings = params.model_dump(mode="json", exclude={"path"})
    parts = [features.SCHEMA_VERSION, settings, mpp, versions]
    return KEY_PREFIX + hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _reuse_or_import(row: SlideRow, source: FeatureSource, params: ImportParams, store: FeatureStore) -> SlideOutcome:
    existing = store.read_info(row.slide_id)
    if existing is not None and existing.is_imported:
        what = f"{row.slide_id}.h5 holds features {existing.key} by `mcti features import`"
        raise SlideError(Status.READ_ERROR, what, "choose another output folder, or move these files")
    if row.slide_id not in source.names:
        store.remove_imported(row.slide_id)
        what = "no file of features is named after the slide"
        raise SlideError(Status.NO_FEATURES, what, "add its file to extract.import.path, or delete the row")
    versions = {name: source.version(name) for name in source.names[row.slide_id]}
    key = compute_key(versions, row.mpp, params)
    if existing is not None and existing.key == key:
        return SlideOutcome.from_file(row.slide_id, row.patient_id, existing, processed=False)
    store.remove_slide(row.slide_id)  # pictures and features of an extraction
    slide = _declared(_read(row, source, params), params)
    target = feature_path(store.folder, row.slide_id)
    exchange.to_store(replace(slide, attributes={**slide.attributes, "key": key}), target, params.format)
    written = features.read_info(target)
    assert written is not None, "a file that was just written can be read"
    return SlideOutcome.from_file(row.slide_id, row.patient_id, written, processed=True)


def _read(row: SlideRow, source: FeatureSource, params: ImportParams) -> PortableFeatures:
    """The features of a slide from a folder with its files only: one reader serves single slides and whole sets."""
    with tempfile.TemporaryDirectory(prefix="mcti-import-") as scratch:
        source.stage(row.slide_id, Path(scratch))
        try:
            slides = [s for s in exchange.read_set(Path(scratch), params.format, row.mpp) if s.slide_id == row.slide_id]
        except DataError as error:
            where = error.where.removeprefix(scratch).lstrip("/")
            raise DataError(f"{error.what} ({where})" if where else error.what, source.location, error.hint) from error
        except UsageError as error:
            if row.mpp is not None or params.format != "stamp":
                raise
            hint = "enter mpp (µm/px of level 0) in the table of slides"
            raise SlideError(Status.MISSING_MPP, "STAMP stores coordinates in µm", hint) from error
    if not slides:
        raise DataError(f"no {params.format} features of the slide", source.location, "check extract.import.format")
    return slides[0]


def _declared(slide: PortableFeatures, params: ImportParams) -> PortableFeatures:
    """The slide with the encoder, resolution and patch size of the settings, where they state them.

    Raises SlideError when the file states another value.
    """
    stated = _stated(slide)
    declared = {"encoder": params.encoder, "target_mpp": params.mpp, features.PATCH_SIZE: params.patch_size}
    for name, value in declared.items():
        if value != UNKNOWN and name in stated and not _agree(value, stated[name]):
            key = {"target_mpp": "mpp", features.PATCH_SIZE: "patch_size"}.get(name, name)
            what = f"the file states {key} {stated[name]}, extract.import.{key} is {value}"
            raise SlideError(Status.CONFLICTING_FEATURES, what, "correct the setting, or remove the file")
    known = {name: value for name, value in declared.items() if value != UNKNOWN}
    return replace(slide, attributes={**slide.attributes, **stated, **known})


def _stated(slide: PortableFeatures) -> dict[str, Any]:
    """What the file itself states of encoder (name), resolution (µm/px) and patch size (pixels at that resolution)."""
    attributes, grid = slide.attributes, slide.grid
    stated: dict[str, Any] = {}
    if str(attributes.get("encoder", UNKNOWN)) != UNKNOWN:
        stated["encoder"] = str(attributes["encoder"])
    size = int(attributes.get(features.PATCH_SIZE) or grid.get("patch_size") or 0)
    if size:
        stated[features.PATCH_SIZE] = size
    mpp = _stated_mpp(attributes, grid, size)
    return stated if mpp is None else {**stated, "target_mpp": mpp}


def _stated_mpp(attributes: dict[str, Any], grid: dict[str, Any], size: int) -> float | None:
    """µm/px of the patches: as recorded, or the edge of a patch in µm by its edge in pixels."""
    if math.isfinite(recorded := float(attributes.get("target_mpp", math.nan))):
        return recorded
    level0, edge = float(attributes.get("mpp_x", math.nan)), float(grid.get("patch_size_level0") or math.nan)
    mpp = edge * level0 / size if size else math.nan
    return round(mpp, 4) if math.isfinite(mpp) else None


def _agree(declared: object, stated: object) -> bool:
    if isinstance(declared, str) or isinstance(stated, str):
        return str(declared).casefold() == str(stated).casefold()
    if isinstance(declared, float) or isinstance(stated, float):
        return abs(float(declared) - float(stated)) <= MAX_MPP_DIFFERENCE * float(declared)  # type: ignore[arg-type]
    return declared == stated


def cache_text(text: str) -> str:
    """The section `extract` (JSON text) as part of a cache key: with the versions of the ready-made features.

    Raises DataError when there is no such folder of features, UsageError when the text is no such section.
    """
    kept = result_text("extract", text)
    params = from_json(ExtractParams, text, "parameter extract") if text else ExtractParams()
    if params.source == "slides" or params.import_ is None:
        return kept
    source = FeatureSource.open(params.import_.path)
    return kept + storage.to_json({name: source.version(name) for name in source.versions})
