"""One slide to one feature file: tissue, tiles, features, in batches that do not depend on the number of threads."""

import hashlib
import json
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mcti import pinned, storage
from mcti.errors import DataError
from mcti.params import ExtractParams
from mcti.slides import features, key_revisions, masks, probe, thumbnails, tissue
from mcti.slides.deadline import Watch, Watched
from mcti.slides.encoders import Encoder
from mcti.slides.features import Block
from mcti.slides.manifest import Row
from mcti.slides.polygons import Coverage
from mcti.slides.reader import Reader
from mcti.slides.status import RegionError, SlideError, Status
from mcti.slides.tiles import Grid, TileSource, sharpness
from mcti.slides.tissue import Mask, Overview

_BATCH = 64  # tiles encoded together: part of the result for encoders that are not bitwise batch-invariant
_DRAWN = "coverage:"  # how drawn masks are rasterised; part of the key of their slides
_BLOCK = 4096  # candidate tiles between two states on disk


@dataclass(frozen=True)
class Outcome:
    """A row of slides.csv."""

    slide_id: str
    patient_id: str
    status: str
    reason: str = ""
    tiles: int = 0
    failed_tiles: int = 0
    mpp: float | None = None
    mpp_source: str = ""
    reader: str = ""
    width: int | None = None
    height: int | None = None
    key: str = ""
    fresh: bool = True


@dataclass(frozen=True)
class Around:
    """What a run lends its slides: a way to call it off, a counter of tiles, where finished features lie, how to take
    away those of a slide that gives none any more, and the rows of the run before, whose files say the same but slower.
    """

    stop: threading.Event = field(default_factory=threading.Event)
    tick: Callable[[int], None] = lambda _: None
    known: Callable[[Path], features.Stored | None] = features.stored
    there: Callable[[Path], bool] = Path.exists
    forget: Callable[[str], None] = lambda _: None
    before: Mapping[str, Outcome] = field(default_factory=dict)
    key: Callable[[Path], str] = features.stored_key


def extract_slide(
    row: Row, params: ExtractParams, encoder: Encoder, out: Path, threads: int = 1, around: Around | None = None
) -> Outcome:
    """Features of one slide to `out/<slide_id>.h5`, unless they lie there already; what became of it.

    A slide that was read and fails leaves no file. One that cannot be reached keeps the features that were made of it
    with these settings: a drive that is not mounted, or slides deleted to save space, are no reason to lose hours.
    Trouble with the machine (no room, S3 down) is raised: it is not the slide's.
    """
    try:
        if row.problem:
            raise SlideError(Status.READ_ERROR, row.problem)
        return _extract(row, params, encoder, out, threads, around or Around())
    except SlideError as error:
        return Outcome(row.slide_id, row.patient_id, error.status.value, error.reason)
    except OSError as error:  # of reading: what is written turns its trouble into OperationalError
        why = storage.translate_os_error(error).what
        return Outcome(row.slide_id, row.patient_id, Status.READ_ERROR.value, f"{why}: check the disk it lies on")
    except pinned.ChecksumMismatch:  # nobody knows what else was changed: no slide of this version is taken
        raise
    except DataError as error:  # staging: no such object
        return Outcome(row.slide_id, row.patient_id, Status.READ_ERROR.value, f"{error.what}: {error.hint}")


def _extract(row: Row, params: ExtractParams, encoder: Encoder, out: Path, threads: int, around: Around) -> Outcome:
    target = out / f"{row.slide_id}.h5"
    drawn = _digest(drawn_mask(row, params))
    try:
        content = ":".join(filter(None, [probe.content_id(row.path), row.md5, key_revisions.revision(row, params)]))
    except SlideError as error:
        known = around.known(target)
        if known is None or known.key != features.key(known.content, row.mpp, params, encoder.identity, drawn):
            around.forget(row.slide_id)
            raise
        raise SlideError(error.status, f"{error.reason}; its features of an earlier run are kept") from error
    key = features.key(content, row.mpp, params, encoder.identity, drawn)
    complete = all(around.there(path) for path in companions(out, row.slide_id))
    before = around.before.get(row.slide_id)
    if before is not None and before.tiles and complete and before.key == key == around.key(target):
        return replace(before, patient_id=row.patient_id, fresh=False)
    known = around.known(target)
    if known is not None and known.imported:
        hint = "take another folder, or move them away"
        raise SlideError(Status.READ_ERROR, f"features {known.key} lie in {row.slide_id}.h5", hint)
    fresh = known is None or known.key != key or not known.tiles  # an earlier version wrote files without a tile
    if known is not None and not fresh and complete:
        return _outcome(row, known, fresh=False)
    try:
        return _extracted(row, params, encoder, out, threads, around, content, key, known=None if fresh else known)
    except SlideError:
        if fresh:  # what lies there is of another content or other settings, and nobody may take it for this slide's
            around.forget(row.slide_id)
        raise


def _extracted(
    row: Row,
    params: ExtractParams,
    encoder: Encoder,
    out: Path,
    threads: int,
    around: Around,
    content: str,
    key: str,
    *,
    known: features.Stored | None,
) -> Outcome:
    """The slide, read and written; of one whose features are `known` only the pictures for people were missing."""
    with probe.at_hand(row.path, params.cache, params.cache_gib) as path:
        facts = probe.examine(path, mpp=row.mpp, choice=params.reader)
        with probe.open_reader(path, facts.reader) as opened:
            watch = Watch(params.slide_minutes, around.stop, around.tick)
            work = _Slide(row, params, facts, Watched(opened, watch), out)
            view, mask = work.tissue()
            if known is not None:
                return _outcome(row, known, fresh=True)
            _write(work, view, mask, content, key, encoder, threads, watch)
    written = features.stored(out / f"{row.slide_id}.h5")
    assert written is not None, "a file just written reads back"
    return _outcome(row, written, fresh=True)


@dataclass(frozen=True)
class _Slide:
    """One slide in work."""

    row: Row
    params: ExtractParams
    facts: probe.Facts
    reader: Reader
    out: Path

    def tissue(self) -> tuple[Overview, Mask | Coverage]:
        """The coarse picture and its tissue; preview and mask are written beside the features."""
        view, mask = found_tissue(self.reader, self.facts, self.params, drawn_mask(self.row, self.params))
        preview, outlines = companions(self.out, self.row.slide_id)
        shown = masks.mostly(mask)
        thumbnails.write(preview, view.picture, shown)
        storage.write_text(outlines, json.dumps(masks.to_geojson(shown, view), separators=(",", ":")) + "\n")
        return view, mask


def _write(
    work: _Slide,
    view: Overview,
    mask: Mask | Coverage,
    content: str,
    key: str,
    encoder: Encoder,
    threads: int,
    watch: Watch,
) -> None:
    row, params, facts = work.row, work.params, work.facts
    grid = Grid.over(facts.width, facts.height, facts.mpp, params.resolution, params.tile, params.overlap)
    corners, shares = candidates(view, mask, grid, params)
    scratch = work.out / f".{row.slide_id}.{key[:16]}.blocks"
    run = _Run(TileSource(work.reader, grid), encoder, params, scratch, watch)
    try:
        loaders = run.blocks(corners, shares, threads)
        _refuse_too_many_failures(sum(loader.failed for loader in loaders), len(corners), params)
        _refuse_no_tiles(loaders, len(corners), params)
        features.write(
            work.out / f"{row.slide_id}.h5",
            (loader.load() for loader in loaders),
            encoder.width,
            params.dtype,
            features.attributes(content, facts, params, encoder.identity, key),
            features.grid_attributes(row.slide_id, facts, params, grid),
        )
    finally:  # the blocks of a run that was stopped, or found the disk full, are finished work
        if sys.exception() is None or isinstance(sys.exception(), SlideError):
            shutil.rmtree(scratch, ignore_errors=True)


def companions(out: Path, slide_id: str) -> tuple[Path, Path]:
    """Where the preview and the mask of a slide lie."""
    return out / "previews" / f"{slide_id}.jpg", out / "masks" / f"{slide_id}.geojson"


def drawn_mask(row: Row, params: ExtractParams) -> Path | None:
    """The mask that a person drew for this slide, if there is one."""
    if params.tissue.masks is None:
        return None
    path = Path(params.tissue.masks, f"{row.slide_id}.geojson")
    return path if path.exists() else None


def _digest(path: Path | None) -> str:
    return "" if path is None else _DRAWN + hashlib.sha256(storage.read_bytes(path)).hexdigest()


def found_tissue(
    reader: Reader, facts: probe.Facts, params: ExtractParams, drawn: Path | None
) -> tuple[Overview, Mask | Coverage]:
    """The coarse picture and its tissue (h, w): as drawn by a person, then as shares of pixels, else as found.

    Raises
        SlideError: no tissue, no brightfield picture, or a mask file that is none.
    """
    view = tissue.overview(reader, facts.mpp, params.tissue.resolution)
    if drawn is not None:
        return view, masks.from_geojson(drawn, view)
    try:
        return view, tissue.find(view.picture, facts.mpp[0] * view.scale[0], params.tissue, view.unreadable)
    except SlideError as error:
        lost = view.unreadable.mean()
        if error.status is Status.NO_TISSUE and lost > params.max_failed_tiles_share:
            raise SlideError(Status.READ_ERROR, f"{lost:.0%} of the slide does not decode", "copy it again") from error
        raise


def candidates(
    view: Overview, mask: Mask | Coverage, grid: Grid, params: ExtractParams
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Corners (N, 2) of the tiles on tissue and the share of tissue in each (N,).

    What the coarse picture could not read counts as tissue: the tiles there are tried, and fail by name.
    """
    corners = grid.corners()
    shares = grid.tissue_fraction(corners, np.maximum(mask, view.unreadable), view)
    keep = shares >= params.tissue.min_tissue_fraction
    if not keep.any():
        raise SlideError(Status.NO_TISSUE, f"no tile is tissue to {params.tissue.min_tissue_fraction:.0%} or more")
    return corners[keep], shares[keep]


@dataclass(frozen=True)
class _Part:
    """One finished block: in memory when the slide has only one, on disk when it has many."""

    failed: int
    blurred: int
    load: Callable[[], Block]


class _Run:
    """The tiles of one slide, block after block; a finished block survives a kill."""

    def __init__(
        self, source: TileSource, encoder: Encoder, params: ExtractParams, scratch: Path, watch: Watch
    ) -> None:
        self._source, self._encoder, self._params, self._scratch, self._watch = source, encoder, params, scratch, watch

    def blocks(self, corners: NDArray[np.int64], shares: NDArray[np.float32], threads: int) -> list[_Part]:
        """All blocks in order."""
        many = len(corners) > _BLOCK
        with ThreadPoolExecutor(threads) as pool:
            return [
                self._part(i, corners[i : i + _BLOCK], shares[i : i + _BLOCK], pool, many)
                for i in range(0, len(corners), _BLOCK)
            ]

    def _part(
        self, start: int, corners: NDArray[np.int64], shares: NDArray[np.float32], pool: ThreadPoolExecutor, many: bool
    ) -> _Part:
        file = self._scratch / f"{start}.npz"
        block = _load(file) if many and file.exists() else self._block(corners, shares, pool)
        if not many:
            return _Part(len(block.failed), block.blurred, lambda: block)
        if not file.exists():
            _save(block, file)
        return _Part(len(block.failed), block.blurred, lambda: _load(file))

    def _block(self, corners: NDArray[np.int64], shares: NDArray[np.float32], pool: ThreadPoolExecutor) -> Block:
        starts = range(0, len(corners), _BATCH)
        parts = pool.map(lambda i: self._batch(corners[i : i + _BATCH], shares[i : i + _BATCH]), starts)
        return _joined(list(parts))

    def _batch(self, corners: NDArray[np.int64], shares: NDArray[np.float32]) -> Block:
        """Read, judge and encode some tiles."""
        tiles, kept, failed = [], [], []
        for i, (x, y) in enumerate(corners.tolist()):
            try:
                tile = self._source.read(x, y)
            except RegionError:
                failed.append(i)
                continue
            if not self._params.tissue.min_sharpness or sharpness(tile) >= self._params.tissue.min_sharpness:
                tiles.append(tile)
                kept.append(i)
        numbers = self._encoder.encode(tiles) if tiles else np.zeros((0, self._encoder.width), np.float32)
        blurred = len(corners) - len(kept) - len(failed)
        self._watch.tick(len(corners))
        return Block(numbers, corners[kept], shares[kept], corners[failed], blurred)


def _joined(parts: list[Block]) -> Block:
    return Block(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.coords for part in parts]),
        np.concatenate([part.tissue_fraction for part in parts]),
        np.concatenate([part.failed for part in parts]),
        sum(part.blurred for part in parts),
    )


def _save(block: Block, file: Path) -> None:
    with storage.replacing(file) as draft, draft.open("wb") as stream:
        np.savez(
            stream,
            features=block.features,
            coords=block.coords,
            tissue_fraction=block.tissue_fraction,
            failed=block.failed,
            blurred=np.asarray(block.blurred),
        )


def _load(file: Path) -> Block:
    with np.load(file, allow_pickle=False) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    return Block(**{**values, "blurred": int(values["blurred"])})


def _refuse_too_many_failures(failed: int, total: int, params: ExtractParams) -> None:
    if failed > params.max_failed_tiles_share * total:
        raise SlideError(
            Status.READ_ERROR,
            f"{failed} of {total} tiles do not decode, more than extract.max_failed_tiles_share allows",
            "copy the slide again",
        )


def _refuse_no_tiles(parts: list[_Part], total: int, params: ExtractParams) -> None:
    """A slide without a single tile has no features: never OK, whatever became of its tiles."""
    failed, blurred = sum(part.failed for part in parts), sum(part.blurred for part in parts)
    if failed + blurred < total:
        return
    if not blurred:
        raise SlideError(Status.READ_ERROR, f"none of {total} tiles decodes", "copy the slide again")
    unreadable = f", {failed} do not decode" if failed else ""
    raise SlideError(
        Status.OUT_OF_FOCUS,
        f"{blurred} of {total} tiles are out of focus{unreadable}",
        f"scan it again, or lower extract.tissue.min_sharpness ({params.tissue.min_sharpness:g})",
    )


def _outcome(row: Row, known: features.Stored, *, fresh: bool) -> Outcome:
    return Outcome(
        row.slide_id,
        row.patient_id,
        Status.OK.value,
        "",
        known.tiles,
        known.failed_tiles,
        known.mpp,
        known.mpp_source,
        known.reader,
        known.width,
        known.height,
        known.key,
        fresh,
    )


@contextmanager
def single_threaded_libraries() -> Iterator[None]:
    """OpenCV without its own threads: ours are as many as the cores, and each picture is small."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
