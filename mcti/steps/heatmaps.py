"""Heatmaps of a whole batch: for every slide with scores of its tiles, or for one shard of them."""

from pathlib import Path

from mcti import storage
from mcti.cohort import tables
from mcti.errors import MctiError
from mcti.progress import Progress
from mcti.registry.refusals import cache_refusals
from mcti.steps.extract import shard_of
from mcti.steps.heatmap import heatmap
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location


class HeatmapsResult(StepResult):
    """How many slides were drawn, and why the others were not."""

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
    """Draw the parts of the risk that `explain` gave to tiles, over each slide that falls to shard (i, n).

    Reads   cohort/slides.parquet and the slides it names (of the shard alone), features/<slide_id>.h5,
            explanation/tiles/<slide_id>.csv
    Writes  out/<slide_id>/{heatmap.png, heatmap.geojson, heatmap.ome.tif}, out/result.json: all of it or nothing
    A slide that cannot be drawn is counted with its reason; the others are.
    """
    failed, drawn = {}, 0
    with storage.replacing(out) as draft:
        draft.mkdir()
        rows = tables.read_slides(cohort).sort_values("slide_id").to_dict("records")
        mine = [row for row in rows if shard_of(str(row["slide_id"]), shard[1]) == shard[0]]
        for done, row in enumerate(mine):
            slide = str(row["slide_id"])
            scores = storage.join(explanation, "tiles", f"{slide}.csv")
            if progress is not None:
                progress(done, len(mine), "slides", slide)
            if not storage.exists(scores):
                continue
            mpp = float(row["mpp"]) if row["mpp"] == row["mpp"] and row["mpp"] is not None else None
            store = storage.join(features, f"{slide}.h5")
            try:
                heatmap(str(row["path"]), store, scores, draft / slide, centre=0.0, mpp=mpp)
                drawn += 1
            except MctiError as error:
                failed[slide] = str(error)
        if progress is not None:
            progress(len(mine), len(mine), "slides")
        return HeatmapsResult(drawn=drawn, failed=failed).save(draft)
