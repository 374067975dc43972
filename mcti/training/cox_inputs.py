"""Inputs of the ridge Cox model as tables, for a training part and for the sources of transfer."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mcti.dataset.bags import PatientBag, covariate_table
from mcti.dataset.scaling import by_patient, fit_clinical_scale, fit_feature_scale, fit_scale
from mcti.model.categories import indicator_positions
from mcti.model.clinical import read_covariates
from mcti.model.cox_branch import moments
from mcti.model.presets import ModelConfig
from mcti.model.trained import Fitted

GENE_LIMIT = 5.0
"""Largest absolute value of a standardised gene: in real tables of z-scores single genes reach 17,036."""

Tables = Mapping[str, Tensor]
"""The inputs of patients by name, (n, columns) float64 each, as `CoxBranch` reads them: genes, slides (mean and spread
of the patches) and, where the model reads any, covariates. A patient without a modality has the mean of the others."""


def cox_inputs(fitted: Fitted, config: ModelConfig, bags: Sequence[PatientBag]) -> Tables:
    """genes (n, G), slides (n, 2 D_in) and covariates (n, V + C) of these patients, standardised by `fitted`."""
    genes, slides = (name in config.modalities for name in ("genes", "slides"))
    slide_rows = _slide_rows(fitted, config, [b.patches if slides else None for b in bags])
    gene_rows = [_gene_row(fitted, b.genes) if genes and b.genes is not None else None for b in bags]
    tables = {"genes": _filled(gene_rows, len(config.genes)), "slides": _filled(slide_rows, 2 * config.features)}
    if config.covariates:
        raw = covariate_table(bags, config.clinical_inputs)
        indicators = indicator_positions(config.clinical_inputs)
        tables["covariates"] = read_covariates(fitted.covariates.standardised(raw), indicators).double()
    return tables


def source_inputs(config: ModelConfig, bags: Sequence[PatientBag], gene_transform: str) -> Tables:
    """`cox_inputs` of all patients of another cohort, standardised by themselves.

    gene_transform  none | winsor | rank, as for the target

    A covariate that no patient of the source has is missing for all of them.
    """
    bags = [bag.with_inputs(config.clinical_inputs) for bag in bags]
    genes = torch.stack([bag.genes for bag in bags if bag.genes is not None] or [torch.zeros(len(config.genes))])
    patches = [bag.patches for bag in bags if bag.patches is not None and "slides" in config.modalities]
    features = fit_feature_scale(patches or [torch.zeros(1, config.features)])
    inputs = config.clinical_inputs
    covariates = covariate_table(bags, inputs) if inputs else torch.zeros(1, 0)
    scales = (fit_scale(genes, gene_transform), features, (), fit_clinical_scale(covariates, inputs))
    return cox_inputs(Fitted(*scales), config, bags)


def _gene_row(fitted: Fitted, genes: Tensor) -> Tensor:
    return fitted.genes(genes.float()).clamp(-GENE_LIMIT, GENE_LIMIT)


def _slide_row(fitted: Fitted, config: ModelConfig, patches: Tensor) -> Tensor:
    rows = fitted.features(patches.float())
    return torch.cat(moments(rows[None], torch.ones(1, len(rows), dtype=torch.bool), config.block), 1)[0]


def _slide_rows(fitted: Fitted, config: ModelConfig, bags: Sequence[Tensor | None]) -> list[Tensor | None]:
    """`_slide_row` of each bag, None for None; the rows are those of one table (`by_patient`)."""
    known = [bag for bag in bags if bag is not None]
    rows = iter(by_patient(known, lambda bag: _slide_row(fitted, config, bag)) if known else ())
    return [None if bag is None else next(rows) for bag in bags]


def _filled(rows: Sequence[Tensor | None], width: int) -> Tensor:
    """(n, width) float64; a missing row becomes the mean of the others, or zeros."""
    known = [row.double() for row in rows if row is not None]
    mean = torch.stack(known).mean(0) if known else torch.zeros(width, dtype=torch.float64)
    return torch.stack([mean if row is None else row.double() for row in rows])
