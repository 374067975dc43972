"""The step `heatmap`: draws a score of each tile over its slide."""

from pathlib import Path

from mcti import storage
from mcti.slides import exchange, probe, tissue
from mcti.slides import heatmap as drawing
from mcti.steps.result import StepResult
from mcti.storage import Location

_EDGE_PX = 1500  # approximate longer edge of the image, pixels


class HeatmapResult(StepResult):
    """Number of tiles that were drawn, and the values at the two ends of the colour scale."""

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
    """Draw a score of each tile over its slide. With `centre` the colour scale diverges around it (0 for risk parts).

    Reads   slide; features, its file of the feature store; scores, a CSV with x, y (level-0 px) and `column`
    Writes  out/{heatmap.png, heatmap.geojson, heatmap.ome.tif}: all of it or nothing
    Raises  DataError when a score belongs to no tile of the slide, or the slide cannot be read
    """
    with probe.local_slide(str(slide)) as path:
        info = probe.examine(path, mpp=mpp)
        slide_features = exchange.from_store(features)
        drawing.check_same_slide(slide_features, info, features)
        tile_scores = drawing.read_scores(scores, slide_features, column, centre)
        with probe.open_reader(path, info.reader) as reader:
            extent_um = max(info.width * info.mpp[0], info.height * info.mpp[1])
            view = tissue.overview(reader, info.mpp, extent_um / _EDGE_PX)
    with storage.replacing(out) as draft:
        draft.mkdir()
        drawing.write_png(draft / "heatmap.png", view, info.mpp[0], tile_scores)
        drawing.write_geojson(draft / "heatmap.geojson", tile_scores)
        drawing.write_ome_tiff(draft / "heatmap.ome.tif", (info.width, info.height), info.mpp[0], tile_scores)
    low, high = tile_scores.limits
    return HeatmapResult(tiles=len(tile_scores.values), low=low, high=high)
