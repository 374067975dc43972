"""Results of an evaluation as artifacts of the Kubeflow UI: a ROC curve, an HTML page, a Markdown table."""

import csv
import html
from pathlib import Path

from mcti import storage
from mcti.model.names import display

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<body style="font-family: sans-serif; margin: 1rem"><h1 style="font-size: 1.1rem">{title}</h1>{figure}
<p>{notice}</p></body></html>
"""


def roc(evaluation: Path) -> tuple[list[float], list[float], list[float]]:
    """False positive rate, true positive rate (both between 0 and 1) and threshold of MCTI at the middle horizon.

    evaluation  the output folder of `evaluate`;  three empty lists where no horizon could be scored
    """
    with (evaluation / "plots" / "roc.csv").open(encoding="utf-8", newline="") as file:
        table = [{name: float(text) for name, text in row.items()} for row in csv.DictReader(file)]
    months = sorted({row["months"] for row in table})
    rows = [row for row in table if row["months"] == months[len(months) // 2]]
    false_positive, true_positive, threshold = (
        [row[name] for row in rows] for name in ("false_positive_rate", "true_positive_rate", "threshold")
    )
    return false_positive, true_positive, threshold


def curves(evaluation: Path) -> str:
    """Survival of the risk groups as a self-contained HTML page."""
    figure = (evaluation / "figures" / "kaplan_meier.svg").read_text(encoding="utf-8")
    notice = html.escape(str(storage.read_json(evaluation / "result.json")["notice"]))
    title = "Survival by predicted risk, out of fold"
    return _PAGE.format(title=title, figure=figure[figure.index("<svg") :], notice=notice)


def scores(evaluation: Path) -> str:
    """C-index of every model with its 95 % interval as a Markdown table, the highest first."""
    result = storage.read_json(evaluation / "result.json")
    lines = [f"**{_cell(result['notice'])}**", ""] if result["notice"] else []
    lines += [f"{result['patients']} patients, {result['events']} events, {result['folds']} folds; out of fold.", ""]
    lines += ["| model | C-index | 95 % interval |", "|---|---|---|"]
    for name, c in sorted(result["models"].items(), key=lambda pair: -(pair[1]["value"] or 0)):
        value, low, high = (_number(c[key]) for key in ("value", "low", "high"))
        lines.append(f"| {_cell(display(name))} | {value} | {low} to {high} |")
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def _cell(text: object) -> str:
    """Text of a user without markup and without the cell separator."""
    return html.escape(str(text)).replace("|", "&#124;").replace("\n", " ")
