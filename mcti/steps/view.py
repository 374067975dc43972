"""The step behind `mcti view`: a slide and what was made of it, in the browser of this machine."""

import webbrowser
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from mcti import storage
from mcti.errors import OperationalError, UsageError
from mcti.params import TissueParams
from mcti.slides import exchange, extraction, heatmap, masks, probe, tissue
from mcti.slides.exchange import Bag
from mcti.slides.probe import Facts
from mcti.slides.reader import Reader
from mcti.slides.status import SlideError
from mcti.slides.tissue import Mask, Overview
from mcti.slides.viewer.scene import Scene
from mcti.slides.viewer.server import Server
from mcti.steps.result import StepResult
from mcti.storage import Location


class ViewResult(StepResult):
    """What was shown."""

    slide: str
    layers: list[str]


def view(
    slide: Location,
    features: Location | None = None,
    scores: Location | None = None,
    *,
    column: str = "score",
    centre: float | None = None,
    mpp: float | None = None,
    port: int = 0,
    browser: bool = True,
    ready: Callable[[str], None] = lambda _: None,
) -> ViewResult:
    """Show a slide on 127.0.0.1 until interrupted; `ready` is told the address.

    Reads   slide; features, its file of our store (its tiles, and the mask in masks/ beside it); scores as for heatmap.
            Without features the tissue is sought with the default settings
    Writes  nothing
    Raises  DataError when the slide cannot be read or the features are of another; OperationalError when the port
            is taken
    """
    if scores is not None and features is None:
        raise UsageError("scores need the tiles they belong to", "--scores", "give --features FILE, too")
    with ExitStack() as stack:
        path = stack.enter_context(probe.at_hand(str(slide)))
        facts = probe.examine(path, mpp=mpp)
        reader = probe.open_reader(path, facts.reader)
        stack.callback(reader.close)
        scene = _scene(reader, facts, path.stem, features, scores, column, centre)
        with _server(scene, port) as server:
            ready(server.url)
            if browser:
                webbrowser.open(server.url)
            with suppress(KeyboardInterrupt):  # the way to end it
                server.serve_forever()
    return ViewResult(slide=path.stem, layers=scene.layers)


def _scene(
    reader: Reader,
    facts: Facts,
    name: str,
    features: Location | None,
    scores: Location | None,
    column: str,
    centre: float | None,
) -> Scene:
    if features is None:
        return Scene(reader, facts, name, mask=_found(reader, facts))
    with storage.local_copy(features) as store:
        bag = exchange.from_store(store)
        heatmap.check_same_slide(bag, facts, features)
        mask = _stored(reader, facts, store, bag)
    grid = None if bag.coords is None else (bag.coords, heatmap.footprint(bag))
    found = None if scores is None else heatmap.read_scores(scores, bag, column, centre)
    return Scene(reader, facts, name, mask=mask, grid=grid, scores=found)


def _found(reader: Reader, facts: Facts) -> tuple[Mask, Overview] | None:
    params = TissueParams()
    seen = tissue.overview(reader, facts.mpp, params.resolution)
    try:
        return tissue.find(seen.picture, facts.mpp[0] * seen.scale[0], params, seen.unreadable), seen
    except SlideError:  # glass alone: there is a slide to look at, and no layer
        return None


def _stored(reader: Reader, facts: Facts, store: Path, bag: Bag) -> tuple[Mask, Overview] | None:
    """The mask that was extracted with; features made elsewhere have none."""
    file = extraction.companions(store.parent, bag.slide_id)[1]
    if not file.exists():
        return None
    seen = tissue.overview(reader, facts.mpp, TissueParams().resolution)
    return masks.mostly(masks.from_geojson(file, seen)), seen


def _server(scene: Scene, port: int) -> Server:
    try:
        return Server(scene, port)
    except (OSError, OverflowError) as error:
        raise OperationalError(
            f"port {port} cannot be used ({error})", "--port", "leave it out for a free one"
        ) from error
