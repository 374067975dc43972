"""Extracts the features of one slide, or reuses the feature file of an earlier run."""

import hashlib
import json
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from mcti import pinned, storage
from mcti.errors import DataError
from mcti.params import ExtractParams
from mcti.slides import features, masks, probe, thumbnails
from mcti.slides.deadline import Deadline, DeadlineReader
from mcti.slides.encoder_protocol import Encoder
from mcti.slides.feature_store import FeatureStore, feature_path, mask_path, preview_path
from mcti.slides.manifest import SlideRow
from mcti.slides.polygons import Coverage
from mcti.slides.reader import Reader
from mcti.slides.slide_table import SlideOutcome
from mcti.slides.status import SlideError, Status
from mcti.slides.tile_blocks import BlockEncoder, check_failures
from mcti.slides.tiles import Grid, TileSource
from mcti.slides.tissue import Mask, Overview
from mcti.slides.tissue_tiles import candidate_tiles, detect_tissue, drawn_mask_path

_DRAWN_PREFIX = "coverage-2:"  # method that rasterises drawn masks; part of the key of their slides


@dataclass(frozen=True)
class ExtractionContext:
    """What all slides of a run share.

    threads         threads per slide
    cancelled       when set, no further region is read
    report_tiles    called with the number of tiles that were finished
    previous        rows of the last run's slides.csv by slide_id: faster to read than the headers of the files
    """

    params: ExtractParams
    encoder: Encoder
    store: FeatureStore
    threads: int = 1
    cancelled: threading.Event = field(default_factory=threading.Event)
    report_tiles: Callable[[int], None] = lambda _: None
    previous: Mapping[str, SlideOutcome] = field(default_factory=dict)


@dataclass(frozen=True)
class _OpenSlide:
    """A slide that is being extracted."""

    row: SlideRow
    content_id: str
    key: str
    info: probe.SlideInfo
    reader: Reader


def extract_slide(row: SlideRow, context: ExtractionContext) -> SlideOutcome:
    """Write the features of one slide to the store, unless they exist already; returns its row of slides.csv.

    A slide that was read and fails leaves no feature file. A slide that cannot be reached (an unmounted drive, a
    deleted file) keeps the features that an earlier run extracted with the same settings.
    Raises OperationalError for faults of the machine, such as a full disk: they are not faults of the slide.
    Raises ChecksumMismatch when a pinned slide has changed: no slide of that data version can be trusted.
    """
    try:
        if row.problem:
            raise SlideError(Status.READ_ERROR, row.problem)
        return _reuse_or_extract(row, context)
    except SlideError as error:
        return SlideOutcome(row.slide_id, row.patient_id, error.status.value, error.reason)
    except OSError as error:  # from reading: writing translates its errors into OperationalError
        what = storage.translate_os_error(error).what
        return SlideOutcome(row.slide_id, row.patient_id, Status.READ_ERROR.value, f"{what}: check its disk")
    except pinned.ChecksumMismatch:
        raise
    except DataError as error:  # from staging: no such object
        return SlideOutcome(row.slide_id, row.patient_id, Status.READ_ERROR.value, f"{error.what}: {error.hint}")


def _reuse_or_extract(row: SlideRow, context: ExtractionContext) -> SlideOutcome:
    store = context.store
    try:
        content_id = ":".join(filter(None, [probe.content_id(row.path), row.md5]))
    except SlideError as error:
        if _remove_unless_current(row, context):
            raise
        raise SlideError(error.status, f"{error.reason}; the features of an earlier run are kept") from error
    key = _key(row, context, content_id)
    complete = store.has_pictures(row.slide_id)
    previous = context.previous.get(row.slide_id)
    if previous is not None and complete and previous.key == key == store.read_key(row.slide_id):
        return replace(previous, patient_id=row.patient_id, processed=False)
    existing = store.read_info(row.slide_id)
    if existing is not None and existing.is_imported:
        what = f"{row.slide_id}.h5 holds features {existing.key}"
        raise SlideError(Status.READ_ERROR, what, "choose another output folder, or move the imported files")
    current = existing is not None and existing.key == key
    if existing is not None and current and complete:
        return SlideOutcome.from_file(row.slide_id, row.patient_id, existing, processed=False)
    try:
        _extract(row, context, content_id, key, pictures_only=current)
    except SlideError:
        if not current:  # the existing file belongs to other content or other settings
            store.remove_slide(row.slide_id)
        raise
    # A new file is still in the local folder, also when the store is on S3.
    written = existing if current else features.read_info(feature_path(store.folder, row.slide_id))
    assert written is not None, "a file that was just written can be read"
    return SlideOutcome.from_file(row.slide_id, row.patient_id, written, processed=True)


def _remove_unless_current(row: SlideRow, context: ExtractionContext) -> bool:
    """Delete the files of an unreachable slide, unless they were extracted with these settings; whether it deleted."""
    existing = context.store.read_info(row.slide_id)
    if existing is not None and existing.key == _key(row, context, existing.content_id):
        return False
    context.store.remove_slide(row.slide_id)
    return True


def _key(row: SlideRow, context: ExtractionContext, content_id: str) -> str:
    drawn_mask = drawn_mask_path(row.slide_id, context.params)
    digest = "" if drawn_mask is None else _DRAWN_PREFIX + hashlib.sha256(storage.read_bytes(drawn_mask)).hexdigest()
    return features.compute_key(content_id, row.mpp, context.params, context.encoder.identity, digest)


def _extract(row: SlideRow, context: ExtractionContext, content_id: str, key: str, *, pictures_only: bool) -> None:
    """Read the slide; write preview and mask and, unless `pictures_only`, the feature file."""
    params, folder = context.params, context.store.folder
    deadline = Deadline(params.slide_minutes, context.cancelled)
    with probe.local_slide(row.path, params.cache, params.cache_gib) as path:
        info = probe.examine(path, mpp=row.mpp, choice=params.reader)
        with probe.open_reader(path, info.reader) as reader:
            slide = _OpenSlide(row, content_id, key, info, DeadlineReader(reader, deadline))
            drawn_mask = drawn_mask_path(row.slide_id, params)
            view, mask = detect_tissue(slide.reader, info, params, drawn_mask)
            _write_pictures(folder, row.slide_id, view, mask)
            if not pictures_only:
                _write_features(slide, context, view, mask)


def _write_pictures(folder: Path, slide_id: str, view: Overview, mask: Mask | Coverage) -> None:
    covered = masks.mostly_covered(mask)
    thumbnails.write(preview_path(folder, slide_id), view.picture, covered)
    document = json.dumps(masks.to_geojson(covered, view), separators=(",", ":"))
    storage.write_text(mask_path(folder, slide_id), document + "\n")


def _write_features(slide: _OpenSlide, context: ExtractionContext, view: Overview, mask: Mask | Coverage) -> None:
    params, info, folder = context.params, slide.info, context.store.folder
    grid = Grid.for_slide(info.width, info.height, info.mpp, params.resolution, params.tile, params.overlap)
    tiles = candidate_tiles(view, mask, grid, params)
    checkpoints = folder / f".{slide.row.slide_id}.{slide.key[:16]}.blocks"
    source = TileSource(slide.reader, grid)
    encoder = BlockEncoder(source, context.encoder, params, checkpoints, context.report_tiles)
    try:
        blocks = encoder.encode(tiles, context.threads)
        check_failures(blocks, len(tiles), params)
        features.write(
            feature_path(folder, slide.row.slide_id),
            (block.load() for block in blocks),
            context.encoder.width,
            params.dtype,
            features.file_attributes(slide.content_id, info, params, context.encoder.identity, slide.key),
            features.grid_attributes(slide.row.slide_id, info, params, grid),
        )
    finally:  # after an interruption or a full disk, the next run continues with the finished blocks
        if sys.exception() is None or isinstance(sys.exception(), SlideError):
            shutil.rmtree(checkpoints, ignore_errors=True)


@contextmanager
def single_threaded_opencv() -> Iterator[None]:
    """Turn off OpenCV's own threads: extraction uses one thread per core, and each picture is small."""
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
