"""Are the couplings of `compact` more than arbitrary? Their health while the network trains on real slides and genes.

Reads  ../shared/data/tcga (TCGA-BRCA: slide features, expression, overall survival, subtype)
Writes docs/figures/coupling_health.{csv,svg}: share of the mass that 1e-6 noise moves, plan entropy, effective rank of
       guides and values, by epoch and layer, on patients that are not trained on
Run    python -m benchmarks.model_health [--epochs 8] [--solver assignment] [--patients 640]
"""

import argparse
import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from mcti.model.network import MCTI
from mcti.model.presets import preset

DATA = Path(__file__).parents[2] / "shared" / "data" / "tcga"
FIGURES = Path(__file__).parents[1] / "docs" / "figures"
COLUMNS = ("epoch", "layer", "moved", "entropy", "rank_guides", "rank_values")


class Cohort:
    """Bags, genes, time bins, events and subtypes of the patients that have slides, standardised on the first ones."""

    def __init__(self, train: int) -> None:
        clinical = pd.read_csv(DATA / "brca_clinical.csv")
        slides = pd.read_csv(DATA / "brca_slides.csv")
        bags: dict[str, list[Tensor]] = {}
        with zipfile.ZipFile(DATA / "bags" / "brca.zip") as archive:
            known = set(archive.namelist())
            for patient, slide in zip(slides.patient_id, slides.slide_id, strict=True):
                if (name := slide.removesuffix(".svs") + ".pt") in known:
                    rows = torch.load(io.BytesIO(archive.read(name)), weights_only=True)
                    bags.setdefault(patient, []).append(rows)
        clinical = clinical[clinical.patient_id.isin(bags)].sample(frac=1, random_state=0)
        genes = pd.read_parquet(DATA / "brca_expression.parquet").set_index("patient_id").loc[clinical.patient_id]
        self.names = list(genes.columns)
        training_patches = torch.cat([torch.cat(bags[patient]) for patient in clinical.patient_id[:train]])
        self.bags = [
            (torch.cat(bags[patient]) - training_patches.mean(0)) / training_patches.std(0)
            for patient in clinical.patient_id
        ]
        values = torch.tensor(genes.to_numpy(np.float32))
        self.genes = (values - values[:train].mean(0)) / values[:train].std(0).clamp_min(1e-6)
        time, event = clinical.time_months.to_numpy(), clinical.event.to_numpy()
        edges = np.quantile(time[:train][event[:train] == 1], [0.25, 0.5, 0.75])
        self.bins, self.event = torch.tensor(np.digitize(time, edges)), torch.tensor(event).float()
        self.subtype = torch.tensor(pd.Categorical(clinical.subtype).codes.astype(int))

    def batch(self, rows: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Padded bags (b, N, D_in), mask (b, N) and genes (b, G) of the patients in these rows."""
        bags = [self.bags[row] for row in rows]
        padded = torch.nn.utils.rnn.pad_sequence(bags, batch_first=True)
        mask = torch.arange(padded.shape[1]) < torch.tensor([len(bag) for bag in bags])[:, None]
        return padded, mask, self.genes[rows]


def loss(net: MCTI, cohort: Cohort, rows: list[int]) -> Tensor:
    """Mean likelihood of the discrete hazards, and the subtype losses at 0.3."""
    output = net(*cohort.batch(rows))
    bins, event = cohort.bins[rows][:, None], cohort.event[rows]
    stays = F.logsigmoid(-output.hazard_logits)
    until = stays.cumsum(1).gather(1, bins)[:, 0]
    last = F.logsigmoid(output.hazard_logits).gather(1, bins)[:, 0] - stays.gather(1, bins)[:, 0]
    survival = -(until + event * last).mean()
    subtype = cohort.subtype[rows].long()
    return survival + 0.3 * (
        F.cross_entropy(output.subtype_logits, subtype) + F.cross_entropy(output.instance_logits, subtype)
    )


@torch.no_grad()
def look(net: MCTI, cohort: Cohort, rows: list[int], epoch: int) -> list[dict[str, float | str]]:
    """One row a coupling layer, means over streams and patients."""
    net.eval()
    couplings = net(*cohort.batch(rows), details=True).couplings
    assert couplings is not None
    table: list[dict[str, float | str]] = []
    for number, coupling in enumerate(couplings):
        health = coupling.health()
        values = (health.moved, health.entropy, health.rank_rows, health.rank_columns)
        numbers = [round(float(value.mean()), 4) for value in values]
        table.append(dict(zip(COLUMNS, [epoch, f"layer {number + 1}", *numbers], strict=True)))
    return table


def draw(table: list[dict[str, float | str]], solver: str) -> None:
    """One panel a measure, one line a coupling layer, over the epochs."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "mcti"
    from matplotlib import pyplot as plt

    titles = ("mass moved by 1e-6 noise", "plan entropy", "rank of the guides", "rank of the values")
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.2))
    for axis, column, title in zip(axes, COLUMNS[2:], titles, strict=True):
        for layer in dict.fromkeys(row["layer"] for row in table):
            mine = [row for row in table if row["layer"] == layer]
            axis.plot([row["epoch"] for row in mine], [row[column] for row in mine], marker="o", label=layer)
        axis.set(title=title, xlabel="epoch")
        axis.set_ylim(bottom=0)
    axes[0].legend()
    figure.suptitle(f"Couplings of compact ({solver}) on held-out TCGA-BRCA patients")
    figure.tight_layout()
    figure.savefig(FIGURES / "coupling_health.svg", metadata={"Date": None})


def main() -> None:
    """Train, look at the held-out couplings after each epoch, write the table and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--patients", type=int, default=640, help="patients trained on")
    parser.add_argument("--solver", default="assignment", choices=("assignment", "sinkhorn"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cohort = Cohort(options.patients)
    config = preset("compact", features=192, genes=cohort.names, classes=("IDC", "ILC"), bins=4, solver=options.solver)
    net, held_out = MCTI(config), list(range(options.patients, min(options.patients + 32, len(cohort.bags))))
    net.axes.fit_genes(cohort.genes[: options.patients])
    net.axes.fit_features(cohort.bags[: options.patients])
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)
    table = look(net, cohort, held_out, 0)
    for epoch in range(1, options.epochs + 1):
        net.train()
        for rows in torch.randperm(options.patients).split(16):  # type: ignore[no-untyped-call]
            optimizer.zero_grad()
            loss(net, cohort, rows.tolist()).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        table += look(net, cohort, held_out, epoch)
        print(*(f"{key} {value}" for key, value in table[-1].items()), flush=True)
    with (FIGURES / "coupling_health.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    draw(table, options.solver)


if __name__ == "__main__":
    main()
