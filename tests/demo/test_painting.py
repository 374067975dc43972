"""Painted slides: valid files, the same bytes for the same seed, traits that depend weakly on the grade."""

import numpy as np
import pytest

from mcti.demo import painting

openslide = pytest.importorskip("openslide")


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    out = tmp_path_factory.mktemp("painted") / "P 1 é.tif"
    painting.paint(out, seed=3, grade=2, er_positive=True)
    return out


def test_openslide_opens_a_painted_slide_and_reads_its_resolution(painted):
    with openslide.OpenSlide(painted) as slide:
        assert slide.level_dimensions == ((2048, 2048), (1024, 1024), (512, 512))
        assert float(slide.properties["openslide.mpp-x"]) == 0.5
        assert slide.properties["openslide.objective-power"] == "20"


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(painted, tmp_path):
    again, other = tmp_path / "again.tif", tmp_path / "other.tif"
    painting.paint(again, seed=3, grade=2, er_positive=True)
    painting.paint(other, seed=4, grade=2, er_positive=True)
    assert again.read_bytes() == painted.read_bytes()
    assert other.read_bytes() != painted.read_bytes()


def test_a_painted_slide_shows_glass_pink_stroma_and_purple_nuclei(painted):
    with openslide.OpenSlide(painted) as slide:
        picture = np.asarray(slide.read_region((0, 0), 0, (2048, 2048)).convert("RGB")).astype(int)
    red, green, blue = picture[..., 0], picture[..., 1], picture[..., 2]
    assert 0.02 < (picture.min(axis=2) > 215).mean() < 0.5  # glass and fat
    assert ((red > blue + 10) & (blue > green)).mean() > 0.2  # pink
    assert ((blue > red + 10) & (red > green)).mean() > 0.02  # purple


def test_traits_depend_on_the_grade_and_overlap_between_grades():
    """Means over 300 draws differ, while the ranges of the two grades overlap."""
    sizes = {
        grade: [painting.draw_traits(np.random.default_rng([i, grade]), grade, True).nucleus for i in range(300)]
        for grade in (1, 3)
    }
    assert np.mean(sizes[3]) > np.mean(sizes[1]) + 1.0
    assert np.mean(np.array(sizes[1]) > np.median(sizes[3])) > 0.02
