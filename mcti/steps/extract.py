"""The step `extract`: slides to one feature file a slide, and a table that accounts for every slide."""

import csv
import hashlib
import logging
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import Field

from mcti import storage
from mcti.errors import DataError, UsageError
from mcti.params import ExtractParams
from mcti.progress import Progress
from mcti.registry.pipeline_run import tracked
from mcti.slides import encoders, extraction, feature_store, manifest, thumbnails
from mcti.slides.encoders import Encoder
from mcti.slides.extraction import Around, Outcome, companions
from mcti.slides.feature_store import Store
from mcti.slides.manifest import Row
from mcti.slides.status import Status
from mcti.steps.result import StepResult
from mcti.steps.search.heartbeat import Heartbeat
from mcti.steps.task_log import logged
from mcti.storage import Location

_log = logging.getLogger(__name__)

_COLUMNS = [field.name for field in fields(Outcome) if field.name != "fresh"]


class ExtractResult(StepResult):
    """Counts of the cohort. `extracted`: slides that this run worked on; the others lay there already."""

    slides: int
    ok: int
    tiles: int
    failed_tiles: int
    statuses: dict[str, int]
    encoder: str
    extracted: int = Field(0, exclude=True)


@logged
@tracked
def extract(
    slides: Location,
    params: ExtractParams,
    out: Location,
    *,
    shard: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> ExtractResult:
    """Features of every slide in a manifest (CSV, Parquet) or folder.

    Reads   slides, and the files they name
    Writes  out/<slide_id>.h5, each renamed in by itself when whole; out/previews/<slide_id>.jpg and
            out/masks/<slide_id>.geojson with it; out/slides.csv, contact sheets and result.json at the end.
            Files of a slide that was read and fails now are removed; of slides that are not on the list, or cannot be
            reached, nothing is. With `shard` (i, n), 0 <= i < n: only
            the slides whose hash falls to i, and slides-<i>-of-<n>.csv in place of slides.csv (then `merge`).
            While it runs, heartbeat.json (of a shard: heartbeat-<i>-of-<n>.json) is renewed every 15 s.
            `out` may be an s3:// address: each slide goes up when it is whole
    Raises  DataError when the manifest is wrong, or more slides fail than params.max_failed_slides_share allows
            (the table is written all the same); UsageError for an encoder that does not fit
    """
    rows = manifest.read(slides)
    encoder = encoders.make(params.encoder, params.resolution, params.accept_licences)
    if shard is not None:
        rows = [row for row in rows if shard_of(row.slide_id, shard[1]) == _checked(shard)[0]]
    _check_masks(params.tissue.masks, out)
    part = "" if shard is None else f"-{shard[0]}-of-{shard[1]}"
    place = feature_store.at(out, part, params.cache)
    with Heartbeat(place.beside(f"heartbeat{part}.json"), len(rows), progress) as pulse:
        there = sum(place.there(place.folder / f"{row.slide_id}.h5") for row in rows)
        _log.info("found features of %d of %d slides, kept where slide and settings are the same", there, len(rows))
        outcomes = _run(rows, params, encoder, place, pulse)
        fresh = sum(outcome.fresh for outcome in outcomes)
        _log.info("%d of %d slides already extracted, %d worked on", len(rows) - fresh, len(rows), fresh)
        if shard is None:
            return _finish(place, outcomes, params, encoder.identity.name)
        write_table(place.folder / f"slides{part}.csv", outcomes)
        place.mirror()
    place.close()
    return _result(outcomes, encoder.identity.name)


def _check_masks(masks: str | None, out: Location) -> None:
    """Drawn masks have a folder of their own: in out/masks, what was found is written over what was drawn."""
    if masks is None:
        return
    if not Path(masks).is_dir():
        raise DataError("no such folder of masks", masks, "mend extract.tissue.masks")
    if not storage.is_s3(out) and Path(masks).resolve() == Path(out, "masks").resolve():
        what = "drawn masks lie where the found ones are written"
        raise UsageError(what, "extract.tissue.masks", "copy the edited files to another folder")


def merge(out: Location, params: ExtractParams, shards: int | None = None) -> ExtractResult:
    """Join the tables of `shards` shards in `out` into slides.csv; then `out` holds what one run would have written.

    Without `shards`, their number stands in the names of the tables.

    Raises  DataError when a shard's table is missing, or too many slides failed
    """
    place = feature_store.at(out, "", params.cache)
    place.fetch("slides-*-of-*.csv")
    count = shards or _shards_in(place.folder, out)
    parts = [place.folder / f"slides-{i}-of-{count}.csv" for i in range(count)]
    for i, part in enumerate(parts):
        if not part.exists():
            where = storage.join(out, part.name)
            raise DataError("the table of a shard is missing", where, f"run mcti extract --shard {i}/{count}")
    outcomes = [outcome for part in parts for outcome in _read_table(part)]
    encoder = encoders.make(params.encoder, params.resolution, params.accept_licences)
    for part in parts:
        part.unlink()
    return _finish(place, outcomes, params, encoder.identity.name, parts=True)


def _shards_in(folder: Path, out: Location) -> int:
    counts = sorted({int(path.stem.rpartition("-of-")[2]) for path in folder.glob("slides-*-of-*.csv")})
    if len(counts) != 1:
        what = f"tables of {', '.join(map(str, counts))} shards" if counts else "no tables of shards"
        raise DataError(what, str(out), "run mcti extract --shard I/N for each I, with one N")
    return counts[0]


def shard_of(slide_id: str, shards: int) -> int:
    """The shard that a slide belongs to: by the hash of its name, whatever else is in the manifest."""
    return int.from_bytes(hashlib.sha256(slide_id.encode()).digest()[:8], "big") % shards


def _checked(shard: tuple[int, int]) -> tuple[int, int]:
    if not 0 <= shard[0] < shard[1]:
        raise UsageError(f"shard {shard[0]}/{shard[1]} does not exist", "--shard", f"write 0/{shard[1]} and so on")
    return shard


def _run(rows: Sequence[Row], params: ExtractParams, encoder: Encoder, place: Store, pulse: Heartbeat) -> list[Outcome]:
    """Slides side by side; when there are fewer slides than threads, the rest of the threads go into the slides."""
    workers = params.workers or os.cpu_count() or 1
    side_by_side = max(1, min(workers, len(rows)))
    inside = max(1, workers // side_by_side)
    around = Around(
        tick=pulse.tick,
        known=place.known,
        there=place.there,
        forget=place.forget,
        before=_before(place.folder / "slides.csv"),
        key=place.key,
    )

    def one(row: Row) -> Outcome:
        pulse.start(row.slide_id)
        outcome = extraction.extract_slide(row, params, encoder, place.folder, inside, around)
        if outcome.fresh and outcome.status == Status.OK:
            place.publish(row.slide_id)
        pulse.finish(row.slide_id, outcome.status, fresh=outcome.fresh)
        return outcome

    with ThreadPoolExecutor(side_by_side) as pool, extraction.single_threaded_libraries():
        futures = [pool.submit(one, row) for row in rows]
        try:
            return [future.result() for future in as_completed(futures)]
        except BaseException:
            around.stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _finish(
    place: Store, outcomes: list[Outcome], params: ExtractParams, encoder: str, *, parts: bool = False
) -> ExtractResult:
    out = place.folder
    _remove_leftovers(out)
    place.fetch("slides.csv")
    table = out / "slides.csv"
    _contact_sheets(place, outcomes, table.read_text(encoding="utf-8") if table.exists() else "")
    write_table(table, outcomes)
    result = _result(outcomes, encoder)
    storage.write_json(out / "result.json", result.model_dump(mode="json"))
    place.mirror(parts=parts)
    place.close()
    _refuse_too_many_failures(result, outcomes, params, place.beside("slides.csv"))
    return result


def _refuse_too_many_failures(
    result: ExtractResult, outcomes: list[Outcome], params: ExtractParams, where: str
) -> None:
    failed = result.slides - result.ok
    if failed > params.max_failed_slides_share * result.slides:
        first = next(o for o in sorted(outcomes, key=lambda o: o.slide_id) if o.status != Status.OK)
        raise DataError(
            f"{failed} of {result.slides} slides failed, the first {first.slide_id}: {first.status}, {first.reason}",
            where,
            "mend them or raise extract.max_failed_slides_share",
        )


def _contact_sheets(place: Store, outcomes: list[Outcome], before: str) -> None:
    """New sheets, unless this run changed nothing: a thousand pictures take longer than all the rest."""
    if before == as_csv(outcomes) and not any(o.fresh for o in outcomes if o.status == Status.OK):
        return
    place.fetch("previews/*.jpg")
    ordered = sorted(outcomes, key=lambda outcome: (outcome.slide_id, outcome.patient_id))
    thumbnails.contact_sheets(
        place.folder, [(o.slide_id, o.status, companions(place.folder, o.slide_id)[0]) for o in ordered]
    )


def _result(outcomes: list[Outcome], encoder: str) -> ExtractResult:
    statuses = Counter(outcome.status for outcome in outcomes)
    return ExtractResult(
        slides=len(outcomes),
        ok=statuses[Status.OK],
        tiles=sum(outcome.tiles for outcome in outcomes),
        failed_tiles=sum(outcome.failed_tiles for outcome in outcomes),
        statuses=dict(sorted(statuses.items())),
        encoder=encoder,
        extracted=sum(outcome.fresh for outcome in outcomes),
    )


def write_table(path: Path, outcomes: list[Outcome]) -> None:
    """slides.csv: one row a slide, sorted by name."""
    storage.write_text(path, as_csv(outcomes))


def as_csv(outcomes: list[Outcome]) -> str:
    """The table of slides as text, sorted by name."""
    import pandas as pd

    table = pd.DataFrame([{name: getattr(o, name) for name in _COLUMNS} for o in outcomes], columns=_COLUMNS)
    table = table.astype({"width": "Int64", "height": "Int64", "mpp": "float64"})
    table = table.sort_values(["slide_id", "patient_id"], kind="stable")
    return str(table.to_csv(index=False, lineterminator="\n"))


def _read_table(path: Path) -> list[Outcome]:
    with storage.translating_os_errors(path), path.open(encoding="utf-8", newline="") as stream:
        return [_outcome(row) for row in csv.DictReader(stream)]


def _before(path: Path) -> dict[str, Outcome]:
    """The slides that the table of the last run holds as done; none when it cannot be read."""
    if not path.exists():
        return {}
    try:
        return {outcome.slide_id: outcome for outcome in _read_table(path) if outcome.status == Status.OK}
    except (KeyError, TypeError, ValueError):  # somebody edited it, or another version wrote it
        return {}


def _outcome(row: dict[str, str]) -> Outcome:
    numbers: dict[str, Any] = {name: int(row[name]) if row[name] else None for name in ("width", "height")}
    counts = {name: int(row[name]) for name in ("tiles", "failed_tiles")}
    mpp = float(row["mpp"]) if row["mpp"] else None
    return Outcome(**{**row, **numbers, **counts, "mpp": mpp})


def _remove_leftovers(out: Path) -> None:
    """Drafts and blocks of killed runs; nobody else works in `out` when the table is written."""
    with storage.translating_os_errors(out):
        for path in [*out.glob(".*.h5.draft"), *out.glob(".*.blocks")]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
