"""The work of the step `extract` (mcti/steps/extract.py), which imports this module when it runs."""

import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from mcti import storage
from mcti.errors import DataError, UsageError
from mcti.params import ExtractParams, ImportParams
from mcti.progress import Progress
from mcti.slides import encoders, extraction, feature_import, manifest, shards, slide_table, thumbnails
from mcti.slides.encoder_protocol import Encoder
from mcti.slides.extraction import ExtractionContext
from mcti.slides.feature_source import FeatureSource, open_source
from mcti.slides.feature_store import FeatureStore, feature_path, open_store, preview_path
from mcti.slides.heartbeat import Heartbeat
from mcti.slides.manifest import ListedSlide, SlideRow
from mcti.slides.slide_table import SlideOutcome
from mcti.slides.status import Status
from mcti.steps.extract import ExtractResult
from mcti.storage import Location

_log = logging.getLogger(__name__)


def run(
    slides: Location, params: ExtractParams, out: Location, shard: tuple[int, int] | None, progress: Progress | None
) -> ExtractResult:
    """Extract or import the features of all slides, or of those of a shard; arguments and errors of `extract`."""
    if shard is not None:
        shards.check_shard(shard)
    if params.source == "import":
        return _import(slides, params, out, shard, progress)
    rows = [row for row in manifest.read(slides) if _is_in_shard(row.slide_id, shard)]
    encoder = encoders.make(params.encoder, params.resolution, params.accept_licences)
    _check_masks(params.tissue.masks, out)
    store = open_store(out, _suffix(shard), params.cache)
    with Heartbeat(store.location(f"heartbeat{_suffix(shard)}.json"), len(rows), progress) as heartbeat:
        outcomes = _extract_all(rows, params, encoder, store, heartbeat)
        return _write_table(store, outcomes, params, encoder.identity.name, shard)


def _suffix(shard: tuple[int, int] | None) -> str:
    return "" if shard is None else f"-{shard[0]}-of-{shard[1]}"


def _is_in_shard(slide_id: str, shard: tuple[int, int] | None) -> bool:
    return shard is None or shards.shard_of(slide_id, shard[1]) == shard[0]


def _write_table(
    store: FeatureStore,
    outcomes: list[SlideOutcome],
    params: ExtractParams,
    encoder: str,
    shard: tuple[int, int] | None,
) -> ExtractResult:
    """Finish a run, or write the table of a shard."""
    if shard is None:
        return _finish(store, outcomes, params, encoder)
    slide_table.write(store.folder / shards.table_name(*shard), outcomes)
    store.publish_tables()
    store.close()
    return _summarise(outcomes, encoder)


def merge(out: Location, params: ExtractParams, shard_count: int | None) -> ExtractResult:
    """Join the tables of the shards; arguments and errors of `merge_shards`."""
    store = open_store(out, "", params.cache)
    store.download("slides-*-of-*.csv")
    count = shard_count or shards.count_shards(store.folder, str(out))
    tables = [store.folder / shards.table_name(i, count) for i in range(count)]
    for i, table in enumerate(tables):
        if not table.exists():
            where = storage.join(out, table.name)
            raise DataError("the table of a shard is missing", where, f"run mcti extract --shard {i}/{count}")
    outcomes = [outcome for table in tables for outcome in slide_table.read(table)]
    for table in tables:
        table.unlink()
    return _finish(store, outcomes, params, _encoder_name(params), merged=True)


def _encoder_name(params: ExtractParams) -> str:
    if params.import_ is not None and params.source == "import":
        return params.import_.encoder
    return encoders.make(params.encoder, params.resolution, params.accept_licences).identity.name


def _import(
    slides: Location, params: ExtractParams, out: Location, shard: tuple[int, int] | None, progress: Progress | None
) -> ExtractResult:
    """Import ready-made features slide by slide; the log begins with their coverage of the table of slides."""
    settings = params.import_
    assert settings is not None, "ExtractParams requires it"
    listed = manifest.read_listed(slides)
    with open_source(settings, listed) as source:
        _log.info("%s", source.coverage())
        store = open_store(out, _suffix(shard), params.cache)
        tasks = [task for task in _import_tasks(source, settings, store) if _is_in_shard(task[0], shard)]
        with Heartbeat(store.location(f"heartbeat{_suffix(shard)}.json"), len(tasks), progress) as heartbeat:
            outcomes = [_import_one(slide_id, task, store, heartbeat) for slide_id, task in tasks]
            processed = sum(outcome.processed for outcome in outcomes)
            _log.info("%d of %d entries were already imported", len(tasks) - processed, len(tasks))
            return _write_table(store, outcomes, params, settings.encoder, shard)


def _import_tasks(
    source: FeatureSource, settings: ImportParams, store: FeatureStore
) -> list[tuple[str, Callable[[], SlideOutcome]]]:
    """(name in the store, its import) of each entry and of each slide without one, sorted by name."""
    tasks: list[tuple[str, Callable[[], SlideOutcome]]] = []
    for name, identity in source.matches.by_name.items():
        row = ListedSlide(identity.name, identity.patient_id, identity.mpp)
        work = partial(feature_import.import_slide, source.entries[name], row, source, settings, store)
        tasks.append((identity.name, work))
    for row in source.matches.without_features:
        tasks.append((row.slide_id, partial(feature_import.without_features, row, store)))
    return sorted(tasks, key=lambda task: task[0])


def _import_one(
    slide_id: str, task: Callable[[], SlideOutcome], store: FeatureStore, heartbeat: Heartbeat
) -> SlideOutcome:
    heartbeat.start(slide_id)
    outcome = task()
    if outcome.processed and outcome.status == Status.OK:
        store.publish(slide_id)
        heartbeat.add_tiles(outcome.tiles)
    heartbeat.finish(slide_id, outcome.status, processed=outcome.processed)
    return outcome


def _check_masks(masks: str | None, out: Location) -> None:
    """Drawn masks need a folder of their own: in out/masks they would be overwritten by the detected masks."""
    if masks is None:
        return
    if not Path(masks).is_dir():
        raise DataError("no such folder of masks", masks, "correct extract.tissue.masks")
    if not storage.is_s3(out) and Path(masks).resolve() == Path(out, "masks").resolve():
        what = "the folder of drawn masks is the output folder of the detected masks"
        raise UsageError(what, "extract.tissue.masks", "copy the edited files to another folder")


def _extract_all(
    rows: Sequence[SlideRow], params: ExtractParams, encoder: Encoder, store: FeatureStore, heartbeat: Heartbeat
) -> list[SlideOutcome]:
    """Process slides in parallel; threads that exceed the number of slides work within the slides."""
    existing = sum(store.exists(feature_path(store.folder, row.slide_id)) for row in rows)
    _log.info("found features of %d of %d slides; reused if slide and settings are unchanged", existing, len(rows))
    workers = params.workers or os.cpu_count() or 1
    parallel_slides = max(1, min(workers, len(rows)))
    context = ExtractionContext(
        params,
        encoder,
        store,
        threads=max(1, workers // parallel_slides),
        report_tiles=heartbeat.add_tiles,
        previous=slide_table.read_completed(store.folder / "slides.csv"),
    )

    def extract_one(row: SlideRow) -> SlideOutcome:
        heartbeat.start(row.slide_id)
        outcome = extraction.extract_slide(row, context)
        if outcome.processed and outcome.status == Status.OK:
            store.publish(row.slide_id)
        heartbeat.finish(row.slide_id, outcome.status, processed=outcome.processed)
        return outcome

    with ThreadPoolExecutor(parallel_slides) as pool, extraction.single_threaded_opencv():
        futures = [pool.submit(extract_one, row) for row in rows]
        try:
            outcomes = [future.result() for future in as_completed(futures)]
        except BaseException:
            context.cancelled.set()
            pool.shutdown(cancel_futures=True)
            raise
    processed = sum(outcome.processed for outcome in outcomes)
    _log.info("%d of %d slides were already extracted, %d processed", len(rows) - processed, len(rows), processed)
    return outcomes


def _finish(
    store: FeatureStore, outcomes: list[SlideOutcome], params: ExtractParams, encoder: str, *, merged: bool = False
) -> ExtractResult:
    """Write the table of slides, the contact sheets (of slides) and result.json."""
    _remove_temporary_files(store.folder)
    store.download("slides.csv")
    table = store.folder / "slides.csv"
    if params.source == "slides":
        _write_contact_sheets(store, outcomes, table.read_text(encoding="utf-8") if table.exists() else "")
    slide_table.write(table, outcomes)
    result = _summarise(outcomes, encoder)
    storage.write_json(store.folder / "result.json", result.model_dump(mode="json"))
    store.publish_tables(merged=merged)
    if params.source == "import":
        feature_import.check_imported(store, sorted(o.slide_id for o in outcomes if o.status == Status.OK))
    store.close()
    _check_failures(result, outcomes, params, store.location("slides.csv"))
    return result


def _check_failures(result: ExtractResult, outcomes: list[SlideOutcome], params: ExtractParams, where: str) -> None:
    failed = result.slides - result.ok
    if failed > params.max_failed_slides_share * result.slides:
        first = next(o for o in sorted(outcomes, key=lambda o: o.slide_id) if o.status != Status.OK)
        raise DataError(
            f"{failed} of {result.slides} slides failed, the first {first.slide_id}: {first.status}, {first.reason}",
            where,
            "correct these slides, or raise extract.max_failed_slides_share",
        )


def _write_contact_sheets(store: FeatureStore, outcomes: list[SlideOutcome], previous_table: str) -> None:
    """Draw new sheets if this run changed any slide: a thousand images take longer than a run without changes."""
    changed = any(outcome.processed for outcome in outcomes if outcome.status == Status.OK)
    if not changed and previous_table == slide_table.to_csv(outcomes):
        return
    store.download("previews/*.jpg")
    ordered = sorted(outcomes, key=lambda outcome: (outcome.slide_id, outcome.patient_id))
    previews = [(row.slide_id, row.status, preview_path(store.folder, row.slide_id)) for row in ordered]
    thumbnails.write_contact_sheets(store.folder, previews)


def _summarise(outcomes: list[SlideOutcome], encoder: str) -> ExtractResult:
    statuses = Counter(outcome.status for outcome in outcomes)
    return ExtractResult(
        slides=len(outcomes),
        ok=statuses[Status.OK],
        tiles=sum(outcome.tiles for outcome in outcomes),
        failed_tiles=sum(outcome.failed_tiles for outcome in outcomes),
        statuses=dict(sorted(statuses.items())),
        encoder=encoder,
        extracted=sum(outcome.processed for outcome in outcomes),
    )


def _remove_temporary_files(out: Path) -> None:
    """Drafts and finished blocks of killed runs; no other process works in `out` when the table is written."""
    with storage.translating_os_errors(out):
        for path in [*out.glob(".*.h5.draft"), *out.glob(".*.blocks")]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
