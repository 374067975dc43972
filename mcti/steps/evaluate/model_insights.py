"""Details of the trained models for the report: gene groups, learning curves, critical patches."""

import csv
import io
from typing import Any

import numpy as np
import torch

from mcti import redaction, storage
from mcti.dataset.bags import TilePosition
from mcti.dataset.loading import load_dataset
from mcti.evaluation import cohort_figures, metrics
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.report import GeneGroups
from mcti.model.network import MCTI
from mcti.model.trained import TrainedModel, single_thread
from mcti.slides.tile_images import TileImage, TileImages
from mcti.storage import Location
from mcti.training import fold_files

TOP_GENES, SHOWN_PATIENTS, SHOWN_PATCHES = 8, 3, 5
"""Genes of a group, patients at either end of the ranking, and patches of a patient in the report."""


def history(models: Location, outcomes: Outcomes) -> dict[int, dict[str, list[float]]]:
    """{fold: {column: values}} of every fold with a history.csv; NaN where a value is undefined (an empty cell)."""
    by_fold = {}
    for fold in outcomes.folds:
        path = storage.join(models, f"fold_{fold.number}", "history.csv")
        if storage.exists(path):
            rows = list(csv.DictReader(io.StringIO(storage.read_bytes(path).decode("utf-8"))))
            if rows:
                by_fold[fold.number] = {name: [float(row[name] or "nan") for row in rows] for name in rows[0]}
    return by_fold


def load_mcti(models: Location, fold: int) -> TrainedModel | None:
    """The model of a fold; None where its weights do not exist or it is not an MCTI network."""
    folder = storage.join(models, f"fold_{fold}")
    if not storage.exists(storage.join(folder, "weights.safetensors")):
        return None
    model = fold_files.load(folder)
    return model if isinstance(model.net, MCTI) else None


def gene_groups(models: Location, outcomes: Outcomes) -> GeneGroups | None:
    """Gene groups of the first fold for a patient at the training mean; None for a model without groups.

    Groups have no order, so the groups of several folds cannot be averaged.
    """
    number = outcomes.folds[0].number
    model = load_mcti(models, number)
    if model is None:
        return None
    net, genes = model.net, model.config.genes
    assert isinstance(net, MCTI)
    with single_thread(), torch.inference_mode():
        _, average = net.axes(torch.zeros(1, 1, model.config.features), torch.zeros(1, len(genes)))
        weights = net.genomics(average)[1]
    if weights is None:
        return None
    weights = net.axes.by_gene(weights)
    rows = []
    for group, row in enumerate(weights[0].numpy()):
        order = np.argsort(-row, kind="stable")[:TOP_GENES]
        rows.append({"group": group + 1, "genes": [(genes[i], float(row[i]) * len(genes)) for i in order]})
    return GeneGroups(number, rows)


def critical_patches(
    cohort: Location,
    features: Location | None,
    models: Location,
    outcomes: Outcomes,
    risk: np.ndarray,
    slides: Location | None = None,
) -> list[dict[str, Any]]:
    """The best- and the worst-predicted patients with the event, and the positions of their critical patches.

    Best: the largest share of pairs in the correct order, among patients with the event, because patients without one
    are in few pairs. risk (m,). slides: a manifest or folder, for images of the patches.
    """
    if features is None:
        return []
    images = None if slides is None else TileImages(slides, features)
    share, _ = cohort_figures.agreement(outcomes, metrics.c_index(outcomes, risk))
    rows = []
    for patient, selection in _select_patients(outcomes, share):
        row = int(np.flatnonzero(outcomes.patient == patient)[0])
        fold, patient_id = int(outcomes.fold_number[row]), outcomes.patient_ids[patient]
        patches = _patches(cohort, features, models, fold, patient_id, images)
        if patches is None:
            continue
        same_fold = outcomes.fold_number == fold
        rows.append(
            {
                "patient_id": redaction.redact_id(patient_id),
                "selection": selection,
                "agreement": float(share[patient]),
                "months": float(outcomes.time_months[patient]),
                "rank": float((risk[same_fold] <= risk[row]).mean()),
                "patches": patches,
            }
        )
    return rows


def _select_patients(outcomes: Outcomes, share: np.ndarray) -> list[tuple[int, str]]:
    """(row of the cohort table, best | worst) of the patients to show; share (n,) of pairs in the correct order."""
    known = np.flatnonzero(outcomes.event & np.isfinite(share))
    order = known[np.argsort(-share[known], kind="stable")]
    count = min(SHOWN_PATIENTS, len(order) // 2)
    best, worst = order[:count], order[len(order) - count :][::-1]
    return [(int(row), "best") for row in best] + [(int(row), "worst") for row in worst]


def _patches(
    cohort: Location, features: Location, models: Location, fold: int, patient: str, images: TileImages | None
) -> list[dict[str, Any]] | None:
    """slide_id, x, y (level-0 pixels), score and image of the most critical patches; None without model or slides."""
    model = load_mcti(models, fold)
    if model is None:
        return None
    bag = load_dataset(cohort, features, list(model.config.genes), [patient]).bags[patient]
    if bag.patches is None or (bag.genes is None and not model.config.missing):
        return None
    with single_thread(), torch.inference_mode():
        output = model.net(**model.inputs(bag.patches, bag.genes, bag.clinical))
    critical = [
        (int(i), float(s)) for i, s in zip(output.critical[0], output.critical_scores[0], strict=True) if i >= 0
    ]
    patches = [{**_position(bag.tile_position(i)), "score": score} for i, score in critical[:SHOWN_PATCHES]]
    _add_images(patches, images)
    return [{**patch, "slide_id": redaction.text(patch["slide_id"])} for patch in patches]


def _add_images(patches: list[dict[str, Any]], images: TileImages | None) -> None:
    """Set `crop` of each patch, slide by slide: its image or the reason why there is none; None without slides."""
    for patch in patches:
        patch["crop"] = None if images is None else TileImage(missing="no coordinates")
    if images is None:
        return
    for slide in sorted({patch["slide_id"] for patch in patches}):
        located = [patch for patch in patches if patch["slide_id"] == slide and patch["x"] is not None]
        tiles = images.read_tiles(slide, [(p["x"], p["y"]) for p in located])
        for patch, tile in zip(located, tiles, strict=True):
            patch["crop"] = tile


def _position(tile: TilePosition) -> dict[str, Any]:
    """Slide, corner and number of a tile for the report; x and y are None where the file has no coordinates."""
    return {"slide_id": tile.slide_id, "x": tile.x, "y": tile.y, "index": tile.number, "tiles": tile.count}
