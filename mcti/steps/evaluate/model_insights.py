"""What the evaluation shows of the trained models themselves: gene groups, learning curves, critical patches."""

import csv
import io
from typing import Any

import numpy as np
import torch

from mcti import redaction, storage
from mcti.dataset.bags import TilePosition
from mcti.dataset.loading import load_dataset
from mcti.evaluation import cohort_figures
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.report import GeneGroups
from mcti.evaluation.statistics import PairMean
from mcti.model.network import MCTI
from mcti.model.trained import TrainedModel, single_thread
from mcti.slides.tile_images import TileImages
from mcti.storage import Location
from mcti.training import fold_files

TOP_GENES, SHOWN_PATIENTS, SHOWN_PATCHES = 8, 3, 5


def history(models: Location, outcomes: Outcomes) -> dict[int, dict[str, list[float]]]:
    """{fold: {column: values}} of every fold with a history.csv."""
    found = {}
    for fold in outcomes.folds:
        where = storage.join(models, f"fold_{fold.number}", "history.csv")
        if storage.exists(where):
            rows = list(csv.DictReader(io.StringIO(storage.read_bytes(where).decode("utf-8"))))
            if rows:
                found[fold.number] = {name: [float(row[name]) for row in rows] for name in rows[0]}
    return found


def trained(models: Location, fold: int) -> TrainedModel | None:
    """The model of a fold, where its weights are there and it is MCTI."""
    folder = storage.join(models, f"fold_{fold}")
    if not storage.exists(storage.join(folder, "weights.safetensors")):
        return None
    model = fold_files.load(folder)
    return model if isinstance(model.net, MCTI) else None


def gene_groups(models: Location, outcomes: Outcomes) -> GeneGroups | None:
    """Of the first fold: groups have no order, so that those of several folds cannot be averaged.

    Weights for a patient at the training mean; None for a model without groups.
    """
    number = outcomes.folds[0].number
    model = trained(models, number)
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
    pairs: PairMean,
    slides: Location | None = None,
) -> list[dict[str, Any]]:
    """The best- and the worst-predicted patients with the event, and where their critical patches lie.

    Best: the largest share of pairs in the right order; among those with the event, since only they order many.
    slides: a manifest or folder; the patches are then shown as well.
    """
    if features is None:
        return []
    pictures = None if slides is None else TileImages(slides, features)
    share, _ = cohort_figures.agreement(outcomes, pairs)
    known = np.flatnonzero(outcomes.event & np.isfinite(share))
    order = known[np.argsort(-share[known], kind="stable")]
    half = min(SHOWN_PATIENTS, len(order) // 2)
    chosen = [(row, "best") for row in order[:half]] + [(row, "worst") for row in order[len(order) - half :][::-1]]
    rows = []
    for row, kind in chosen:
        at = int(np.flatnonzero(outcomes.patient == row)[0])
        found = _patches(cohort, features, models, int(outcomes.fold_number[at]), outcomes.patient_ids[row], pictures)
        if found is None:
            continue
        part = outcomes.fold_number == outcomes.fold_number[at]
        rank = float((risk[part] <= risk[at]).mean())
        months = float(outcomes.time_months[row])
        said = {
            "patient_id": redaction.redact_id(outcomes.patient_ids[row]),
            "kind": kind,
            "agreement": float(share[row]),
        }
        rows.append({**said, "months": months, "rank": rank, "patches": found})
    return rows


def _patches(
    cohort: Location, features: Location, models: Location, fold: int, patient: str, pictures: TileImages | None
) -> list[dict[str, Any]] | None:
    """slide_id, x, y (level-0 pixels), score and crop of the most critical patches; None without model or slides."""
    model = trained(models, fold)
    if model is None:
        return None
    bag = load_dataset(cohort, features, list(model.config.genes), [patient]).bags[patient]
    if bag.patches is None or (bag.genes is None and not model.config.missing):
        return None
    with single_thread(), torch.inference_mode():
        seen = model.net(**model.inputs(bag.patches, bag.genes, bag.covariates))
    kept = [(int(i), float(s)) for i, s in zip(seen.critical[0], seen.critical_scores[0], strict=True) if i >= 0]
    patches = [{**_position(bag.tile_position(i)), "score": score} for i, score in kept[:SHOWN_PATCHES]]
    _illustrate(patches, pictures)
    return [{**patch, "slide_id": redaction.text(patch["slide_id"])} for patch in patches]


def _illustrate(patches: list[dict[str, Any]], pictures: TileImages | None) -> None:
    """Give each patch its crop, slide by slide; none where no slides were given or nobody knows where it lies."""
    for patch in patches:
        patch["crop"] = None
    if pictures is None:
        return
    for slide in sorted({patch["slide_id"] for patch in patches}):
        placed = [patch for patch in patches if patch["slide_id"] == slide and patch["x"] is not None]
        for patch, crop in zip(placed, pictures.read_tiles(slide, [(p["x"], p["y"]) for p in placed]), strict=True):
            patch["crop"] = crop


def _position(tile: TilePosition) -> dict[str, Any]:
    """Slide, corner and number of a tile as the report reads them; x and y None where the file has none."""
    return {"slide_id": tile.slide_id, "x": tile.x, "y": tile.y, "index": tile.number, "tiles": tile.count}
