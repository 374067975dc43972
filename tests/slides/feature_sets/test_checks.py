"""A set with slides of another encoder, magnification or tile size is refused, and the slides are named."""

import numpy as np
import pytest

from mcti.errors import DataError
from mcti.slides.feature_sets.checks import SetFacts, check_set, tile_step
from mcti.slides.portable import PortableFeatures


def slide(name, edge=512, step=512, grid=None, attributes=None, width=4, level="patch"):
    coords = np.array([[x * step, y * step] for y in range(5) for x in range(5)])
    sizes = {} if edge is None else {"patch_size_level0": edge}
    features = np.ones((25, width), np.float32)
    return SetFacts.of(PortableFeatures(name, features, coords, sizes | (grid or {}), attributes or {}, level))


@pytest.mark.parametrize(
    ("other", "aspect"),
    [
        ({"width": 8}, "number of features"),
        ({"level": "slide"}, r"level \(patch"),
        ({"attributes": {"encoder": "conch"}}, "encoder"),
        ({"grid": {"patch_size": 224}}, "patch size in pixels"),
        ({"attributes": {"target_mpp": 1.0}}, "resolution of the patches"),
        ({"edge": 1024}, r"edge of the tiles \(level-0 px"),
        ({"edge": None, "step": 256}, r"distance of neighbouring tiles \(level-0 px"),
    ],
)
def test_each_difference_is_stated_with_the_slides(other, aspect):
    usual = [
        slide(f"S{i}", grid={"patch_size": 256}, attributes={"encoder": "uni", "target_mpp": 0.5}) for i in range(3)
    ]
    check_set(usual)
    with pytest.raises(DataError, match=rf"mixes values of {aspect}.*in 3 slides, 1 differ in S9: "):
        check_set([*usual, slide("S9", **other)])


def test_values_that_some_files_do_not_state_are_not_compared():
    check_set([slide("S1", attributes={"encoder": "uni"}), slide("S2", attributes={"encoder": "unknown"}, edge=None)])
    check_set([slide("S1"), slide("S2", edge=0)])  # an earlier import wrote zero for an unknown size


def test_two_scanners_of_known_resolution_are_one_set():
    """128 µm are 512 px at 0.25 µm/px and 256 px at 0.5 µm/px."""
    aperio, other = {"mpp_x": 0.25}, {"mpp_x": 0.5}
    check_set([slide("S1", attributes=aperio), slide("S2", 256, 256, attributes=other)])
    with pytest.raises(DataError, match=r"edge of the tiles \(µm\)"):
        check_set([slide("S1", attributes=aperio), slide("S2", attributes=other)])


def test_two_scanners_of_known_magnification_are_one_set():
    check_set([slide("S1", grid={"level0_magnification": 40}), slide("S2", 256, 256, {"level0_magnification": 20})])
    with pytest.raises(DataError, match="per magnification"):
        check_set([slide("S1", grid={"level0_magnification": 40}), slide("S2", grid={"level0_magnification": 20})])


def test_scanners_of_one_magnification_are_one_set():
    """Hamamatsu 0.2204 and Aperio 0.2526 µm/px, both tiled as 40x: 113 and 129 µm."""
    check_set([slide("S1", attributes={"mpp_x": 0.2204}), slide("S2", attributes={"mpp_x": 0.2526})])


def test_the_step_of_a_grid_and_of_few_or_scattered_tiles():
    grid = np.array([[x * 256, y * 256] for y in range(4) for x in range(4) if (x, y) != (1, 1)])
    assert tile_step(grid) == 256
    assert tile_step(grid[:6]) is None
    assert tile_step(np.random.default_rng(0).integers(0, 50000, (200, 2))) is None
