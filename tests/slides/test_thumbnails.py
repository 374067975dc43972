"""Previews: the outline follows the tissue, failed slides show their status, only level pixels are used."""

import cv2
import numpy as np

from mcti.slides import thumbnails


def test_the_outline_follows_the_tissue(tmp_path):
    picture = np.full((300, 400, 3), 240, np.uint8)
    mask = np.zeros((300, 400), bool)
    mask[100:200, 100:300] = True
    thumbnails.write(tmp_path / "a.jpg", picture, mask)
    shown = cv2.cvtColor(cv2.imread(str(tmp_path / "a.jpg")), cv2.COLOR_BGR2RGB).astype(int)
    green = shown[..., 1] - shown[..., 0] > 60
    assert green[98:103, 120:280].any(axis=0).all()
    assert not green[130:170, 130:270].any()


def test_contact_sheets_show_every_slide_or_its_status(tmp_path):
    thumbnails.write(tmp_path / "a.jpg", np.full((100, 100, 3), 90, np.uint8), np.ones((100, 100), bool))
    slides = [("a", "OK", tmp_path / "a.jpg"), ("b", "NO_TISSUE", tmp_path / "none.jpg")]
    (sheet,) = thumbnails.write_contact_sheets(tmp_path, slides)
    shown = cv2.imread(str(sheet))
    assert abs(int(shown[90, 90].mean()) - 90) < 6
    assert 200 < shown[40, 200].mean() < 225
    assert len(thumbnails.write_contact_sheets(tmp_path, slides * 100)) == 2
