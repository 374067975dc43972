"""Statuses of slides with damaged or blurred tiles; patients without tiles are excluded from the folds."""

import json
from pathlib import Path

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
import torch

from mcti.demo import painting
from mcti.errors import DataError
from mcti.params import ExtractParams, SplitParams, TissueParams
from mcti.slides import pyramid_writer
from mcti.slides.features import read
from mcti.steps.exchange import import_features
from mcti.steps.extract import extract
from mcti.steps.split import split

from ..cohort import cases

LENIENT = ExtractParams(max_failed_slides_share=1.0)


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """A sharp slide, and the same one out of focus."""
    folder = tmp_path_factory.mktemp("slides")
    painting.paint(folder / "sharp.tif", seed=4, grade=2, er_positive=True)
    picture = cv2.imread(str(folder / "sharp.tif"))[:, :, ::-1]
    pyramid_writer.write_pyramid(folder / "blurred.tif", cv2.GaussianBlur(np.ascontiguousarray(picture), (0, 0), 12))
    return folder


def table(out):
    return pd.read_csv(out / "slides.csv", index_col="slide_id", keep_default_na=False)


def test_a_slide_out_of_focus_has_its_own_status_and_no_features(slides, tmp_path):
    result = extract(slides, LENIENT, tmp_path)
    assert result.statuses == {"OK": 1, "OUT_OF_FOCUS": 1}
    row = table(tmp_path).loc["blurred"]
    assert row["tiles"] == 0
    counted, of, total = row["reason"].split()[:3]
    assert (counted, of) == (total, "of")
    assert "tiles are out of focus" in row["reason"]
    assert "min_sharpness" in row["reason"]
    assert not (tmp_path / "blurred.h5").exists()
    assert table(tmp_path).loc["sharp", "tiles"] > 0


def test_features_of_a_slide_that_is_now_out_of_focus_are_deleted(slides, tmp_path):
    without = TissueParams(min_sharpness=0)
    extract(slides, LENIENT.model_copy(update={"tissue": without}), tmp_path)
    assert (tmp_path / "blurred.h5").exists()
    extract(slides, LENIENT, tmp_path)
    assert not (tmp_path / "blurred.h5").exists()


def broken(slides: Path, folder: Path, tiles: list[int]) -> Path:
    folder.mkdir()
    data = bytearray((slides / "sharp.tif").read_bytes())
    with tifffile.TiffFile(slides / "sharp.tif") as file:
        for tile in tiles:
            offset, count = file.pages[0].dataoffsets[tile], file.pages[0].databytecounts[tile]
            data[offset + 2 : offset + count] = bytes(count - 2)
    (folder / "sharp.tif").write_bytes(data)
    return folder


def test_a_tile_that_does_not_decode_is_dropped_counted_and_listed(slides, tmp_path):
    extract(slides / "sharp.tif", LENIENT, tmp_path / "sound")
    features, coords = read(tmp_path / "sound" / "sharp.h5")
    x, y = coords[len(coords) // 2].tolist()
    folder = broken(slides, tmp_path / "slides", [y // 256 * 8 + x // 256])
    result = extract(folder, LENIENT, tmp_path / "out")
    with h5py.File(tmp_path / "out" / "sharp.h5") as file:
        assert file["failed_coords"][:].tolist() == [[x, y]]
        others = (coords != (x, y)).any(axis=1)
        assert (file["features"][:] == features[others]).all()  # other tiles are unchanged
    assert result.failed_tiles == 1


def test_a_slide_with_too_many_undecodable_tiles_fails(slides, tmp_path):
    folder = broken(slides, tmp_path / "slides", list(range(20, 40)))
    extract(folder, LENIENT, tmp_path / "out")
    row = table(tmp_path / "out").loc["sharp"]
    assert row["status"] == "READ_ERROR"
    assert "tiles do not decode" in row["reason"]
    assert not (tmp_path / "out" / "sharp.h5").exists()


def test_an_imported_file_without_a_row_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    torch.save(torch.zeros(0, 8), tmp_path / "in" / "a.pt")
    with pytest.raises(DataError, match=r"a\.pt"):
        import_features(tmp_path / "in", "pt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("row", [{"status": "OUT_OF_FOCUS", "tiles": 0}, {"status": "OK", "tiles": 0}])
def test_a_patient_without_tiles_is_excluded_from_the_folds_and_listed(tmp_path, row):
    cohort = cases.write_cohort(cases.sources(), tmp_path / "cohort")
    names = [f"P-{i:04d}" for i in range(40)]
    rows = [{"slide_id": f"{name}-1", "patient_id": name, "status": "OK", "tiles": 5} for name in names]
    rows[3] |= row
    (tmp_path / "features").mkdir()
    pd.DataFrame(rows).to_csv(tmp_path / "features" / "slides.csv", index=False)
    result = split(cohort, tmp_path / "features", SplitParams(), tmp_path / "folds.csv")
    assert result.excluded == {"no features of a slide": 1}
    listed = json.loads((tmp_path / "folds.json").read_text())["excluded"]
    assert listed == {"P-0003": "no features of a slide"}
    assert "P-0003" not in (tmp_path / "folds.csv").read_text()
