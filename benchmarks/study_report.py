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

from benchmarks import study_data
from benchmarks.study_text import HEAD, NOTES, display
from mcti import figure_canvas, storage
from mcti.errors import MctiError
from mcti.evaluation import calibration, comparison, metrics, risk_groups, subgroups
from mcti.evaluation.comparison import Difference, FoldTest, Interval
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.predictions import Predictions
from mcti.evaluation.statistics import PairMean, Statistic
from mcti.params.variants import ABLATIONS

BAR, OURS = "linear_all", ("mcti", "mcti+cox")
CONFIDENCE = 0.95
PRIMARY = "site"
BARS = {("brca", "random"): 0.645, ("brca", "site"): 0.626, ("nsclc", "random"): 0.606, ("nsclc", "site"): 0.585}
"""Mean of folds of the untuned all-linear model by the recipe of the data's own page, for the cohorts it names."""


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
        return label(self.cohort.name, self.scheme)

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
    arms = [_arm(cohorts[name], scheme, models, args) for (name, scheme), models in by_arm.items()]
    arms = [arm for arm in arms if BAR in arm.models]
    if not arms:
        raise MctiError(f"no tables: {BAR} is not complete in any arm", str(args.out), f"add {BAR} to --models")
    primary = contrasts(arms)
    document = plain({"arms": [numbers(arm) for arm in arms], "primary": primary, "settings": _settings(args, arms)})
    figure = forest(document["arms"])
    args.docs.joinpath("figures").mkdir(parents=True, exist_ok=True)
    args.docs.joinpath("figures", "results_forest.svg").write_text(figure.svg, encoding="utf-8")
    storage.write_json(args.docs / "results.json", document)
    args.docs.joinpath("results.md").write_text(page(arms, document, figure), encoding="utf-8")


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
        "missing": arm.missing,
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
    label = arm.cohort.table["subtype"].astype(str).to_numpy()
    statistics: dict[str, Statistic] = {
        "c_index": pairs,
        "c_within_subtype": subgroups.pairs_of_one_label(pairs, label),
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
    truth = arm.cohort.table["subtype"].iloc[arm.outcomes.patient].reset_index(drop=True)
    return metrics.subtype_scores(truth, table[columns].rename(columns=lambda c: c.removeprefix("P ")))


def contrasts(arms: list[Arm]) -> list[dict[str, Any]]:
    """The primary contrasts with Holm over models and cohorts, separately for each scheme."""
    rows = []
    for scheme in study_data.SCHEMES:
        family = {
            (arm.cohort.name, name): _against(arm, name, BAR)
            for arm in arms
            if arm.scheme == scheme
            for name in OURS
            if name in arm.models
        }
        p_values = {" ".join(key): math.nan if v["p"] is None else v["p"] for key, v in family.items()}
        adjusted = comparison.holm(p_values)
        rows += [
            {"scheme": scheme, "cohort": c, "model": n, **v, "p_holm": comparison.finite(adjusted[f"{c} {n}"])}
            for (c, n), v in family.items()
        ]
    return rows


def forest(arms: list[dict[str, Any]]) -> figure_canvas.Figure:
    """C minus that of the linear model, with paired intervals, one panel per arm of results.json."""
    models = [name for name in dict.fromkeys(name for arm in arms for name in arm["models"]) if name != BAR]
    with figure_canvas.canvas("results_forest", width=11.0, height=1.4 + 0.27 * len(models)) as (axes,):
        drawing = axes.figure
        axes.remove()
        panels = drawing.subplots(1, len(arms), sharey=True, squeeze=False)[0]
        for panel, arm in zip(panels, arms, strict=True):
            for row, name in enumerate(models):
                if name not in arm["models"]:
                    continue
                d = arm["models"][name]["minus_linear_all"]
                colour = figure_canvas.COLOURS[1] if name in OURS else figure_canvas.COLOURS[0]
                panel.plot([d["low"], d["high"]], [row, row], color=colour)
                panel.plot([d["value"]], [row], "D" if name in OURS else "o", color=colour, markersize=5)
            panel.axvline(0, color=figure_canvas.INK, linewidth=0.8, linestyle=":")
            title = label(arm["cohort"], arm["scheme"])
            panel.set(title=title, ylim=(len(models) - 0.5, -0.5), yticks=range(len(models)))
            panel.set_yticklabels([display(name) for name in models])
            panel.set_xlabel("C minus linear model")
        alt = "; ".join(f"{label(arm['cohort'], arm['scheme'])}: {_headline(arm)}" for arm in arms)
        return figure_canvas.finish("results_forest", "C minus that of the linear model", alt, [panels[0]])


def label(cohort: str, scheme: str) -> str:
    """The heading of an arm."""
    return f"{cohort.upper()}, {'folds by site' if scheme == 'site' else 'random folds'}"


def _headline(arm: dict[str, Any]) -> str:
    differences = {name: arm["models"][name]["minus_linear_all"]["value"] for name in OURS if name in arm["models"]}
    return ", ".join(f"{display(n)} {'–' if v is None else f'{v:+.3f}'}" for n, v in differences.items())


def _settings(args: argparse.Namespace, arms: list[Arm]) -> dict[str, Any]:
    return {
        "seeds": args.seeds, "folds": args.folds, "repeats": args.repeats, "bootstrap": args.bootstrap,
        "data": {arm.cohort.name: arm.cohort.digest for arm in arms},
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}",
    }  # fmt: skip


def page(arms: list[Arm], document: dict[str, Any], figure: figure_canvas.Figure) -> str:
    """docs/results.md."""
    partial = [f"{a['cohort']}/{a['scheme']}: {', '.join(a['missing'])}" for a in document["arms"] if a["missing"]]
    parts = [HEAD]
    if partial:
        parts += ["**Partial.** These models are missing; the command below resumes with them:\n"]
        parts += ["\n".join(f"* {line}" for line in partial), ""]
    parts += ["```", "python -m benchmarks.tcga_study", "```", ""]
    parts += [_primary_table(document["primary"]), ""]
    parts += [f"![{figure.alt}](figures/results_forest.svg)", ""]
    for arm, figures in zip(arms, document["arms"], strict=True):
        parts += [_arm_section(arm, figures), ""]
    return "\n".join([*parts, NOTES])


def _arm_section(arm: Arm, figures: dict[str, Any]) -> str:
    bar = BARS.get((arm.cohort.name, arm.scheme))
    lines = [f"## {arm.label}", ""]
    lines += [
        f"{figures['patients']} patients, {figures['events']} events; events in the test folds: "
        + ", ".join(map(str, figures["events_by_fold"]))
        + ".",
        *([f"Reference, the mean of folds of an untuned all-linear model: {bar:.3f}."] if bar else []),
        "",
        "| model | C | mean of folds | single seeds | minus linear model | corrected for folds "
        "| within subtype | Uno's C |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, m in sorted(figures["models"].items(), key=lambda item: -(item[1]["c_index"]["value"] or 0)):
        less = m.get("minus_linear_all")
        seeds = " ".join(_p(c) for c in m["c_by_seed"]) if len(m["c_by_seed"]) > 1 else ""
        lines.append(
            f"| {_bold(name)} | {_interval(m['c_index'])} | {_p(m['mean_of_folds'])} | {seeds} "
            f"| {_signed(less) if less else ''} | {_signed(less['fold_corrected']) if less else ''} "
            f"| {_interval(m['c_within_subtype'])} | {_interval(m['uno_c'])} |"
        )
    lines += [
        "",
        "| model | AUC 36 months | integrated Brier | skill | slope 36 months | ICI 36 months | D-calibration p |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, m in figures["models"].items():
        p = m["d_calibration_p"]
        lines.append(
            f"| {_bold(name)} | {_interval(m['auc_36'])} | {_interval(m['ibs'])} | {_interval(m['ibs_skill'])} "
            f"| {_interval(m['slope_36'], 2)} | {_interval(m['ici_36'])} | {'–' if p is None else f'{p:.3f}'} |"
        )
    lines += _difference_table("Ablations: C minus MCTI's, same seeds", figures["ablations_minus_mcti"])
    lines += _difference_table(
        "Negative controls: MCTI (seed 0) with a modality replaced at inference, C minus MCTI's",
        figures["controls_minus_mcti"],
    )
    if figures["subtype"]:
        s = figures["subtype"]
        lines += ["", f"Subtype by MCTI: AUROC {_p(s['subtype_auroc'])}, macro-F1 {_p(s['subtype_macro_f1'])}."]
    return "\n".join(lines)


def _difference_table(title: str, rows: Mapping[str, Any]) -> list[str]:
    if not rows:
        return []
    body = [f"| {display(name)} | {_signed(row)} |" for name, row in rows.items()]
    return ["", f"| {title} | difference |", "|---|---|", *body]


def _primary_table(rows: list[dict[str, Any]]) -> str:
    lines = ["| cohort | folds | contrast | difference in C | p | p (Holm) |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {r['cohort'].upper()} | {r['scheme']}{' (primary)' if r['scheme'] == PRIMARY else ''} "
        f"| {display(r['model'])} − linear model | {_signed(r)} | {_p(r['p'])} | {_p(r['p_holm'])} |"
        for r in rows
    ]
    return "\n".join(lines)


def _p(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _bold(name: str) -> str:
    return f"**{display(name)}**" if name in OURS else display(name)


def _interval(n: Mapping[str, Any], digits: int = 3) -> str:
    value = Interval(*(math.nan if n[k] is None else n[k] for k in ("value", "low", "high")))
    if not math.isfinite(value.value):
        return "–"
    if not math.isfinite(value.low):
        return f"{value.value:.{digits}f}"
    return f"{value.value:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def _signed(n: Mapping[str, Any]) -> str:
    if n["value"] is None:
        return "–"
    ends = "" if n["low"] is None else f" [{n['low']:+.3f}, {n['high']:+.3f}]"
    return f"{n['value']:+.3f}{ends}"
