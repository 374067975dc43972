"""The step `heatmaps`: heatmaps of all slides of a prediction batch, or of one shard of them."""

import logging
from pathlib import Path
from typing import Any

from mcti import storage
from mcti.cohort import tables
from mcti.errors import MctiError
from mcti.progress import Progress
from mcti.registry.refusals import cache_refusals
from mcti.slides import exchange
from mcti.slides.portable import PATCH
from mcti.slides.shards import shard_of
from mcti.steps.heatmap import heatmap
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location

_log = logging.getLogger(__name__)


class HeatmapsResult(StepResult):
    """Number of slides that were drawn, and the reason by slide_id for those that were not."""

    drawn: int
    failed: dict[str, str]


@logged
@cache_refusals
def heatmaps(
    cohort: Location,
    features: Location,
    explanation: Location,
    out: Path,
    *,
    shard: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> HeatmapsResult:
    """Draw the risk parts that `explain` assigned to tiles over each slide of shard (i, n).

    Reads   cohort/slides.parquet and the slides it names (of the shard only), features/<slide_id>.h5,
            explanation/tiles/<slide_id>.csv
    Writes  out/<slide_id>/{heatmap.png, heatmap.geojson, heatmap.ome.tif}, out/result.json: all of it or nothing. A
            slide that cannot be drawn is listed with its reason in result.json.
    Raises  DataError when the table of slides is missing or broken
    """
    failed, drawn, without_tiles = {}, 0, 0
    with storage.replacing(out) as draft:
        draft.mkdir()
        rows = tables.read_slides(cohort).sort_values("slide_id").to_dict("records")
        selected = [row for row in rows if shard_of(str(row["slide_id"]), shard[1]) == shard[0]]
        for done, row in enumerate(selected):
            slide_id = str(row["slide_id"])
            scores = storage.join(explanation, "tiles", f"{slide_id}.csv")
            if progress is not None:
                progress(done, len(selected), "slides", slide_id)
            feature_file = storage.join(features, f"{slide_id}.h5")
            if not storage.exists(scores):
                without_tiles += _is_embedding(feature_file)
                continue
            if not row["path"]:  # None or empty: ready-made features
                failed[slide_id] = "the table names no slide file: heatmaps need the slide"
                continue
            try:
                heatmap(str(row["path"]), feature_file, scores, draft / slide_id, centre=0.0, mpp=_mpp(row["mpp"]))
                drawn += 1
            except MctiError as error:
                failed[slide_id] = str(error)
        if progress is not None:
            progress(len(selected), len(selected), "slides")
        if without_tiles:
            _log.info("%d slides have one embedding and no tiles, so they have no heatmap", without_tiles)
        return HeatmapsResult(drawn=drawn, failed=failed).save(draft)


def _is_embedding(feature_file: Location) -> bool:
    """Whether the features of a slide are one vector of the whole slide."""
    return storage.exists(feature_file) and exchange.read_header(feature_file).level != PATCH


def _mpp(value: Any) -> float | None:
    """µm/px of a row; None where the table has no value."""
    return float(value) if value == value and value is not None else None
