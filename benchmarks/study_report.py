"""Tables and figures of the real study from its out-of-fold predictions (benchmarks/tcga_study.py)."""

import argparse
import math
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks import study_data, study_pool, study_tables
from benchmarks.study_pool import BAR
from benchmarks.study_text import display
from mcti import figure_canvas, storage
from mcti.errors import MctiError
from mcti.evaluation import calibration, comparison, metrics, risk_groups, subgroups
from mcti.evaluation.comparison import Difference, FoldTest
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.predictions import Predictions
from mcti.evaluation.statistics import PairMean, Statistic
from mcti.params.variants import ABLATIONS

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Scored:
    """One model on one cohort and scheme. seeds: complete ones;  single: C of each;  table: of seed 0, all columns."""

    seeds: tuple[int, ...]
    risk: np.ndarray
    survival: np.ndarray
    single: tuple[float, ...]
    table: pd.DataFrame


@dataclass
class Arm:
    """One cohort under one scheme of folds: its outcomes, its resamples and its scored models."""

    cohort: study_data.Cohort
    scheme: str
    outcomes: Outcomes
    draws: comparison.Draws
    models: dict[str, Scored]
    missing: list[str]

    @property
    def label(self) -> str:
        """The heading of the arm."""
        return study_tables.label(self.cohort.name, self.scheme)

    def pairs(self, name: str, seeds: tuple[int, ...] | None = None) -> PairMean:
        """C within folds of a model, over some of its seeds or all."""
        risk = self.models[name].risk if seeds is None else self.models[name].risk[:, list(seeds)]
        return metrics.c_index(self.outcomes, risk.mean(axis=1))


def write(cohorts: Mapping[str, study_data.Cohort], args: argparse.Namespace, units: Iterable[Any]) -> None:
    """Write docs/results.md, results.json and the figure, from the units that are finished."""
    by_arm: dict[tuple[str, str], dict[str, dict[int, list[Any]]]] = {}
    for unit in units:
        models = by_arm.setdefault((unit.cohort, unit.scheme), {})
        models.setdefault(unit.model, {}).setdefault(unit.seed, []).append(unit)
    planned = [_arm(cohorts[name], scheme, models, args) for (name, scheme), models in by_arm.items()]
    arms = [arm for arm in planned if BAR in arm.models]
    if not arms:
        raise MctiError(f"no tables: {BAR} is not complete in any arm", str(args.out), f"add {BAR} to --models")
    figures, rows = plain([numbers(arm) for arm in arms]), plain(contrasts(arms))
    schemes = list(dict.fromkeys(arm.scheme for arm in arms))
    document = {
        "arms": figures,
        "contrasts": rows,
        "pooled": plain({scheme: study_pool.pooled_models(figures, scheme) for scheme in schemes}),
        "pooled_contrasts": plain(
            [row for scheme in schemes for row in study_pool.pooled_contrasts(rows, scheme, len(cohorts))]
        ),
        "choices": plain(study_pool.choices(figures, study_data.PRIMARY)),
        "missing": {f"{arm.cohort.name} {arm.scheme}": arm.missing for arm in planned if arm.missing},
        "settings": _settings(args, arms),
    }
    figure = forest([arm for arm in figures if arm["scheme"] == schemes[0]])
    args.docs.joinpath("figures").mkdir(parents=True, exist_ok=True)
    args.docs.joinpath("figures", "results_forest.svg").write_text(figure.svg, encoding="utf-8")
    storage.write_json(args.docs / "results.json", document)
    args.docs.joinpath("results.md").write_text(study_tables.page(document, figure), encoding="utf-8")


def _arm(cohort: study_data.Cohort, scheme: str, models: Mapping[str, Any], args: argparse.Namespace) -> Arm:
    outcomes = cohort.outcomes(scheme)
    draws = comparison.Draws.sample(outcomes.event, args.bootstrap, 7)
    scored, missing = {}, []
    for name, seeds in models.items():
        complete = [s for s, all_units in sorted(seeds.items()) if all(u.file(args.out).exists() for u in all_units)]
        if complete:
            scored[name] = _scored(outcomes, {s: [u.file(args.out) for u in seeds[s]] for s in complete})
        if len(complete) < len(seeds):
            missing.append(f"{name} ({len(complete)} of {len(seeds)} seeds)")
    return Arm(cohort, scheme, outcomes, draws, scored, missing)


def _scored(outcomes: Outcomes, files: Mapping[int, list[Path]]) -> Scored:
    """Risks of each seed standardised within fold, so that all weigh the same; S averaged over the seeds."""
    tables = {seed: _rows(outcomes, paths) for seed, paths in files.items()}
    risk = np.column_stack(
        [risk_groups.standardise_within_fold(outcomes, t["risk"].to_numpy()) for t in tables.values()]
    )
    columns = [c for c in map(str, tables[min(tables)]) if c.startswith("S_")]
    survival = np.mean([t[columns].to_numpy() for t in tables.values()], axis=0)
    everyone = len(outcomes.patient_ids)
    single = tuple(comparison.point(metrics.c_index(outcomes, r), everyone) for r in risk.T)
    return Scored(tuple(tables), risk, survival, single, tables[min(tables)])


def _rows(outcomes: Outcomes, paths: list[Path]) -> pd.DataFrame:
    """All test rows in the order of `outcomes`."""
    parts = []
    for fold, path in zip(outcomes.folds, sorted(paths, key=lambda p: int(p.stem)), strict=True):
        table = pd.read_csv(path, dtype={"patient_id": str}).set_index("patient_id")
        parts.append(table.loc[[outcomes.patient_ids[i] for i in fold.patients]].reset_index())
    return pd.concat(parts, ignore_index=True)


def numbers(arm: Arm) -> dict[str, Any]:
    """All figures of an arm, for results.json and docs/results.md."""
    events = [int(fold.event.sum()) for fold in arm.outcomes.folds]
    head = {"cohort": arm.cohort.name, "scheme": arm.scheme, "patients": len(arm.outcomes.patient_ids)}
    models = {name: _model(arm, name) for name in arm.models}
    ablations = {n: _against(arm, n, "mcti") for n in ABLATIONS if n in arm.models and "mcti" in arm.models}
    return {
        **head,
        "events": int(arm.outcomes.event.sum()),
        "events_by_fold": events,
        "models": models,
        "ablations_minus_mcti": ablations,
        "controls_minus_mcti": _controls(arm),
        "subtype": _subtype(arm),
    }


def plain(value: Any) -> Any:
    """A tree of plain values for JSON: what is not defined (NaN), such as the AUROC of one subtype, becomes null."""
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return comparison.finite(float(value)) if isinstance(value, float) else value


def _model(arm: Arm, name: str) -> dict[str, Any]:
    outcomes, scored, draws = arm.outcomes, arm.models[name], arm.draws
    pairs = arm.pairs(name)
    months = np.array([float(c.removeprefix("S_")) for c in map(str, scored.table) if c.startswith("S_")])
    usable = metrics.usable_horizons(outcomes, months)
    predicted = Predictions(scored.risk.mean(axis=1), scored.survival[:, usable])
    middle = int(np.argmin(np.abs(months[usable] - 36)))
    within = subgroups.pairs_of_one_label(pairs, arm.cohort.subtype)
    statistics: dict[str, Statistic] = {
        "c_index": pairs,
        **({} if arm.cohort.one_class else {"c_within_subtype": within}),
        "uno_c": metrics.uno_c(outcomes, predicted.risk, 0.8),
        "auc_36": metrics.auc_at(outcomes, predicted.risk, float(months[usable][middle])),
        "ibs": metrics.integrated_brier(outcomes, predicted.survival, months[usable]),
        "ibs_skill": metrics.brier_skill(outcomes, predicted.survival, months[usable]),
        "slope_36": calibration.recalibration(outcomes, predicted.survival[:, middle], 36.0, "slope"),
        "ici_36": calibration.ici(outcomes, predicted.survival[:, middle], 36.0),
    }
    scores: dict[str, Any] = {
        key: comparison.interval(statistic, draws.matching(statistic), CONFIDENCE).as_dict()
        for key, statistic in statistics.items()
    }
    scores["d_calibration_p"] = comparison.finite(
        calibration.d_calibration(outcomes, predicted.survival, months[usable]).p
    )
    everyone = len(outcomes.patient_ids)
    by_fold = [comparison.point(pairs.only(k), everyone) for k in range(len(outcomes.folds))]
    scores |= {"mean_of_folds": float(np.nanmean(by_fold)), "by_fold": by_fold}
    scores |= {"seeds": list(scored.seeds), "c_by_seed": list(scored.single)}
    if name != BAR:
        scores["minus_linear_all"] = _against(arm, name, BAR)
    return scores


def _against(arm: Arm, name: str, comparator: str) -> dict[str, Any]:
    """A model minus another on the same patients, and on the same seeds where both have several."""
    both = [s for s in arm.models[name].seeds if s in arm.models[comparator].seeds]
    chosen = {
        n: tuple(arm.models[n].seeds.index(s) for s in both) if len(arm.models[n].seeds) > 1 and both else None
        for n in (name, comparator)
    }
    chosen = chosen if comparator != BAR else dict.fromkeys(chosen)  # the linear model has no seed
    ours, theirs = arm.pairs(name, chosen[name]), arm.pairs(comparator, chosen[comparator])
    difference: Difference = comparison.paired(ours, theirs, arm.draws.stratified, CONFIDENCE)
    one = np.ones((1, len(arm.outcomes.patient_ids)))
    by_fold = [float((ours.only(k)(one) - theirs.only(k)(one))[0]) for k in range(len(arm.outcomes.folds))]
    share = float(np.mean([len(f.patients) / len(f.train_event) for f in arm.outcomes.folds]))
    folds: FoldTest = comparison.nadeau_bengio(by_fold, share, CONFIDENCE)
    return {
        **difference.interval.as_dict(),
        "p": comparison.finite(difference.p),
        "fold_corrected": folds.interval.as_dict(),
        "seeds": both if comparator != BAR else list(arm.models[name].seeds),
    }


def _controls(arm: Arm) -> dict[str, Any]:
    """MCTI of seed 0 with a modality replaced, minus itself."""
    if "mcti" not in arm.models:
        return {}
    table = arm.models["mcti"].table
    plain = metrics.c_index(arm.outcomes, table["risk"].to_numpy())
    return {
        column.removeprefix("risk "): comparison.paired(
            metrics.c_index(arm.outcomes, table[column].to_numpy()), plain, arm.draws.stratified, CONFIDENCE
        ).interval.as_dict()
        for column in map(str, table)
        if column.startswith("risk ")
    }


def _subtype(arm: Arm) -> dict[str, float]:
    """AUROC and macro-F1 of MCTI's subtype head, seed 0."""
    table = arm.models["mcti"].table if "mcti" in arm.models else pd.DataFrame()
    columns = [c for c in map(str, table) if c.startswith("P ")]
    if not columns:
        return {}
    truth = pd.Series(arm.cohort.subtype[arm.outcomes.patient])
    return metrics.subtype_scores(truth, table[columns].rename(columns=lambda c: c.removeprefix("P ")))


def contrasts(arms: list[Arm]) -> list[dict[str, Any]]:
    """The contrasts of the protocol by cohort, with Holm over contrasts and cohorts, separately for each scheme."""
    rows = []
    for scheme in study_data.SCHEMES:
        family = [
            {"scheme": scheme, "cohort": arm.cohort.name, "model": c.model, "comparator": c.comparator}
            | _against(arm, c.model, c.comparator)
            for arm in arms
            if arm.scheme == scheme
            for c in study_pool.CONTRASTS
            if {c.model, c.comparator} <= set(arm.models)
        ]
        p_values = {str(number): math.nan if row["p"] is None else row["p"] for number, row in enumerate(family)}
        adjusted = comparison.holm(p_values)
        rows += [row | {"p_holm": comparison.finite(adjusted[str(number)])} for number, row in enumerate(family)]
    return rows


def forest(arms: list[dict[str, Any]]) -> figure_canvas.Figure:
    """C minus that of the linear model, with paired intervals, one panel per arm of results.json."""
    models = [name for name in dict.fromkeys(name for arm in arms for name in arm["models"]) if name != BAR]
    with figure_canvas.canvas("results_forest", width=3.0 + 2.2 * len(arms), height=1.4 + 0.27 * len(models)) as (
        axes,
    ):
        drawing = axes.figure
        axes.remove()
        panels = drawing.subplots(1, len(arms), sharey=True, squeeze=False)[0]
        for panel, arm in zip(panels, arms, strict=True):
            for row, name in enumerate(models):
                if name not in arm["models"]:
                    continue
                d = arm["models"][name]["minus_linear_all"]
                colour = figure_canvas.COLOURS[1] if name in study_tables.OURS else figure_canvas.COLOURS[0]
                panel.plot([d["low"], d["high"]], [row, row], color=colour)
                panel.plot([d["value"]], [row], "D" if name in study_tables.OURS else "o", color=colour, markersize=5)
            panel.axvline(0, color=figure_canvas.INK, linewidth=0.8, linestyle=":")
            title = study_tables.label(arm["cohort"], arm["scheme"])
            panel.set(title=title, ylim=(len(models) - 0.5, -0.5), yticks=range(len(models)))
            panel.set_yticklabels([display(name) for name in models])
            panel.set_xlabel("C minus linear model")
        titles = [study_tables.label(arm["cohort"], arm["scheme"]) for arm in arms]
        alt = "; ".join(f"{title}: {study_tables.headline(arm)}" for title, arm in zip(titles, arms, strict=True))
        return figure_canvas.finish("results_forest", "C minus that of the linear model", alt, [panels[0]])


def _settings(args: argparse.Namespace, arms: list[Arm]) -> dict[str, Any]:
    return {
        "seeds": args.seeds, "folds": args.folds, "repeats": args.repeats, "bootstrap": args.bootstrap,
        "data": {arm.cohort.name: arm.cohort.digest for arm in arms},
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}",
    }  # fmt: skip
