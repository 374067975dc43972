"""Measurements of a feature file of the product, and of one imported from another tool."""

import math

import torch

from mcti.contracts import feature_table
from mcti.steps.exchange import import_features


def test_features_imported_without_size_or_resolution_are_measured(tmp_path):
    """A .pt file has only numbers: no patch is outside a slide of unknown size, and the resolution is NaN."""
    source = tmp_path / "pt"
    source.mkdir()
    features = torch.arange(12, dtype=torch.float32).reshape(4, 3)
    features[1] = 7.0  # a constant row
    torch.save(features, source / "a.pt")
    import_features(source, "pt", tmp_path / "store")
    row = feature_table.measure_slide(tmp_path / "store" / "a.h5", "a", "P1")
    assert math.isnan(row.pop("resolution"))
    assert len(row.pop("contents")) == 32
    assert row == {
        "slide_id": "a", "patient_id": "P1", "tiles": 4, "width": 3, "encoder": "unknown", "outside": 0,
        "nan_rows": 0, "constant_rows": 1,
    }  # fmt: skip
