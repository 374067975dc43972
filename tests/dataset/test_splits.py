from mcti.dataset.splits import REFIT, FoldSplit


def test_a_split_is_named_as_its_folder():
    assert FoldSplit(3, ("a",), ("b",)).name == "fold_3"
    assert FoldSplit(REFIT, ("a", "b"), ()).name == "refit"
