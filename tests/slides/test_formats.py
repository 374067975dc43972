"""One cohort in four formats: the same pixels, the same resolution, the same features."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from mcti.demo import painting
from mcti.params import ExtractParams
from mcti.slides import features, probe
from mcti.steps.extract import extract
from mcti.steps.inventory import inventory

from . import dicom_factory

SEEDS = (11, 12)


def levels_of(path: Path) -> list[np.ndarray]:
    with probe.open_reader(path, "tiff") as reader:
        return [reader.read(i, 0, 0, level.width, level.height).copy() for i, level in enumerate(reader.levels)]


def write_ome(path: Path, pictures: list[np.ndarray]) -> None:
    sizes = {"PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5}
    options = {"tile": (256, 256), "photometric": "rgb", "compression": "zstd"}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(pictures[0], subifds=len(pictures) - 1, metadata={"axes": "YXS", **sizes}, **options)
        for picture in pictures[1:]:
            writer.write(picture, subfiletype=1, **options)


def write_generic(path: Path, pictures: list[np.ndarray]) -> None:
    with tifffile.TiffWriter(path) as writer:
        for i, picture in enumerate(pictures):
            resolution = {"resolution": (20000 / 2**i, 20000 / 2**i), "resolutionunit": "CENTIMETER"}
            options = {"tile": (256, 256), "photometric": "rgb", "compression": "lzw", "metadata": None}
            writer.write(picture, subfiletype=1 if i else 0, **options, **resolution)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A manifest of two painted slides as SVS, and their levels as OME-TIFF, generic TIFF and DICOM."""
    folder = tmp_path_factory.mktemp("formats")
    rows = []
    for seed in SEEDS:
        svs = folder / f"{seed}.svs"
        painting.paint(svs, seed=seed, grade=2, er_positive=True)
        pictures = levels_of(svs)
        write_ome(folder / f"{seed}.ome.tif", pictures)
        write_generic(folder / f"{seed}.tif", pictures)
        dicom_factory.write_levels(folder / f"dicom-{seed}", pictures, seed=str(seed))
        for name in (f"{seed}.svs", f"{seed}.ome.tif", f"{seed}.tif", f"dicom-{seed}"):
            rows.append({"patient_id": f"P{seed}", "slide_id": name, "path": name})
    pd.DataFrame(rows).to_csv(folder / "slides.csv", index=False)
    return folder


@pytest.mark.parametrize("reader", ["auto", "openslide"])
def test_features_are_the_same_from_every_format(cohort, tmp_path, reader):
    """Every format stores the decoded pixels of the SVS without loss, so the features must be equal to the bit."""
    manifest = cohort / "slides.csv"
    if reader == "openslide":  # OpenSlide ignores levels in SubIFDs, so the overview differs
        rows = pd.read_csv(manifest)
        manifest = cohort / "without-ome.csv"
        rows[~rows["slide_id"].str.contains("ome")].to_csv(manifest, index=False)
    result = extract(manifest, ExtractParams(reader=reader), tmp_path)
    assert result.ok == result.slides
    for seed in SEEDS:
        expected, corners = features.read(tmp_path / f"{seed}.svs.h5")
        assert len(corners) > 20
        for name in sorted(path.name for path in tmp_path.glob(f"*{seed}*.h5")):
            numbers, coords = features.read(tmp_path / name)
            np.testing.assert_array_equal(coords, corners)
            np.testing.assert_array_equal(numbers, expected)
            assert features.read_info(tmp_path / name).mpp == pytest.approx(0.5, rel=1e-9)


def test_the_inventory_states_the_properties_of_each_format(cohort, tmp_path):
    inventory(cohort / "slides.csv", tmp_path / "inventory.csv")
    table = pd.read_csv(tmp_path / "inventory.csv", index_col="slide_id")
    assert (table["status"] == "OK").all()
    assert (table["levels"] == 3).all()
    assert table["mpp_x"].tolist() == pytest.approx([0.5] * 8)
    assert table["vendor"].value_counts().to_dict() == {"aperio": 2, "ome": 2, "generic": 2, "dicom": 2}
