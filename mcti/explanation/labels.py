"""Names of models and tokens in the patient reports; files keep the keys."""

_FIXED = {
    "mean_patch": "mean patch",
    "focus": "mean critical patch",
    "covariates": "covariates, linear path",
    "clinical": "clinical covariates",
    "linear_slides": "Cox model: slides",
    "linear_genes": "Cox model: genes",
}
_NUMBERED = {
    "patch": "critical patch {}",
    "gene": "gene group {}",
    "carried": "patches matched to gene group {}",
}


def token_label(token: str) -> str:
    """The name of a token: `gene_2` -> `gene group 2`, `linear_genes` -> `Cox model: genes`."""
    prefix, _, number = token.rpartition("_")
    if number.isdecimal() and prefix in _NUMBERED:
        return _NUMBERED[prefix].format(number)
    return _FIXED.get(token, token)


def model_label(model: str) -> str:
    """The name of a member of the ensemble: `fold_2` -> `fold 2`."""
    return model.replace("_", " ")
