import torch

from mcti.dataset.batches import collate
from mcti.dataset.scaling import fit_inputs
from mcti.params import BinParams
from tests.training import factories


def test_a_batch_is_padded_with_zeros_and_does_not_depend_on_company():
    people = factories.bags(6)
    fitted = fit_inputs(people, BinParams(count=2), len(people[0].genes))
    batch = collate(people, fitted, 5, (0, 0))
    alone = collate(people[2:3], fitted, 5, (0, 0))
    length = int(batch.mask[2].sum())
    assert length == min(5, len(people[2].patches)) == alone.patches.shape[1]
    assert torch.equal(batch.patches[2, :length], alone.patches[0])
    assert batch.patches[~batch.mask].abs().sum() == 0
    assert torch.equal(batch.genes[2], alone.genes[0])
