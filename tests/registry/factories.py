"""A small synthetic run: random networks of preset `tiny`, their predictions, and an evaluation of them."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from mcti.model.competing_hazard import CompetingHazard
from mcti.model.network import MCTI
from mcti.model.presets import preset
from mcti.model.trained import Fitted, Scale, TrainedModel
from mcti.redaction import hashed

GENES = ("ESR1", "ERBB2", "MKI67")
FEATURES = 5
HORIZONS = (12.0, 60.0)
_MODELS: dict[tuple[object, ...], dict[Path, bytes]] = {}
"""The files of `models` that this process has written, by the arguments of the run."""


class Run:
    """Folders `models`, `evaluation`, `validation` below `root` (patients as arrays); 12 patients, 3 folds."""

    def __init__(
        self,
        root: Path,
        seed: int = 0,
        patients: int = 12,
        folds: int = 3,
        skill: float = 0.0,
        contract: str = "passed",
        regimes: bool = False,
        competing: CompetingHazard | None = None,
    ) -> None:
        self.models, self.evaluation = root / "models", root / "evaluation"
        draw = np.random.default_rng(5)  # the patients are independent of the seed of the networks
        self.ids = [f"P-{number:03d}" for number in range(patients)]
        self.genes = draw.normal(size=(patients, len(GENES))).astype(np.float32)
        self.bags = [draw.normal(size=(int(draw.integers(3, 9)), FEATURES)).astype(np.float32) for _ in self.ids]
        self.time = draw.exponential(40, size=patients) + 1
        self.event = draw.random(patients) < 0.6
        self.fold = np.arange(patients) % folds
        self.competing = competing
        self._write_models(seed, folds, regimes)
        self._evaluate(skill, seed)
        self.validation = root / "validation"
        self.validation.mkdir()
        results = {
            "name": "synthetic", "endpoint": "OS", "expression_scale": "log2", "md5": "a" * 32,
            "passed": contract == "passed",
            "numbers": {"patients": patients, "events": int(self.event.sum())}, "warnings": [],
            "attrition": {"no follow-up": ["X-1", "X-2"]},
            "expectations": [{"id": "e1", "description": "ages are <b>numbers</b>", "severity": "critical",
                              "passed": contract == "passed", "failing": 0, "rows": patients}],
        }  # fmt: skip
        (self.validation / "results.json").write_text(json.dumps(results))

    def model(self, fold: int) -> TrainedModel:
        spec = json.loads((self.models / f"fold_{fold}" / "model.json").read_text())
        from safetensors.torch import load_file

        return TrainedModel.from_state(load_file(self.models / f"fold_{fold}" / "weights.safetensors"), spec)

    def patient(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(self.bags[number]), torch.from_numpy(self.genes[number])

    def frame(self) -> pd.DataFrame:
        """The input of the served model."""
        return pd.DataFrame(
            {
                "patient_id": self.ids,
                "genes": [dict(zip(GENES, map(float, row), strict=True)) for row in self.genes],
                "features": [bag.astype(float).tolist() for bag in self.bags],
            }
        )

    def _write_models(self, seed: int, folds: int, regimes: bool) -> None:
        """Write the files of `_train`, which is called once per process for equal arguments."""
        key = (seed, len(self.ids), folds, regimes, self.competing)
        if key in _MODELS:
            for path, content in _MODELS[key].items():
                (self.models / path).parent.mkdir(parents=True, exist_ok=True)
                (self.models / path).write_bytes(content)
            return
        self._train(seed, folds, regimes)
        _MODELS[key] = {path.relative_to(self.models): path.read_bytes() for path in self.models.glob("*/*")}

    def _train(self, seed: int, folds: int, regimes: bool) -> None:
        for fold in range(folds):
            torch.manual_seed(100 * seed + fold)
            config = preset("tiny", features=FEATURES, genes=GENES, classes=("a", "b"), bins=3)
            scale = Scale(torch.zeros(FEATURES), torch.ones(FEATURES))
            fitted = Fitted(
                Scale(torch.zeros(3), torch.ones(3)), scale, (0.0, 20.0, 50.0, 200.0), competing=self.competing
            )
            net = MCTI(config)
            model = TrainedModel(net, config, fitted)
            folder = self.models / f"fold_{fold}"
            folder.mkdir(parents=True)
            save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / "weights.safetensors")
            trained = [hashed(p) for p, f in zip(self.ids, self.fold, strict=True) if f != fold]
            features = {
                "encoder": "hed44",
                "encoder_weights_sha256": "9" * 64,
                "target_patch_size": 256,
                "target_mpp": 0.5,
                "tissue_method": "hed",
            }
            extra = {
                "features": features,
                "params": {"epochs": 3},
                "horizons_months": list(HORIZONS),
                "patients": trained,
                "digests": {"train": "c" * 32, "test": "f" * 32, "names": "d" * 32, "code": "e" * 32},
            }
            (folder / "model.json").write_text(json.dumps(model.spec() | extra, sort_keys=True))
            rows = [
                {"patient_id": self.ids[i], "fold": fold} | model.predict(*self.patient(i), HORIZONS)
                for i in np.flatnonzero(self.fold == fold)
            ]
            table = pd.DataFrame(rows)
            table.to_csv(folder / "predictions.csv", index=False)
            if regimes:
                table.assign(regime="genes", risk=-table["risk"]).to_csv(folder / "regimes.csv", index=False)

    def _evaluate(self, skill: float, seed: int) -> None:
        parts = [
            pd.read_csv(self.models / f"fold_{f}" / "predictions.csv", float_precision="round_trip")
            for f in sorted(set(self.fold.tolist()))
        ]
        table = pd.concat(parts).sort_values("patient_id")
        table["time_months"], table["event"] = self.time, self.event.astype(int)
        self.evaluation.mkdir(parents=True)
        table.to_csv(self.evaluation / "predictions.csv", index=False)
        subtypes, sites = np.where(self.fold == 0, "a", "b"), np.where(np.arange(len(self.ids)) % 2, "x", "y")
        groups = pd.DataFrame({"patient_id": self.ids, "subtype": subtypes, "site": sites})
        groups.to_csv(self.evaluation / "groups.csv", index=False)
        scores = {"c_index": {"value": 0.5 + skill, "low": 0.4 + skill, "high": 0.6 + skill}}
        numbers = {"difference": {"value": skill, "low": skill - 0.1, "high": skill + 0.1}}
        counts = [{"patients": len(table), "events": int(table["event"].sum())}]
        search = {"nested": False, "seen": 4, "sentences": ["The search used 4 evaluated patients."]}
        model = scores | {"comparison": {"cox_clinical": numbers}, "folds": counts, "search": search}
        metrics = {"mcti": model, "cox_clinical": scores}
        (self.evaluation / "metrics.json").write_text(json.dumps(metrics, sort_keys=True))
        result = {
            "notice": "synthetic data",
            "cohort_md5": "a" * 32,
            "patients": len(table),
            "events": int(table["event"].sum()),
            "median_follow_up": None,
            "excluded": {"ingest": {"no follow-up": 2}, "split": {"no features of a slide": 3}},
            "warnings": ["Poor calibration: synthetic data."],
        }
        (self.evaluation / "result.json").write_text(json.dumps(result))
        assert math.isfinite(table["risk"].sum())

    def add_primary_baseline(self, risk: np.ndarray, name: str = "cox_clinical") -> None:
        """Out-of-fold risks (patients,) of baseline `name`, with the survival probabilities of the model."""
        table = pd.read_csv(self.evaluation / "predictions.csv", float_precision="round_trip")
        by_patient = dict(zip(self.ids, risk, strict=True))
        rows = table.drop(columns=["time_months", "event"]).assign(model=name, risk=table["patient_id"].map(by_patient))
        rows.to_csv(self.evaluation / "baselines.csv", index=False)
        metrics = json.loads((self.evaluation / "metrics.json").read_text())
        metrics["mcti"]["comparison"][name]["primary"] = True
        (self.evaluation / "metrics.json").write_text(json.dumps(metrics, sort_keys=True))

    def refit(self, **changes: object) -> None:
        """Another random network as `models/refit`, for all patients; `changes` replace keys of its model.json."""
        source, folder = self.models / "fold_0", self.models / "refit"
        folder.mkdir()
        spec = json.loads((source / "model.json").read_text()) | {"patients": [hashed(p) for p in self.ids]} | changes
        (folder / "model.json").write_text(json.dumps(spec, sort_keys=True))
        torch.manual_seed(99)
        net = MCTI(preset("tiny", features=FEATURES, genes=GENES, classes=("a", "b"), bins=3))
        save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / "weights.safetensors")
