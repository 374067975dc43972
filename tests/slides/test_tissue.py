"""Tissue compared with glass, pen, padding and blank slides; real pen marks with their ground truth."""

import cv2
import numpy as np
import pytest

from mcti.params import TissueParams
from mcti.slides import probe, tissue
from mcti.slides.status import SlideError, Status

from .conftest import real

PARAMS = TissueParams()


def glass(seed=0, size=(200, 300)):
    noise = np.random.default_rng(seed).normal(0, 2, (*size, 3))
    return np.clip(np.array([243, 241, 245]) + noise, 0, 254).astype(np.uint8)


def with_tissue(colour=(220, 140, 180)):
    picture = glass()
    picture[50:150, 100:220] = colour
    return picture


@pytest.mark.parametrize("colour", ["green", "black"])
def test_at_most_five_per_cent_of_real_pen_pixels_are_kept(colour):
    """Ground truth: HistoQC's pen masks; its own rule keeps a third of the red pen."""
    picture = cv2.cvtColor(cv2.imread(str(real(f"pen/pen_{colour}.png"))), cv2.COLOR_BGR2RGB)
    pen = cv2.imread(str(real(f"pen/pen_{colour}_mask.png")), 0) > 0
    if colour == "black":  # that slide has nothing else
        with pytest.raises(SlideError, match="no tissue"):
            tissue.detect(picture, 8.0, PARAMS)
    else:
        assert tissue.detect(picture, 8.0, PARAMS)[pen].mean() <= 0.05


def test_at_least_ninety_per_cent_of_the_tissue_close_to_a_real_pen_mark_is_kept():
    """Tissue in this test: saturated pink or purple outside of the pen, by hue, independent of the tested rule."""
    picture = cv2.cvtColor(cv2.imread(str(real("pen/pen_green.png"))), cv2.COLOR_BGR2RGB)
    pen = cv2.imread(str(real("pen/pen_green_mask.png")), 0) > 0
    hue, saturation, _ = cv2.split(cv2.cvtColor(picture, cv2.COLOR_RGB2HSV))
    stained = (hue >= 130) & (hue <= 175) & (saturation > 30) & ~pen
    stained = cv2.morphologyEx(stained.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
    assert tissue.detect(picture, 8.0, PARAMS)[stained].mean() >= 0.9


def test_a_rectangle_of_tissue_is_detected_to_the_pixel_row():
    mask = tissue.detect(with_tissue(), 8.0, PARAMS)
    truth = np.zeros(mask.shape, bool)
    truth[50:150, 100:220] = True
    assert (mask & truth).sum() / (mask | truth).sum() > 0.97  # rounded corners


@pytest.mark.parametrize("seed", range(5))
def test_a_blank_slide_has_no_tissue(seed):
    with pytest.raises(SlideError) as caught:
        tissue.detect(glass(seed), 8.0, PARAMS)
    assert caught.value.status is Status.NO_TISSUE


def test_white_pictures_and_pen_marks_have_no_tissue():
    pen = glass()
    cv2.line(pen, (0, 50), (300, 150), (30, 130, 70), 25)
    for picture in (np.full((100, 100, 3), 255, np.uint8), pen):
        with pytest.raises(SlideError) as caught:
            tissue.detect(picture, 8.0, PARAMS)
        assert caught.value.status is Status.NO_TISSUE


def test_a_section_that_fills_the_picture_is_tissue():
    rng = np.random.default_rng(0)
    picture = np.clip(np.array([200, 120, 170]) + rng.normal(0, 12, (150, 150, 3)), 0, 254).astype(np.uint8)
    assert tissue.detect(picture, 8.0, PARAMS).mean() > 0.95


def test_a_dark_background_is_no_brightfield_slide():
    picture = np.full((200, 200, 3), 6, np.uint8)
    cv2.circle(picture, (100, 100), 30, (20, 200, 90), -1)
    with pytest.raises(SlideError) as caught:
        tissue.detect(picture, 8.0, PARAMS)
    assert caught.value.status is Status.NOT_HE


def test_stitched_corners_do_not_move_the_threshold():
    picture = with_tissue()
    picture[:80, :80] = 255
    picture[150:, 250:] = 0
    mask = tissue.detect(picture, 8.0, PARAMS)
    assert not mask[:80, :80].any()
    assert not mask[150:, 250:].any()
    assert mask[60:140, 110:210].all()


def test_islands_and_holes_count_in_square_millimetres():
    """At 8 µm/px, 20 px squared are 0.0256 mm² and 15 px squared are 0.0144 mm²."""
    picture = with_tissue()
    picture[10:30, 10:30] = picture[10:25, 60:75] = (220, 140, 180)
    picture[70:90, 120:140] = picture[70:85, 180:195] = (243, 241, 245)
    mask = tissue.detect(picture, 8.0, PARAMS)
    assert mask[20, 20]
    assert not mask[17, 67]
    assert not mask[80, 130]
    assert mask[77, 187]


def test_the_overview_of_a_real_slide_holds_block_means(cmu):
    """Oracle: means over 16 x 16 px of the whole slide, with numpy."""
    with probe.open_reader(cmu, "tiff") as reader:
        view = tissue.overview(reader, (0.499, 0.499), 8.0)
        whole = reader.read(0, 0, 0, 139 * 16, 186 * 16).astype(float)
    assert view.scale == (16.0, 16.0)
    assert view.picture.shape == (186, 139, 3)
    expected = whole.reshape(186, 16, 139, 16, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(view.picture, expected, atol=0.51)  # rounded to whole grey levels
    assert not view.unreadable.any()


def test_an_unreadable_tile_is_marked_in_the_overview(painted):
    import tifffile

    with tifffile.TiffFile(painted) as file:
        pages = [file.pages[0], file.pages[1], file.pages[2]]
        spans = [(p.dataoffsets[0], p.databytecounts[0]) for p in pages]
    data = bytearray(painted.read_bytes())
    for offset, count in spans:  # the corner is damaged in every level
        data[offset + 2 : offset + count] = bytes(count - 2)
    painted.write_bytes(data)
    with probe.open_reader(painted, "tiff") as reader:
        view = tissue.overview(reader, (0.5, 0.5), 8.0)
    assert view.unreadable[:15, :15].all()
    assert not view.unreadable[70:, 70:].any()
