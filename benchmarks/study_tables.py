"""The page of the real study from the numbers of results.json (benchmarks/study_report.py)."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import study_data, study_pool
from benchmarks.study_text import HEAD, NOTES, POOLING, display
from mcti import figure_canvas
from mcti.evaluation.comparison import Interval

OURS = ("mcti", study_pool.DEFAULT, study_pool.DEFAULT_TRANSFER)
BARS = {("brca", "random"): 0.645, ("brca", "site"): 0.626, ("nsclc", "random"): 0.606, ("nsclc", "site"): 0.585}
"""Mean of folds of the untuned all-linear model by the recipe of the data's own page, for the cohorts it names."""


def page(document: Mapping[str, Any], figure: figure_canvas.Figure) -> str:
    """docs/results.md."""
    parts = [HEAD]
    if document["missing"]:
        parts += ["**Partial.** These models are missing; the command below resumes with them:\n"]
        parts += [*_missing(document["missing"]), ""]
    parts += ["```", "python -m benchmarks.tcga_study", "```", ""]
    parts += _goal_section(document)
    parts += [f"![{figure.alt}](figures/results_forest.svg)", ""]
    for scheme, rows in document["pooled"].items():
        parts += [_pooled_section(document, scheme, rows), ""]
    parts += [_contrast_table(document["contrasts"]), ""]
    for arm in document["arms"]:
        parts += [_arm_section(arm), ""]
    return "\n".join([*parts, NOTES])


def _missing(missing: Mapping[str, list[str]]) -> list[str]:
    """One line per set of cohorts that lack the same models."""
    cohorts: dict[tuple[str, str], list[str]] = {}
    for arm, names in missing.items():
        cohort, scheme = arm.rsplit(" ", 1)
        for name in names:
            cohorts.setdefault((scheme, name), []).append(cohort.upper())
    models: dict[tuple[str, str], list[str]] = {}
    for (scheme, name), where in cohorts.items():
        models.setdefault((scheme, ", ".join(where)), []).append(name)
    items = [f"* {where}, {_scheme(scheme)}: {', '.join(names)}" for (scheme, where), names in models.items()]
    return _wrapped(items)


def _goal_section(document: Mapping[str, Any]) -> list[str]:
    lines = ["## Pooled over the cohorts", "", POOLING, ""]
    lines += ["| folds | contrast | pooled difference in C | tau | I² | lowest cohort | cohorts | goal | reached |"]
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    for row in document["pooled_contrasts"]:
        if (p := row["pooled"]) is None:
            figures = "not measured | | | | 0"
        else:
            figures = f"{_signed(p)} | {_p(p['tau'])} | {100 * p['heterogeneity']:.0f} % | {p['least']:+.3f} "
            figures += f"| {p['cohorts']}"
        primary = row["scheme"] == study_data.PRIMARY
        goal, reached = (_goal(row["goal"]), row["reached"] or "") if primary else ("", "")
        lines.append(f"| {_scheme(row['scheme'])} | {_pair(row)} | {figures} | {goal} | {reached} |")
    return [*lines, "", *_verdicts(document), *_choice_section(document["choices"])]


def _goal(goal: Mapping[str, Any] | None) -> str:
    if goal is None:
        return ""
    parts = [f"pooled ≥ {goal['pooled']:+.2f}"] if goal["pooled"] is not None else []
    parts += ["interval above 0"] if goal["above_zero"] else []
    parts += [f"no cohort below {goal['cohort']:+.2f}"] if goal["cohort"] is not None else []
    return ", ".join(parts)


def _verdicts(document: Mapping[str, Any]) -> list[str]:
    """One sentence per goal, on the primary folds."""
    lines = []
    for row in document["pooled_contrasts"]:
        if row["goal"] is None or row["scheme"] != study_data.PRIMARY:
            continue
        pair, figures = _pair(row), row["pooled"]
        if row["reached"] == "not measured":
            lines.append(f"* {pair}: not measured on all cohorts, so that the goal is open.")
        else:
            verdict = {"yes": "the goal is reached", "no": "the goal is **not** reached"}[row["reached"]]
            better = row["model"] if figures["value"] >= 0 else row["comparator"]
            lines.append(f"* {pair}: {_signed(figures)}; {verdict}. {_short(better)} has the higher pooled C.")
    return [*_wrapped(lines), ""]


def _wrapped(items: Sequence[str]) -> list[str]:
    wrap = textwrap.TextWrapper(118, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return [line for item in items for line in wrap.wrap(item)]


def _choice_section(choices: Mapping[str, Any]) -> list[str]:
    if not choices:
        return []
    lines = ["The default chosen without a cohort: the model with the best pooled difference on all others.", ""]
    lines += ["| cohort left out | model chosen by the others | its difference on this cohort |", "|---|---|---|"]
    lines += [
        f"| {name.upper()} | {display(row['model'])} | {_signed(row['difference'])} |"
        for name, row in choices["cohorts"].items()
    ]
    total = _signed(choices["pooled"]) if choices["pooled"] else "–"
    return [*lines, f"| pooled | | {total} |", ""]


def _pooled_section(document: Mapping[str, Any], scheme: str, rows: Mapping[str, Any]) -> str:
    """Each model: C by cohort, mean C, pooled difference from the linear model."""
    arms = {arm["cohort"]: arm["models"] for arm in document["arms"] if arm["scheme"] == scheme}
    head = " | ".join(name.upper() for name in arms)
    lines = [f"C by cohort, {_scheme(scheme)}:", "", f"| model | {head} | mean | minus linear model, pooled |"]
    lines += ["|" + "---|" * (len(arms) + 3)]
    for name, row in rows.items():
        values = " | ".join(_p(m[name]["c_index"]["value"]) if name in m else "" for m in arms.values())
        mean = _p(row["mean_c"]) if row["cohorts"] == len(arms) else ""
        pooled = _signed(row["minus_linear_all"]) if row["minus_linear_all"] and mean else ""
        lines.append(f"| {_bold(name)} | {values} | {mean} | {pooled} |")
    return "\n".join(lines)


def _contrast_table(rows: list[dict[str, Any]]) -> str:
    lines = ["## Contrasts by cohort", "", "| cohort | folds | contrast | difference in C | p | p (Holm) |"]
    lines += ["|---|---|---|---|---|---|"]
    lines += [
        f"| {r['cohort'].upper()} | {_scheme(r['scheme'])} | {_pair(r)} "
        f"| {_signed(r)} | {_p(r['p'])} | {_p(r['p_holm'])} |"
        for r in rows
    ]
    return "\n".join(lines)


def _pair(row: Mapping[str, Any]) -> str:
    return f"{_short(row['model'])} − {_short(row['comparator'])}"


def _short(name: str) -> str:
    return "linear model" if name == study_pool.BAR else display(name)


def _scheme(scheme: str) -> str:
    return "by site (primary)" if scheme == study_data.PRIMARY else scheme


def label(cohort: str, scheme: str) -> str:
    """The heading of an arm."""
    return f"{cohort.upper()}, {'folds by site' if scheme == 'site' else 'random folds'}"


def headline(arm: Mapping[str, Any]) -> str:
    differences = {name: arm["models"][name]["minus_linear_all"]["value"] for name in OURS if name in arm["models"]}
    return ", ".join(f"{display(n)} {'–' if v is None else f'{v:+.3f}'}" for n, v in differences.items())


def _arm_section(figures: Mapping[str, Any]) -> str:
    bar = BARS.get((figures["cohort"], figures["scheme"]))
    lines = [f"## {label(figures['cohort'], figures['scheme'])}", ""]
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
            f"| {_interval(m['c_within_subtype']) if 'c_within_subtype' in m else '–'} | {_interval(m['uno_c'])} |"
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
