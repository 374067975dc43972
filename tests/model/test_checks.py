import pytest
import torch

from mcti.errors import DataError
from mcti.model.network import check_inputs
from tests.model.cases import batch, config


def check(patches, mask, genes, **more):
    check_inputs(config(), patches, mask, genes, **more)


def test_a_good_batch_passes_with_any_finite_padding():
    check(*batch([5, 1]))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_a_feature_that_is_not_finite_is_reported_with_its_rows(wrong):
    patches, mask, genes = batch([5, 4])
    patches[1, 2, 7] = wrong
    with pytest.raises(DataError, match=r"row 1 of the batch, patch row 2"):
        check(patches, mask, genes)


def test_finite_features_whose_sum_overflows_are_good():
    patches, mask, genes = batch([5, 4])
    patches[:] = torch.finfo(torch.float32).max
    check(patches, mask, genes)
    check_inputs(config(), torch.full((2, 5, 12), 1e308, dtype=torch.float64), mask, genes)


def test_padding_that_is_not_finite_is_refused():
    patches, mask, genes = batch([5, 4])
    patches[1, 4] = float("nan")
    with pytest.raises(DataError, match="padding"):
        check(patches, mask, genes)


def test_an_empty_bag_is_reported_with_its_row_unless_it_is_flagged_absent():
    patches, mask, genes = batch([5, 4])
    mask[1] = False
    with pytest.raises(DataError, match=r"bag is empty in row 1"):
        check(patches, mask, genes)
    check(patches, mask, genes, slides_present=torch.tensor([True, False]))


def test_features_and_gene_vectors_of_another_width_are_refused():
    patches, mask, genes = batch([5, 4])
    with pytest.raises(DataError, match="12 wide"):
        check(patches[..., :7], mask, genes)
    with pytest.raises(DataError, match="pass 9 genes"):
        check(patches, mask, genes[:, :3])
    with pytest.raises(DataError, match="mask"):
        check(patches, mask.float(), genes)


def test_a_gene_value_that_is_not_finite_is_reported_with_gene_and_row():
    patches, mask, genes = batch([5, 4])
    genes[0, 3] = float("nan")
    with pytest.raises(DataError, match=r"G3 is nan in row 0"):
        check(patches, mask, genes)


def test_a_batch_without_a_patient_and_invalid_flags_are_refused():
    patches, mask, genes = batch([5, 4])
    with pytest.raises(DataError, match="no patient"):
        check(patches[:0], mask[:0], genes[:0])
    for flags in (torch.tensor([True]), torch.tensor([1, 0])):
        with pytest.raises(DataError, match="slides_present of shape"):
            check(patches, mask, genes, slides_present=flags)
