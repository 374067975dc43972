"""The text of docs/results.md and the display names of the models of the study; results.json keeps the keys."""

from benchmarks.model_zoo import TRANSFER
from mcti.model import names

DISPLAY = {
    "mcti": "MCTI",
    "mcti+cox": "MCTI + Cox (default)",
    "cox_branch": "Cox branch alone",
    "snn": "SNN",
    "mean_pool": "Mean pooling",
    "abmil": "ABMIL",
    "transmil": "TransMIL",
    "late_fusion": "Late fusion",
    "mcat": "MCAT",
    "motcat": "MOTCat",
    "no_subtype_task": "MCTI, no subtype task",
    "no_gene_grouping": "MCTI, no gene grouping",
    "uniform_plan": "MCTI, uniform plan",
    "shuffled_plan": "MCTI, shuffled plan",
    "no_guidance": "MCTI, no guidance",
    "no_axes": "MCTI, no axes",
    "no_bilinear": "MCTI, no bilinear term",
    "slides_zero": "slides: zeros",
    "slides_shuffled": "slides: shuffled",
    "slides_mean": "slides: mean",
    "genes_zero": "genes: zeros",
    "genes_shuffled": "genes: shuffled",
    "genes_mean": "genes: mean",
}
"""Key of results.json -> name in docs/results.md, where mcti.model.names has another or none."""


def display(key: str) -> str:
    """The name of a model or control in docs/results.md."""
    if key.startswith("permuted "):
        return f"{display(key.removeprefix('permuted '))}, permuted outcomes"
    if key.endswith(TRANSFER):
        return f"{display(key.removesuffix(TRANSFER))}, with transfer"
    return DISPLAY.get(key, names.display(key))


HEAD = """# The real study: MCTI among linear, tree and neural models

`benchmarks/tcga_study.py` writes this page; its module docstring states the protocol. Machine-readable figures:
[results.json](results.json).

The endpoint is overall survival, and all models have folds of the same patients. C is Harrell's within folds; for a
network it is the C of the mean over its seeds of the risks standardised within fold. Brackets are 95 % percentile
intervals over resampled patients (stratified by event for C); a difference is resampled as a difference. The *linear
model* is the ridge Cox model of clinical covariates, genes and slides of the cohort alone (key `linear_all`). A model
*with transfer* also learns from the other cohorts. The slide features of TCGA come from an encoder that was pretrained
on TCGA itself, without labels: those results are transductive.
"""
POOLING = """Random-effects means over the cohorts (Paule and Mandel; 95 % interval of Hartung and Knapp); tau is the
standard deviation between cohorts. The bootstrap over patients treats the fitted models as fixed. The protocol (folds,
settings, sources, contrasts) was recorded in `study/COHORT/protocol.json` before the first fit. Goals are evaluated on
folds by site."""
NOTES = """## How to read it

* *corrected for folds*: interval of the mean difference over folds by Nadeau and Bengio (2003). The bootstrap over
  patients treats the fitted models as fixed.
* *within subtype*: only pairs of one subtype; a cohort of one class has no such figure and no subtype task. "Cox:
  subtype alone" and "Cox: site alone" are controls: how much a label of the sample alone predicts.
* *permuted outcomes*: the same model, trained on patients whose follow-up was permuted; its expected C is 0.5.
* A negative control near 0 shows that the model does not use that modality.
* No network was tuned on a test fold: one setting, one number of epochs, the last weights. The linear models choose
  their penalty inside the training part.
* *MCTI + Cox*: the default of `mcti train`, the mean of the hazard logits of MCTI and of a ridge Cox model on the same
  inputs (`train.cox_weight`; docs/model.md, section 7). *MCTI* and *Cox branch alone* are the two parts of the same
  trained model. All other networks are single models. The linear model also reads the subtype.
* *with transfer*: the same training with the other cohorts as `train.sources`. A model with transfer must be compared
  with the linear model with transfer (*Cox branch alone, with transfer*) as well: transfer is no property of a network.
* *The default chosen without a cohort* has no part of the cohort in the choice among the models. The settings of the
  models are older (next item).
* How the settings of networks and ensemble were chosen, on which cohorts, and earlier runs: docs/results-notes.md.
"""
