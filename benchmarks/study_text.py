"""The text of docs/results.md and the display names of the models of the study; results.json keeps the keys."""

from mcti.model import names

DISPLAY = {
    "mcti": "MCTI",
    "mcti+cox": "MCTI + Cox",
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
    return DISPLAY.get(key, names.display(key))


HEAD = """# The real study: MCTI among linear, tree and neural models

`benchmarks/tcga_study.py` writes this page; its module docstring states the protocol. Machine-readable figures:
[results.json](results.json).

The endpoint is overall survival, and all models have folds of the same patients. C is Harrell's within folds; for a
network it is the C of the mean over its seeds of the risks standardised within fold. Brackets are 95 % percentile
intervals over resampled patients (stratified by event for C); a difference is resampled as a difference. The *linear
model* is the ridge Cox model of clinical covariates, genes and slides (key `linear_all`). The slide features of TCGA
come from an encoder that was pretrained on TCGA itself, without labels: those results are transductive.
"""
NOTES = """## How to read it

* *corrected for folds*: interval of the mean difference over folds by Nadeau and Bengio (2003). The bootstrap over
  patients treats the fitted models as fixed.
* *within subtype*: only pairs of one subtype. "Cox: subtype alone" and "Cox: site alone" are controls: how much a label
  of the sample alone predicts.
* *permuted outcomes*: the same model, trained on patients whose follow-up was permuted; its expected C is 0.5.
* A negative control near 0 shows that the model does not use that modality.
* No network was tuned on a test fold: one setting, one number of epochs, the last weights. The linear models choose
  their penalty inside the training part.
* *MCTI + Cox*: the default of `mcti train`, the mean of the hazard logits of MCTI and of a ridge Cox model on the same
  inputs (`train.cox_weight`; docs/model.md, section 7). All other networks are single models. The linear model also
  reads the subtype.
* The setting of the networks (`SETTINGS` in the script) and the axes of `compact` were chosen before this study, on two
  other assignments of the same two cohorts to folds, by site and at random (one seed, not all folds). On the
  standardised inputs themselves MCTI had C .546 on BRCA and .596 on NSCLC by site; along the axes .630 and .593
  at learning rate 3e-3, .656 and .584 at 1e-2 with weight decay 0.1 (four folds); 5e-3 was taken between them. With
  few sites two assignments by site are nearly equal, so that the figures here are optimistic by that choice; on
  other cohorts nothing was chosen.
* The form of the ensemble was chosen with knowledge of these cohorts. Before it, a Cox regression on inner out-of-fold
  risks weighted MCTI and the linear model (by site +.004 and -.003 against the linear model), at four times the cost of
  training. On one more assignment by site (two seeds) the mean of log hazards, each on its own scale, had C .681 (BRCA)
  and .601 (NSCLC), of standardised ones .678 and .599, a network trained with the Cox model's out-of-fold scores .663
  and .598, MCTI alone .652 and .588, the Cox model alone .672 and .604. The size of the bag as an additional column of
  MCTI was tried and dropped: no gain. In the first complete run the Cox model of MCTI + Cox read only the mean patch
  (its lead over the linear model: by site +.014 and +.003, random +.019 and +.002). The spread of the patches was added
  for the demo's cohort (docs/decisions/0002-ridge-cox-ensemble.md), and the ensemble was fitted again.
* The products of slide and genes (`bilinear_rank`) were added for the planted truth of `benchmarks/known_truth.py`. An
  additional linear path from the mean critical patch was tried and dropped, since it cost .02 on these folds of BRCA
  (two seeds); the products themselves changed nothing there (.639 and .636, one seed).
"""
