"""The step `view`: shows a slide with tissue, tiles and scores in a browser on this machine."""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from mcti import storage
from mcti.errors import OperationalError, UsageError
from mcti.params import TissueParams
from mcti.slides import exchange, feature_store, heatmap, masks, probe, tissue
from mcti.slides.probe import SlideInfo
from mcti.slides.reader import Reader
from mcti.slides.status import SlideError
from mcti.slides.tissue import Mask, Overview
from mcti.slides.viewer.scene import Scene
from mcti.slides.viewer.server import Server
from mcti.steps.result import StepResult
from mcti.storage import Location


class ViewResult(StepResult):
    """The slide and the layers that were shown."""

    slide: str
    layers: list[str]


@dataclass(frozen=True)
class _ScoreTable:
    """A CSV with scores of tiles; centre: midpoint of a diverging colour scale."""

    location: Location
    column: str
    centre: float | None


def view(
    slide: Location,
    features: Location | None = None,
    scores: Location | None = None,
    *,
    column: str = "score",
    centre: float | None = None,
    mpp: float | None = None,
    port: int = 0,
    on_ready: Callable[[str], None] = lambda _: None,
) -> ViewResult:
    """Show a slide on 127.0.0.1 until Ctrl-C; `on_ready` is called with the address; `mpp` in µm/px.

    Reads   slide; features, its file of the feature store (its tiles, and the mask in masks/ of the same folder);
            scores as for `heatmap`. Without features, tissue is detected with the default settings.
    Writes  nothing
    Raises  UsageError when scores are given without features
            DataError when the slide cannot be read, or the features belong to another slide
            OperationalError when the port cannot be used
    """
    if scores is not None and features is None:
        raise UsageError("scores need the tiles they belong to", "--scores", "add --features FILE")
    table = None if scores is None else _ScoreTable(scores, column, centre)
    with ExitStack() as stack:
        path = stack.enter_context(probe.local_slide(str(slide)))
        info = probe.examine(path, mpp=mpp)
        reader = probe.open_reader(path, info.reader)
        stack.callback(reader.close)
        scene = _scene(reader, info, path.stem, features, table)
        with _server(scene, port) as server:
            on_ready(server.url)
            with suppress(KeyboardInterrupt):  # the documented way to stop the viewer
                server.serve_forever()
    return ViewResult(slide=path.stem, layers=scene.layers)


def _scene(reader: Reader, info: SlideInfo, name: str, features: Location | None, table: _ScoreTable | None) -> Scene:
    if features is None:
        return Scene(reader, info, name, mask=_detected_mask(reader, info))
    with storage.local_copy(features) as feature_file:
        slide_features = exchange.from_store(feature_file)
        heatmap.check_same_slide(slide_features, info, features)
        mask = _stored_mask(reader, info, feature_store.mask_path(feature_file.parent, slide_features.slide_id))
    coords = slide_features.coords
    grid = None if coords is None else (coords, heatmap.footprint(slide_features))
    scores = None if table is None else heatmap.read_scores(table.location, slide_features, table.column, table.centre)
    return Scene(reader, info, name, mask=mask, grid=grid, scores=scores)


def _detected_mask(reader: Reader, info: SlideInfo) -> tuple[Mask, Overview] | None:
    params = TissueParams()
    overview = tissue.overview(reader, info.mpp, params.resolution)
    try:
        return tissue.detect(overview.picture, info.mpp[0] * overview.scale[0], params, overview.unreadable), overview
    except SlideError:  # a slide without tissue can be viewed, without that layer
        return None


def _stored_mask(reader: Reader, info: SlideInfo, path: Path) -> tuple[Mask, Overview] | None:
    """The mask that extraction used; imported features have none."""
    if not path.exists():
        return None
    overview = tissue.overview(reader, info.mpp, TissueParams().resolution)
    return masks.mostly_covered(masks.from_geojson(path, overview)), overview


def _server(scene: Scene, port: int) -> Server:
    try:
        return Server(scene, port)
    except (OSError, OverflowError) as error:
        raise OperationalError(
            f"port {port} cannot be used ({error})", "--port", "omit --port to use a free one"
        ) from error
