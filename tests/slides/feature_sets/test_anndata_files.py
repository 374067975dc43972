"""Features as AnnData: round trips without loss, files of wsidata, and what is refused."""

import sys

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mcti.errors import DataError, OperationalError
from mcti.slides import exchange, features
from mcti.slides.feature_sets import anndata_files
from mcti.steps.exchange import export_features, import_features

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(30, 7)).astype(np.float32)
CORNERS = np.stack([np.arange(30) % 6 * 512, np.arange(30) // 6 * 512], axis=1)


def wsidata_table():
    """As `wsi.fetch.features_anndata(…)` of wsidata 0.12.0 returns it (wsidata/accessors/fetch.py)."""
    uns = {
        "slide_properties": {"shape": [4000, 3500], "mpp": 0.25, "magnification": 40.0},
        "tile_spec": {"height": 256, "width": 256, "mpp": 0.5, "base_downsample": 2.0, "ops_level": 0},
    }
    obs = pd.DataFrame({"tile_id": np.arange(30)}, index=[str(row) for row in range(30)])
    return anndata.AnnData(X=VALUES, obs=obs, obsm={"spatial": CORNERS.astype(float)}, uns=uns)


def test_a_file_of_wsidata_is_imported_with_its_sizes(tmp_path):
    (tmp_path / "in").mkdir()
    wsidata_table().write_h5ad(tmp_path / "in/S1.h5ad")
    result = import_features(tmp_path / "in", "anndata", tmp_path / "store", encoder="uni")
    assert (result.slides, result.tiles, result.width, result.level, result.encoder) == (1, 30, 7, "patch", "uni")
    values, corners = features.read(tmp_path / "store/S1.h5")
    np.testing.assert_array_equal(values, VALUES)
    np.testing.assert_array_equal(corners, CORNERS)
    with features.open_file(tmp_path / "store/S1.h5") as file:
        grid, attributes = file.grid, file.attributes
    assert (grid["patch_size"], grid["patch_size_level0"], grid["level0_width"], grid["level0_height"]) == (
        256, 512, 3500, 4000,
    )  # fmt: skip
    assert (attributes["mpp_x"], attributes["target_mpp"]) == (0.25, 0.5)


def test_features_survive_export_and_import(tmp_path):
    (tmp_path / "in").mkdir()
    wsidata_table().write_h5ad(tmp_path / "in/S1.h5ad")
    import_features(tmp_path / "in", "anndata", tmp_path / "store", encoder="uni")
    export_features(tmp_path / "store", "anndata", tmp_path / "out")
    table = anndata.read_h5ad(tmp_path / "out/S1.h5ad")
    np.testing.assert_array_equal(table.X, VALUES)
    np.testing.assert_array_equal(table.obsm["spatial"], CORNERS)
    assert table.uns["encoder"] == "uni"
    again = import_features(tmp_path / "out", "anndata", tmp_path / "again")
    assert again.encoder == "uni"
    first, second = (exchange.from_store(tmp_path / name / "S1.h5") for name in ("store", "again"))
    np.testing.assert_array_equal(first.features, second.features)
    assert first.grid == second.grid


def test_corners_and_sizes_may_be_absent_and_x_may_be_sparse():
    slide = anndata_files.from_anndata(anndata.AnnData(X=sparse.csr_matrix(VALUES)), "S1", "memory")
    np.testing.assert_array_equal(slide.features, VALUES)
    assert slide.coords is None
    assert slide.grid == slide.attributes == {}
    table = anndata_files.to_anndata(slide)
    assert "spatial" not in table.obsm
    assert dict(table.uns) == {}


def test_what_holds_no_features_is_refused(tmp_path):
    with pytest.raises(DataError, match="X is empty"):
        anndata_files.from_anndata(anndata.AnnData(obs=pd.DataFrame(index=["a"])), "S1", "memory")
    broken = wsidata_table()
    broken.X[:10, 0] = np.nan
    with pytest.raises(DataError, match="not finite in 10 of 30 rows"):
        anndata_files.from_anndata(broken, "S1", "memory")
    (tmp_path / "S1.h5ad").write_bytes(b"no HDF5")
    with pytest.raises(DataError, match="no AnnData file"):
        anndata_files.read_file(tmp_path / "S1.h5ad")
    with pytest.raises(DataError, match=r"no \.h5ad files"):
        anndata_files.find(tmp_path / "empty")


def test_without_the_package_the_error_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "anndata", None)
    with pytest.raises(OperationalError, match=r"pip install 'mcti\[anndata\]'"):
        anndata_files.read_file(tmp_path / "S1.h5ad")
