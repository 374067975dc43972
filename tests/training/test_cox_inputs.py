import dataclasses

import numpy as np
import pytest
import torch

from mcti.training import cox_inputs, folds
from tests.training import factories


def task(bags, **changes):
    return folds.prepare(factories.dataset(len(bags)), bags, factories.settings(**changes), ("fold", 0), "fold 0")


def people(count=40):
    ages = np.random.default_rng(5).normal(60, 9, count)
    return [
        dataclasses.replace(bag, covariates={"age": None if number == 3 else ages[number]})
        for number, bag in enumerate(factories.bags(count))
    ]


def test_the_tables_are_standardised_genes_moments_of_the_patches_and_covariates():
    bags = people()
    of = task(bags, architecture={"covariates": ["age"]})
    tables = cox_inputs.cox_inputs(of.fitted, of.config, bags)
    genes = np.stack([bag.genes.numpy() for bag in bags])
    np.testing.assert_allclose(tables["genes"], (genes - genes.mean(0)) / genes.std(0), atol=1e-5)
    rows = of.fitted.features(bags[0].patches)
    np.testing.assert_allclose(tables["slides"][0], torch.cat([rows.mean(0), rows.std(0, correction=0)]), atol=1e-5)
    assert tables["covariates"][3].tolist() == [0.0, 1.0]


def test_a_gene_beyond_the_limit_counts_as_the_limit():
    bags = people(200)
    bags[0].genes[2] = 17_036.0
    of = task(bags)
    table = cox_inputs.cox_inputs(of.fitted, of.config, bags)["genes"]
    assert float(table[0, 2]) == cox_inputs.GENE_LIMIT


def test_a_source_is_standardised_by_itself():
    of = task(people())
    source = factories.bags(30, seed=9)
    moved = [dataclasses.replace(bag, genes=7 * bag.genes + 3, patches=2 * bag.patches - 5) for bag in source]
    one, other = (cox_inputs.source_inputs(of.config, bags, "none") for bags in (source, moved))
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-4, rtol=0)


@pytest.mark.parametrize("transform", ["none", "winsor", "rank"])
def test_genes_covariates_and_slides_that_a_source_lacks_are_0(transform):
    of = task(people(), architecture={"covariates": ["age"]})
    incomplete = [
        dataclasses.replace(bag, patches=None, genes=torch.cat([bag.genes[:2], torch.full((3,), torch.nan)]))
        for bag in factories.bags(30, seed=9)
    ]
    tables = cox_inputs.source_inputs(of.config, incomplete, transform)
    assert tables["genes"][:, :2].any()
    assert not tables["genes"][:, 2:].any()
    assert not tables["slides"].any()
    assert not tables["covariates"][:, 0].any()
