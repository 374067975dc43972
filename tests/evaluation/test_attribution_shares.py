from mcti.evaluation import attribution_shares


def test_shares_equal_the_worked_out_values():
    """Two patients: |1| + |-3| of the Cox model, 2 of genes, 2 of a critical patch, 4 of the plan, 8 clinical."""
    tokens = [
        {"linear_slides": 1.0, "linear_genes": -3.0, "gene_0": 2.0, "patch_11": -2.0},
        {"carried_0": 4.0, "clinical": 5.0, "covariates": -3.0, "focus": 0.0, "mean_patch": 0.0},
    ]
    result = attribution_shares.shares(tokens)
    assert result.shares == {"network_slides": 0.3, "network_genes": 0.1, "cox": 0.2, "clinical": 0.4}
    assert result.details == {"critical_patches": 0.1, "transport_plan": 0.2, "mean_patch": 0.0}
    assert attribution_shares.shares([]) is None
    assert attribution_shares.shares([{"gene_0": 0.0}]) is None
