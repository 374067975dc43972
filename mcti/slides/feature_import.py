"""Ready-made features of one slide as a file of the feature store (`extract.source: import`)."""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from mcti import pinned, storage
from mcti.errors import DataError
from mcti.params import ExtractParams, ImportParams, from_json
from mcti.params.result_settings import result_text
from mcti.slides import exchange, features
from mcti.slides.feature_sets.checks import SetFacts, check_set
from mcti.slides.feature_sets.entries import SetEntry
from mcti.slides.feature_source import FeatureSource, file_version, list_versions
from mcti.slides.feature_store import FeatureStore, feature_path
from mcti.slides.manifest import ListedSlide
from mcti.slides.portable import MissingMpp, PortableFeatures
from mcti.slides.slide_table import SlideOutcome
from mcti.slides.status import SlideError, Status
from mcti.storage import Location

KEY_PREFIX = "import:"
"""First characters of the key of features that `mcti extract` imported. It can import them again."""
UNKNOWN = "unknown"
MAX_MPP_DIFFERENCE = 0.1
"""Relative difference of two resolutions that count as equal: scanners of one magnification differ by up to 8 %."""


def import_slide(
    entry: SetEntry, row: ListedSlide, source: FeatureSource, params: ImportParams, store: FeatureStore
) -> SlideOutcome:
    """Write the ready-made features of one slide to the store, unless they exist already; its row of slides.csv.

    row     slide_id: name in the store, of a patient where the entry stands for all slides of the patient
    A slide with a broken file or with contradictory features leaves no feature file.
    Raises OperationalError for faults of the machine.
    """
    try:
        return _reuse_or_import(entry, row, source, params, store)
    except pinned.ChecksumMismatch:
        raise
    except MissingMpp as error:
        return _failed(row, Status.MISSING_MPP, f"{error.what}: {error.hint}", store)
    except SlideError as error:
        return _failed(row, error.status, error.reason, store)
    except DataError as error:  # of the reader: the file is broken
        where = error.where.removeprefix(f"{source.root}/")
        return _failed(row, Status.READ_ERROR, f"{error.what} ({where}): {error.hint}", store)


def without_features(row: ListedSlide, store: FeatureStore) -> SlideOutcome:
    """The row of a slide without ready-made features; those of an earlier run are removed."""
    what = "no entry of the set belongs to the slide: add its file to extract.import.path, or delete the row"
    return _failed(row, Status.NO_FEATURES, what, store)


def check_imported(store: FeatureStore, slide_ids: Iterable[str]) -> None:
    """Refuse a store whose slides differ in level, width, encoder, resolution or size of the patches.

    Raises DataError with the slides that differ from the majority.
    """
    check_set([_facts(store.location(feature_path(store.folder, name).name), name) for name in slide_ids])


def _facts(location: Location, slide_id: str) -> SetFacts:
    with features.open_file(location) as file:
        values = np.empty((0, file.width), np.float32)
        return SetFacts.of(PortableFeatures(slide_id, values, file.coords(), file.grid, file.attributes, file.level))


def compute_key(versions: dict[str, str], mpp: float | None, params: ImportParams) -> str:
    """The key of imported features: SHA-256 over the files, the mpp of the table and the settings.

    versions    of the slide's files by name. The address of the folder is left out: a copy gives the same features.
    """
    settings = params.model_dump(mode="json", exclude={"path"})
    parts = [features.SCHEMA_VERSION, settings, mpp, versions]
    return KEY_PREFIX + hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _failed(row: ListedSlide, status: Status, reason: str, store: FeatureStore) -> SlideOutcome:
    existing = store.read_info(row.slide_id)
    if existing is not None and not existing.is_imported:
        store.remove_imported(row.slide_id)
    return SlideOutcome(row.slide_id, row.patient_id, status.value, reason)


def _reuse_or_import(
    entry: SetEntry, row: ListedSlide, source: FeatureSource, params: ImportParams, store: FeatureStore
) -> SlideOutcome:
    existing = store.read_info(row.slide_id)
    if existing is not None and existing.is_imported:
        what = f"{row.slide_id}.h5 holds features {existing.key} by `mcti features import`"
        raise SlideError(Status.READ_ERROR, what, "choose another output folder, or move these files")
    key = compute_key(source.version(entry), row.mpp, params)
    if existing is not None and existing.key == key:
        return SlideOutcome.from_file(row.slide_id, row.patient_id, existing, processed=False)
    with source.staged(entry):
        slide = entry.read(row.mpp)
    slide = _declared(_with_mpp(slide, row), params)
    store.remove_slide(row.slide_id)  # pictures and features of an extraction
    target = feature_path(store.folder, row.slide_id)
    named = replace(slide, slide_id=row.slide_id, attributes={**slide.attributes, "key": key})
    exchange.to_store(named, target, params.format)
    written = features.read_info(target)
    assert written is not None, "a file that was just written can be read"
    return SlideOutcome.from_file(row.slide_id, row.patient_id, written, processed=True)


def _with_mpp(slide: PortableFeatures, row: ListedSlide) -> PortableFeatures:
    """The slide with the µm/px of level 0 of its row, which precedes that of the file."""
    if row.mpp is None:
        return slide
    return replace(slide, attributes={**slide.attributes, "mpp_x": row.mpp, "mpp_y": row.mpp, "mpp_source": "manifest"})


def _declared(slide: PortableFeatures, params: ImportParams) -> PortableFeatures:
    """The slide with the encoder, resolution and patch size of the settings, where they state them.

    Raises SlideError when the file states another value.
    """
    stated = stated_values(slide)
    declared = {"encoder": params.encoder, "target_mpp": params.mpp, features.PATCH_SIZE: params.patch_size}
    for name, value in declared.items():
        if value != UNKNOWN and name in stated and not _agree(value, stated[name]):
            key = {"target_mpp": "mpp", features.PATCH_SIZE: "patch_size"}.get(name, name)
            what = f"the file states {key} {stated[name]}, extract.import.{key} is {value}"
            raise SlideError(Status.CONFLICTING_FEATURES, what, "correct the setting, or remove the file")
    known = {name: value for name, value in declared.items() if value != UNKNOWN}
    return replace(slide, attributes={**slide.attributes, **stated, **known})


def stated_values(slide: PortableFeatures) -> dict[str, Any]:
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
    path = params.import_.path
    versions = {name: file_version(path, name, version) for name, version in list_versions(path).items()}
    return kept + storage.to_json(versions)
