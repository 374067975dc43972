import pytest

from mcti.explanation.labels import model_label, token_label


@pytest.mark.parametrize(
    ("token", "label"),
    [
        ("gene_2", "gene group 2"),
        ("patch_11", "critical patch 11"),
        ("carried_0", "patches matched to gene group 0"),
        ("linear_genes", "Cox model: genes"),
        ("mean_patch", "mean patch"),
        ("unknown_token", "unknown_token"),
    ],
)
def test_tokens_have_names_in_words(token, label):
    assert token_label(token) == label


def test_a_fold_is_named_without_underscore():
    assert model_label("fold_2") == "fold 2"
