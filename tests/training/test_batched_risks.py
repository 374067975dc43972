"""Risks in padded batches: those of the predictions, for bags of any length and for absent modalities."""

import dataclasses

import numpy as np
import pytest
import torch

from mcti.errors import DataError
from mcti.training import batched_risks as batched
from mcti.training.folds import prepare
from mcti.training.loop import train
from tests.training import factories


@pytest.fixture(scope="module")
def patients():
    """Patients of very different bags; two without slides, one without genes."""
    bags = factories.bags(40)
    for row, count in ((3, 90), (17, 400)):
        bags[row] = dataclasses.replace(bags[row], patches=torch.randn(count, factories.WIDTH))
    bags[5], bags[6] = (dataclasses.replace(bag, patches=None) for bag in bags[5:7])
    bags[7] = dataclasses.replace(bags[7], genes=None)
    return bags


@pytest.fixture(scope="module")
def model(patients):
    data = factories.dataset(40)
    task = prepare(data, patients, factories.settings(cox_weight=0.5), ("fold", 0), "fold 0")
    return train(task).model


@pytest.mark.parametrize("rows", [2**15, 64])
def test_the_risks_are_those_of_one_patient_at_a_time(patients, model, rows, monkeypatch):
    """Oracle: `TrainedModel.predict`. With 64 rows a batch has few patients, and the longest bags are alone."""
    monkeypatch.setattr(batched, "_ROWS", rows)
    single = [model.predict(b.patches, b.genes, (12.0,), b.covariates)["risk"] for b in patients]
    risks = batched.batched_risks(model, patients)
    np.testing.assert_allclose(risks, single, rtol=1e-5, atol=1e-6)
    assert np.std(single) > 1e-3  # not one number for all
    assert risks == batched.batched_risks(model, patients)


def test_a_patient_who_does_not_fit_is_named(patients, model):
    wide = dataclasses.replace(patients[0], patches=torch.randn(4, factories.WIDTH + 1))
    with pytest.raises(DataError, match=wide.patient_id):
        batched.batched_risks(model, [*patients[1:4], wide])
