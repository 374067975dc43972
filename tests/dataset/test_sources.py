import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from mcti.cohort import tables
from mcti.dataset.sources import SourceFiles, load_sources
from tests.training import factories


def with_other_genes(cohort):
    """The cohort with the gene g3 renamed and its genes in reverse order."""
    frame = pd.read_parquet(cohort / "expression.parquet").set_index("patient_id")
    frame = frame.rename(columns={"g3": "other"})[["other", "g4", "g2", "g1", "g0"]]
    info = tables.read_info(cohort)
    written = tables.Cohort(tables.read_patients(cohort), frame, tables.read_slides(cohort), info)
    tables.write(written, cohort)
    return frame


@pytest.fixture
def source(tmp_path):
    cohort, features, _ = factories.folders(tmp_path / "source", patients=10, seed=3)
    return cohort, features, with_other_genes(cohort)


def test_a_source_has_the_genes_of_the_target_in_their_order_and_nan_for_those_it_lacks(source):
    cohort, features, frame = source
    [data] = load_sources([SourceFiles(str(cohort), str(features))], factories.GENES, "both")
    assert data.genes == factories.GENES
    assert data.measured_genes() == 4
    for patient, bag in data.bags.items():
        expected = frame.loc[patient, ["g0", "g1", "g2", "g4"]].to_numpy()
        assert np.array_equal(bag.genes[[0, 1, 2, 4]].numpy(), expected)
        assert torch.isnan(bag.genes[3])
        assert bag.patches.shape[1] == factories.WIDTH


@pytest.mark.parametrize(("modalities", "path"), [("genes", True), ("both", False)])
def test_slides_of_a_source_are_not_read_for_genes_alone_and_without_a_folder(source, modalities, path):
    cohort, features, _ = source
    files = SourceFiles(str(cohort), str(features) if path else None)
    [data] = load_sources([files], factories.GENES, modalities)
    assert all(bag.patches is None and bag.genes is not None for bag in data.bags.values())


def test_the_version_changes_with_a_value_an_outcome_and_a_name(source):
    cohort, features, _ = source
    [data] = load_sources([SourceFiles(str(cohort), str(features))], factories.GENES, "both")
    first, bag = next(iter(data.bags.items()))
    genes = bag.genes.clone()
    genes[0] += 1e-3
    for changed in (
        dataclasses.replace(data, bags={**data.bags, first: dataclasses.replace(bag, genes=genes)}),
        dataclasses.replace(data, bags={**data.bags, first: dataclasses.replace(bag, event=not bag.event)}),
        dataclasses.replace(
            data, bags={**data.bags, first: dataclasses.replace(bag, covariates={**bag.covariates, "age": 1.0})}
        ),
        dataclasses.replace(data, genes=(*data.genes[:-1], "renamed")),
    ):
        assert changed.version != data.version
    assert dataclasses.replace(data, provenance={"path": "elsewhere"}).version == data.version
