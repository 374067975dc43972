"""Training with the extensions of the paper: hard negatives, covariates, the continuous head, by settings alone."""

import dataclasses
import math

import pytest
import torch
from torch.nn import functional

from mcti.dataset.bags import Dataset, digest
from mcti.dataset.batches import collate
from mcti.dataset.scaling import fit_covariates
from mcti.dataset.splits import FoldSplit
from mcti.errors import DataError
from mcti.training import fold_files, folds, loop, losses
from tests.training import factories


def with_ages(patients: int = 16) -> Dataset:
    data = factories.dataset(patients)
    ages = {
        name: dataclasses.replace(bag, covariates={"age": None if row == 3 else 50.0 + row, "is_female": 1.0})
        for row, (name, bag) in enumerate(data.bags.items())
    }
    return dataclasses.replace(data, bags=ages)


def task(**changes):
    data = with_ages()
    return folds.prepare(data, list(data.bags.values()), factories.settings(**changes), ("fold", 0), "fold 0")


def test_hard_negatives_by_hand():
    """Classes a, b. Negatives of a: patches of the b patients, the largest 3 and 1; of b: those of patient 0."""
    logits = torch.tensor(
        [[[9.0, 2.0], [8.0, -1.0]], [[3.0, 9.0], [0.0, 9.0]], [[1.0, 9.0], [7.0, 9.0]]], dtype=torch.float64
    )  # (patient, patch, class)
    present = torch.tensor([[True, True], [True, True], [True, False]])  # the 7 is not there
    terms = losses.hard_negative_terms(logits, present, torch.tensor([0, 1, 1]), count=2)
    cost = functional.softplus(torch.tensor([2.0, -1.0, 3.0, 1.0], dtype=torch.float64))
    expected = torch.stack([cost[0] + cost[1], cost[2], cost[3]]) * 3 / 4
    torch.testing.assert_close(terms, expected)
    assert terms.mean().item() == pytest.approx(cost.mean().item())


def test_hard_negatives_agree_with_a_sort_and_have_the_gradient_of_finite_differences():
    """Oracle: one list per class, sorted in Python."""
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, 3, generator=random, dtype=torch.float64, requires_grad=True)
    present = torch.rand(5, 4, generator=random) < 0.7
    subtypes = torch.tensor([0, 1, 2, 0, 1])
    chosen = []
    for label in range(3):
        every = [
            logits[i, k, label].item() for i in range(5) for k in range(4) if subtypes[i] != label and present[i, k]
        ]
        chosen += sorted(every, reverse=True)[:3]
    expected = sum(math.log1p(math.exp(value)) for value in chosen) / len(chosen)
    terms = losses.hard_negative_terms(logits, present, subtypes, 3)
    assert terms.mean().item() == pytest.approx(expected)
    assert torch.autograd.gradcheck(lambda values: losses.hard_negative_terms(values, present, subtypes, 3), (logits,))


def test_a_batch_of_one_subtype_or_without_patches_has_no_negatives_of_it():
    logits = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0))
    no_patches = torch.zeros(2, 3, dtype=torch.bool)
    assert losses.hard_negative_terms(logits, no_patches, torch.tensor([0, 1]), 4).tolist() == [0, 0]
    everyone = losses.hard_negative_terms(logits, ~no_patches, torch.tensor([0, 0]), 99)
    assert everyone.mean().item() == pytest.approx(functional.softplus(logits[..., 1]).mean().item())


def test_training_with_hard_negatives_lowers_their_scores():
    plain, mined = (
        loop.train(task(architecture={"hard_negatives": count}, epochs=15, learning_rate=1e-2)) for count in (0, 4)
    )
    scores = []
    for outcome in (plain, mined):
        prepared = task()
        batch = collate(list(prepared.bags), prepared.fitted, 99, (0, 0))
        with torch.no_grad():
            output = outcome.model.net(batch.patches, batch.mask, batch.genes)
        scores.append(
            losses.hard_negative_terms(output.critical_logits, output.critical >= 0, batch.subtypes, 4).mean()
        )
    assert scores[1] < scores[0]


def test_covariates_are_standardised_on_the_training_part_alone():
    prepared = task(architecture={"covariates": ["age", "is_female"]})
    ages = torch.tensor([50.0 + row for row in range(16) if row != 3])
    scale = prepared.fitted.covariates
    assert scale.mean.tolist() == pytest.approx([ages.mean().item(), 1])
    assert scale.sd.tolist() == pytest.approx([ages.std(correction=0).item(), 1])  # one that does not vary is silent
    batch = collate(list(prepared.bags), prepared.fitted, 99, (0, 0), ("age", "is_female"))
    assert batch.covariates.isnan().nonzero().tolist() == [[3, 0]]
    known = batch.covariates[:, 0][~batch.covariates[:, 0].isnan()]
    assert known.mean().item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("architecture", [
    {"covariates": ["age", "is_female"]}, {"head": "continuous"}, {"solver": "low_rank", "rank": 2, "iterations": 10},
    {"missing": True}, {"critical_share": 0.8},
])  # fmt: skip
def test_a_fold_is_trained_written_read_and_predicts_the_same(architecture, tmp_path):
    data = with_ages()
    names = tuple(data.bags)
    part = FoldSplit(0, names[4:], names[:4])
    folds.train_fold(data, part, factories.settings(architecture=architecture), tmp_path)
    model = fold_files.load(tmp_path / "fold_0")
    for key, value in architecture.items():
        assert getattr(model.config, key) == (tuple(value) if isinstance(value, list) else value)
    rows = fold_files.predict(model, data.select(names[:4], "test"), (12.0, 36.0, 60.0))
    written = (tmp_path / "fold_0" / "predictions.csv").read_text().splitlines()[1:]
    assert [line.split(",")[2] for line in written] == [repr(row["risk"]) for row in rows]


def test_missing_by_settings_predicts_from_either_modality():
    model = loop.train(task(architecture={"missing": True})).model
    bag = factories.bags(16)[3]
    both, genes, slides = (
        model.predict(*prepared, (12,))["risk"]
        for prepared in ((bag.patches, bag.genes), (None, bag.genes), (bag.patches, None))
    )
    assert len({both, genes, slides}) == 3


def test_the_continuous_head_learns_from_times_inside_a_bin():
    history = loop.train(task(architecture={"head": "continuous"}, epochs=30, learning_rate=1e-2)).history
    assert history[-1]["survival"] < history[0]["survival"]


def test_identity_depends_on_the_covariates_of_the_model_only():
    data = with_ages()
    bags = list(data.bags.values())
    older = [dataclasses.replace(bags[0], covariates={"age": 99.0, "is_female": 1.0}), *bags[1:]]
    assert digest(bags) == digest(older)
    assert digest(bags, ("is_female",)) == digest(older, ("is_female",))
    assert digest(bags, ("age",)) != digest(older, ("age",))


def test_covariates_that_the_cohort_does_not_have_are_named():
    with pytest.raises(DataError, match=r"'ages' is absent.*P-000.*did you mean age"):
        task(architecture={"covariates": ["ages"]})
    data = with_ages()
    empty = [dataclasses.replace(bag, covariates={"age": None}) for bag in data.bags.values()]
    with pytest.raises(DataError, match="no patient has a value of covariate 'age'"):
        fit_covariates(empty, ("age",))
