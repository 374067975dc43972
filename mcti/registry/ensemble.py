"""The models of all folds as one: who is predicted by which, from files that are checked and never unpickled.

A patient of the development cohort is predicted by the model of the fold that did not see them: the numbers are those
of the evaluation, bit for bit. Anybody else is predicted by the mean over all members, or, where the version has one,
by the refit, trained on everybody (docs/registry.md). The folder knows the development patients by the SHA-256 of their
id only.
"""

import hashlib
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mcti import storage
from mcti.errors import DataError, did_you_mean
from mcti.model import compatibility
from mcti.model.clinical import check_ranges
from mcti.model.reference_profile import ReferenceProfile, mean_patch
from mcti.model.trained import TrainedModel, single_thread, survival_column
from mcti.redaction import hashed

INDEX = "ensemble.json"
REFIT = "refit"
_FILES = ("weights.safetensors", "model.json")
ALL_MEMBERS = "ensemble"
OUTPUTS = {
    "patient_id": "text",
    "risk": "number",
    "risk_group": "text",
    "S_": "number",
    "ood_score": "number",
    "out_of_distribution": "flag",
    "missing": "text",
    "unknown_genes": "count",
    "beyond_followup": "text",
    "model": "text",
    "digest": "text",
}
"""Columns of a prediction in their order, and what stands in them; `S_` for those of each horizon (`outputs`)."""
GROUPS = {
    2: ("low", "high"),
    3: ("low", "intermediate", "high"),
    4: ("lowest", "low", "high", "highest"),
}
"""Names of the risk groups, lowest first."""
MISSING_GENES = 0.05
"""Share of the model's genes that a patient's table may lack."""


def outputs(horizons_months: Sequence[float]) -> dict[str, str]:
    """The columns of a prediction at these months, with text, number, count or flag."""
    found: dict[str, str] = {}
    for name, kind in OUTPUTS.items():
        columns = [name] if name != "S_" else [
            f"{survival_column(months)}{end}" for months in horizons_months for end in ("", "_low", "_high")
        ]  # fmt: skip
        found |= dict.fromkeys(columns, kind)
    return found


class GenesMissing(UserWarning):
    """A table of expression lacks some genes of the model, which are taken as not measured."""


@dataclass(frozen=True)
class Ensemble:
    """Members by name, and for each known patient (by hash) the members that did not see them.

    sketches  what each member remembers of its training patients; a model of before mcti 0.2 has none
    made      how the features were made that it learned from, as far as their files said
    """

    members: Mapping[str, TrainedModel]
    assigned: Mapping[str, tuple[str, ...]]
    horizons_months: tuple[float, ...]
    digest: str
    reference_profiles: Mapping[str, ReferenceProfile] = field(default_factory=dict)
    default_members: tuple[str, ...] = ()  # who predicts those whom nobody knows; none named: all members
    feature_attributes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        inputs = {(member.config.genes, member.config.covariates) for member in self.members.values()}
        if len(inputs) != 1:
            raise DataError(
                "the members expect different genes or covariates", "ensemble", "register folds of one training run"
            )

    @property
    def genes(self) -> tuple[str, ...]:
        """The genes that a patient must bring, in order."""
        return tuple(next(iter(self.members.values())).config.genes)

    @property
    def covariates(self) -> tuple[str, ...]:
        """The clinical covariates that a patient must bring; most models read none."""
        return tuple(next(iter(self.members.values())).config.covariates)

    @property
    def features(self) -> int:
        """D, the width of a patch's features."""
        return int(next(iter(self.members.values())).config.features)

    def check_features(self, made: Mapping[str, Any], where: str) -> None:
        """Refuse features of another kind than the model learned from, even where they are as wide.

        made  attributes of the files, `{name: value}`; what either side does not say is not compared, and of
              encoders with known weights the weights count, not the name

        Raises
            DataError: another encoder, other weights, another way to prepare the tile, other µm/px.
        """
        weights = [side.get("encoder_weights_sha256") for side in (made, self.feature_attributes)]
        for name in ("encoder_weights_sha256" if all(weights) else "encoder", "encoder_preprocessing", "target_mpp"):
            theirs, ours = made.get(name), self.feature_attributes.get(name)
            if theirs and ours and theirs != ours and not (isinstance(ours, list) and theirs in ours):
                what = f"features with {name} {theirs}, and the model learned from {ours}"
                raise DataError(what, where, "extract the slides as those of the training were")

    @single_thread()
    def predict(
        self,
        patient_id: str,
        patches: Tensor | None,
        genes: Mapping[str, float | None] | None,
        horizons_months: Sequence[float] | None = None,
        covariates: Mapping[str, float | None] | None = None,
        risk_groups: int = 2,
    ) -> dict[str, Any]:
        """One patient, one row of what `mcti predict` and the server answer (docs/serving.md).

        patches  (N, D) raw features of all slides, or None;  genes  {name: expression}, NaN or None: not measured
        covariates  {name: value} of the clinical covariates that the model reads, NaN or None: missing

        risk, S_<months>           mean over the members that speak for the patient: all, or for one of the development
                                   cohort those that did not see them
        S_<months>_low, _high      lowest and highest member; None where one speaks alone
        risk_group                 1st of `risk_groups` groups: low …, by quantiles of the out-of-fold risks
        ood_score, out_of_distribution   distance from the training patients as a share of the cut; above 1: True
        missing                    of slides, genes, clinical (none of the covariates is known) what lacks, joined by +
        unknown_genes              how many genes were given that the model does not know
        beyond_followup            the S_<months> later than the longest follow-up in training, joined by +
        model                      the fold that predicted, `refit`, or `ensemble`
        digest                     first 12 characters of the model's SHA-256

        Raises
            DataError: a gene or covariate is missing, a bag has the wrong width, a modality is missing that is needed,
                a covariate lies outside the range of the contract (age 0 to 120).
        """
        vector = self._measured(patient_id, genes)
        member_predictions = self._ask(patient_id, patches, vector, horizons_months, covariates)
        rows = list(member_predictions.values())
        spans: dict[str, Any] = {}
        for key in rows[0]:
            values = [row[key] for row in rows]
            # A single row passes through untouched: the bits of the evaluation.
            spans[key] = math.fsum(values) / len(values) if len(values) > 1 else values[0]
            if key != "risk":
                alone = len(values) == 1
                spans |= {f"{key}_low": None if alone else min(values), f"{key}_high": None if alone else max(values)}
        score = self._ood_score(member_predictions, patches, vector, covariates)
        known = [value for name, value in (covariates or {}).items() if name in self.covariates]
        lacking = {"slides": patches is None, "genes": vector is None}
        lacking["clinical"] = bool(known) and all(value is None or math.isnan(value) for value in known)
        return {
            "patient_id": patient_id,
            "risk": spans.pop("risk"),
            "risk_group": self._group(member_predictions, risk_groups),
            **spans,
            "ood_score": score,
            "out_of_distribution": None if score is None else score > 1,
            "missing": "+".join(name for name, gone in lacking.items() if gone),
            "unknown_genes": len((genes or {}).keys() - self._known_genes),
            "beyond_followup": "+".join(self._beyond(member_predictions, rows[0])),
            "model": "+".join(member_predictions)
            if self.default_members or self.is_development_patient(patient_id)
            else ALL_MEMBERS,
            "digest": self.digest[:12],
        }

    def _group(self, member_predictions: Mapping[str, Mapping[str, float]], groups: int) -> str | None:
        """The speakers' mean risk against cuts on their own scales: those of two members differ.

        None for a model without such a record.
        """
        words = GROUPS.get(groups)
        if words is None:
            raise DataError(f"{groups} risk groups", "risk_groups", f"one of {', '.join(map(str, GROUPS))}")
        mean = math.fsum(row["risk"] for row in member_predictions.values()) / len(member_predictions)
        limits = [self._limit(tuple(member_predictions), k / groups) for k in range(1, groups)]
        if any(math.isnan(limit) for limit in limits):
            return None
        return words[sum(mean > limit for limit in limits)]

    def _limit(self, eligible_members: tuple[str, ...], level: float) -> float:
        """The risk below which a share `level` of unseen patients is expected, mean over the speakers; NaN: not known.

        A fold: the quantile of its out-of-fold risks. A refit was tested on nobody, its risks of those it learned from
        spread too wide, and the folds' cuts lie on another scale. So the folds tell at which share of their *training*
        patients the out-of-fold quantile falls, and the refit is cut at that share of its own.
        """
        if not set(eligible_members) <= self.reference_profiles.keys():
            return math.nan
        if set(eligible_members) <= set(self.default_members):
            folds = [sketch for name, sketch in self.reference_profiles.items() if name not in self.default_members]
            level = math.fsum(sketch.level_out_of_fold(level) for sketch in folds) / len(folds)
            return math.fsum(
                self.reference_profiles[name].training_risk.quantile(level) for name in eligible_members
            ) / len(eligible_members)
        return math.fsum(self.reference_profiles[name].risk.quantile(level) for name in eligible_members) / len(
            eligible_members
        )

    @cached_property
    def _known_genes(self) -> frozenset[str]:
        return frozenset(self.genes)

    def _beyond(self, member_predictions: Mapping[str, object], row: Mapping[str, float]) -> list[str]:
        """Columns of S(t) at months that no training patient of one of the members was followed to."""
        followed = min(self.members[name].fitted.edges[-1] for name in member_predictions)
        return [name for name in row if name.startswith("S_") and float(name.removeprefix("S_")) > followed]

    def percentile(self, patient_id: str, risk: float, levels: int = 100) -> float | None:
        """Share in % of unseen development patients with a lower risk than `risk`, as `predict` gave it.

        On the scale of the members that speak for the patient, from the same record as the risk groups, in steps of
        100 / levels; None for a model without such a record.
        """
        limits = [self._limit(self.eligible_members(patient_id), k / levels) for k in range(1, levels)]
        if any(math.isnan(limit) for limit in limits):
            return None
        return 100.0 * sum(risk > limit for limit in limits) / levels

    def _ood_score(
        self,
        member_predictions: Mapping[str, object],
        patches: Tensor | None,
        vector: Tensor | None,
        covariates: Mapping[str, float | None] | None,
    ) -> float | None:
        patch = mean_patch(patches)
        found = [
            self.reference_profiles[name].ood_score(
                patch, vector, self.members[name].fitted, covariates, self.covariates
            )
            for name in member_predictions
            if name in self.reference_profiles
        ]
        known = [score for score in found if score is not None]
        return math.fsum(known) / len(known) if known else None

    def member_predictions(
        self,
        patient_id: str,
        patches: Tensor | None,
        genes: Mapping[str, float | None] | None,
        horizons_months: Sequence[float] | None = None,
        covariates: Mapping[str, float | None] | None = None,
    ) -> dict[str, dict[str, float]]:
        """What each member that may predict this patient says, `{member: {risk, S_<months>…}}`; as `predict`."""
        vector = self._measured(patient_id, genes)
        return self._ask(patient_id, patches, vector, horizons_months, covariates)

    def _ask(
        self,
        patient_id: str,
        patches: Tensor | None,
        vector: Tensor | None,
        horizons_months: Sequence[float] | None,
        covariates: Mapping[str, float | None] | None,
    ) -> dict[str, dict[str, float]]:
        check_ranges(covariates or {}, self.covariates)
        horizons = self.horizons_months if horizons_months is None else tuple(horizons_months)
        names = self.eligible_members(patient_id)
        return {name: self.members[name].predict(patches, vector, horizons, covariates) for name in names}

    def is_development_patient(self, patient_id: str) -> bool:
        """Whether the patient belongs to the development cohort."""
        return hashed(patient_id) in self.assigned

    def eligible_members(self, patient_id: str) -> tuple[str, ...]:
        """The members that predict this patient: those that did not see them in training; else the refit, or all."""
        return self.assigned.get(hashed(patient_id), self.default_members or tuple(self.members))

    def _measured(self, patient_id: str, genes: Mapping[str, float | None] | None) -> Tensor | None:
        """`vector`; None where not one gene was measured: that is no expression, and says so."""
        if genes is None or (genes and all(v is None or v != v for v in genes.values())):
            return None
        return self.vector(patient_id, genes)

    def vector(self, patient_id: str, genes: Mapping[str, float | None]) -> Tensor:
        """(G,) expression in the order of the model, NaN where not measured.

        A table made elsewhere may lack a few genes: up to `MISSING_GENES` of the model's count as not measured (the
        training mean), with a GenesMissing warning that names them. Raises DataError above.
        """
        missing = [name for name in self.genes if name not in genes]
        said = f"gene {missing[0]!r} is missing ({len(missing)} of {len(self.genes)})" if missing else ""
        if len(missing) > MISSING_GENES * len(self.genes):
            hint = did_you_mean(missing[0], genes) + f"; at most {MISSING_GENES:.0%} may be missing"
            raise DataError(said, f"patient {patient_id}", hint + "; an unmeasured gene is null")
        if missing:
            shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
            said = f"{len(missing)} genes of the model are missing and count as not measured: {shown}"
            warnings.warn(said, GenesMissing, stacklevel=2)
        values = [genes.get(name) for name in self.genes]
        return torch.tensor([math.nan if value is None else float(value) for value in values], dtype=torch.float32)


def assemble(models: Path, out: Path, *, refit: bool = False) -> str:
    """Copy the folds below `models` (fold_*/…) into the new folder `out` with an index; the digest of the contents.

    refit  also models/refit, which then predicts everybody whom no fold was tested on

    Raises
        DataError: there is no fold, a fold lacks a file, two folds were trained with other settings or code, or claim
            the same patient within one repeat; the refit is missing, or was trained with other settings, code or
            patients than the folds.
    """
    tested = fold_folders(models)
    _check_alike(tested)
    folders = [*tested, _refit(models, tested)] if refit else tested
    index: dict[str, Any] = {"members": {folder.name: _hashes(folder) for folder in folders}}
    index["assigned"] = _assigned(tested)
    if refit:
        index["default_members"] = [REFIT]
    out.mkdir(parents=True)
    for folder in folders:
        (out / folder.name).mkdir()
        for name in _FILES:
            (out / folder.name / name).write_bytes((folder / name).read_bytes())
    (out / INDEX).write_text(storage.to_json(index), encoding="utf-8")
    return digest_of(index)


def load(folder: Path) -> Ensemble:
    """The ensemble in `folder`: what `assemble` wrote, or the folds as `mcti train` wrote them.

    Raises
        DataError: a file is missing, altered, no safetensors file, or holds a weight that is NaN or infinite.
    """
    if (folder / INDEX).exists():
        index = storage.read_json(folder / INDEX)
        folders = [folder / name for name in sorted(index["members"], key=_fold_number)]
        for path in folders:
            _unaltered(path, index["members"][path.name])
    else:
        folders = fold_folders(folder)
        index = {"members": {path.name: _hashes(path) for path in folders}, "assigned": _assigned(folders)}
        _check_alike(folders)
    members = {path.name: _member(path) for path in folders}
    spec = storage.read_json(folders[0] / "model.json")
    assigned = {key: tuple(names) for key, names in index["assigned"].items()}
    everybody = tuple(index.get("default_members", ()))
    months = tuple(float(h) for h in spec["horizons_months"])
    made = spec.get("features", {})
    return Ensemble(members, assigned, months, digest_of(index), _sketches(folders), everybody, made)


def trained_on(folder: Path) -> dict[str, frozenset[str]]:
    """SHA-256 of the ids of everybody a member was trained on, by member; `folder` holds fold_*/model.json.

    Raises
        DataError: a model.json does not name its patients.
    """
    found = {}
    for path in fold_folders(folder):
        spec = storage.read_json(path / "model.json")
        if "patients" not in spec:
            raise DataError("the training patients are not named", str(path / "model.json"), "train this fold again")
        found[path.name] = frozenset(_as_hash(str(patient)) for patient in spec["patients"])
    return found


def _as_hash(patient: str) -> str:
    """`mcti train` writes hashes; a model.json of other hands may name its patients."""
    return patient if re.fullmatch("[0-9a-f]{64}", patient) else hashed(patient)


def digest_of(index: Mapping[str, Any]) -> str:
    """One SHA-256 over the members' files and the assignment: the identity of the model."""
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()


def fold_folders(models: Path) -> list[Path]:
    """The folders fold_0, fold_1, … below `models`, in the order of their numbers.

    Raises
        DataError: there is none.
    """
    found = [path for path in models.glob("fold_*") if path.is_dir() and path.name.removeprefix("fold_").isdecimal()]
    if not found:
        raise DataError("no trained fold (fold_0, fold_1, …)", str(models), "run `mcti train` first")
    return sorted(found, key=lambda path: _fold_number(path.name))


def _check_alike(folders: Sequence[Path]) -> None:
    files = [path / "model.json" for path in folders]
    compatibility.check_folds({str(file): storage.read_json(file) for file in files if file.exists()})


def _refit(models: Path, folds: Sequence[Path]) -> Path:
    """The folder of the refit, which must be the folds' own: same settings and code, all of their patients."""
    folder = models / REFIT
    if not (folder / "model.json").exists():
        raise DataError("no refit", str(folder), "run `mcti train --refit`, or set register.predictor to cv_ensemble")
    ours, theirs = (storage.read_json(path / "model.json") for path in (folder, folds[0]))
    code = [spec.get("digests", {}).get("code") for spec in (ours, theirs)]
    everybody = {patient for path in folds for patient in storage.read_json(path / "model.json")["patients"]}
    wrong = {
        "settings": ours["params"] != theirs["params"],
        "code": code[0] != code[1],
        "patients": set(ours["patients"]) != everybody,
    }
    if any(wrong.values()):
        named = ", ".join(name for name, differs in wrong.items() if differs)
        raise DataError(f"the refit has other {named} than the folds", str(folder), "run `mcti train --refit` again")
    return folder


def _fold_number(name: str) -> int:
    if name == REFIT:
        return -1
    number = name.removeprefix("fold_")
    if number == name or not number.isdecimal():  # `../x` must not lead out of the folder
        raise DataError(f"member {name!r} is no fold", INDEX, "register the models anew")
    return int(number)


def _hashes(folder: Path) -> dict[str, str]:
    for name in _FILES:
        if not (folder / name).exists():
            raise DataError(f"{name} is missing", str(folder), "run `mcti train` again: it goes on with this fold")
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in _FILES}


def _unaltered(folder: Path, expected: Mapping[str, str]) -> None:
    found = _hashes(folder)
    for name in _FILES:
        if found[name] != expected.get(name):
            raise DataError(
                f"SHA-256 {found[name][:12]}… is not the registered {expected.get(name, 'none')[:12]}…",
                str(folder / name),
                "take the model from the registry anew; somebody altered the file",
            )


def _sketches(folders: Sequence[Path]) -> dict[str, ReferenceProfile]:
    found = {}
    for folder in folders:
        spec = storage.read_json(folder / "model.json")
        if "reference" in spec:
            found[folder.name] = ReferenceProfile.from_spec(spec["reference"], str(folder / "model.json"))
    return found


def _assigned(folders: Sequence[Path]) -> dict[str, list[str]]:
    import pandas as pd

    assigned: dict[str, list[str]] = {}
    for folder in folders:
        path = folder / "predictions.csv"
        if not path.exists():
            raise DataError("predictions.csv is missing", str(folder), "run `mcti train` again")
        for patient in pd.read_csv(path, usecols=["patient_id"], dtype=str, keep_default_na=False)["patient_id"]:
            assigned.setdefault(hashed(patient), []).append(folder.name)
    return dict(sorted(assigned.items()))


def _member(folder: Path) -> TrainedModel:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / "weights.safetensors"
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"no safetensors file ({error})", str(path), "take the file that `mcti train` wrote") from error
    broken = [
        name for name, tensor in tensors.items() if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ]
    if broken:
        raise DataError(f"tensor {broken[0]!r} holds a NaN or an infinity", str(path), "train this fold again")
    return TrainedModel.from_state(tensors, storage.read_json(folder / "model.json"), str(folder / "model.json"))
