"""The step behind `mcti heatmap`: scores of tiles over their slide."""

from pathlib import Path

from mcti import storage
from mcti.slides import exchange, probe, tissue
from mcti.slides import heatmap as drawing
from mcti.steps.result import StepResult
from mcti.storage import Location

_PICTURE = 1500  # pixels of the longer edge, about


class HeatmapResult(StepResult):
    """How many tiles were drawn, and the values at the ends of the colours."""

    tiles: int
    low: float
    high: float


def heatmap(
    slide: Location,
    features: Location,
    scores: Location,
    out: Path,
    *,
    column: str = "score",
    centre: float | None = None,
    mpp: float | None = None,
) -> HeatmapResult:
    """Draw a score of each tile over its slide.

    Reads   slide; features, its file of our store; scores, a CSV with x, y (level-0 px) and `column`
    Writes  out/{heatmap.png, heatmap.geojson, heatmap.ome.tif}: all of it or nothing. With `centre` the colours
            diverge around it (0 for parts of the risk)
    Raises  DataError when a score belongs to no tile of the slide, or the slide cannot be read
    """
    with probe.at_hand(str(slide)) as path, storage.local_copy(features) as store:
        facts = probe.examine(path, mpp=mpp)
        bag = exchange.from_store(store)
        drawing.check_same_slide(bag, facts, features)
        found = drawing.read_scores(scores, bag, column, centre)
        with probe.open_reader(path, facts.reader) as reader:
            extent = max(facts.width * facts.mpp[0], facts.height * facts.mpp[1])  # µm
            view = tissue.overview(reader, facts.mpp, extent / _PICTURE)
    with storage.replacing(out) as draft:
        draft.mkdir()
        drawing.png(draft / "heatmap.png", view, facts.mpp[0], found)
        drawing.geojson(draft / "heatmap.geojson", found)
        drawing.ome_tiff(draft / "heatmap.ome.tif", (facts.width, facts.height), facts.mpp[0], found)
    low, high = found.limits
    return HeatmapResult(tiles=len(found.values), low=low, high=high)
