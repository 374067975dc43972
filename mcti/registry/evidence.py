"""The evidence for a version: the results of its evaluation and validation, stored with the version's run."""

import os
import tempfile
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcti import redaction, storage
from mcti.errors import DataError, OperationalError
from mcti.registry import ensemble_files, headline_metrics, lineage, tracking
from mcti.registry.rest import ApiError

if TYPE_CHECKING:
    import pandas as pd

FOLDER, REGIMES, BASELINES = "evaluation", "regimes.csv", "baselines.csv"
MODEL = "mcti"
_REQUIRED = ("metrics.json", "predictions.csv", "groups.csv", "result.json")
_FOR_OTHERS = ("baseline_models.safetensors", "case_mix.json", "inputs.json")  # read by `mcti test` and `mcti compare`
_STORED = (*_REQUIRED, "summary.json", BASELINES, "excluded.csv", "report.html", "figures", "plots", *_FOR_OTHERS)
_COUNTS = ("patients", "events", "competing_events", "late_entries", "median_follow_up", "excluded", "warnings")
_COHORT_FIELDS = ("name", "endpoint", "expression_scale", "md5", "numbers", "warnings")
_EXPECTATION_FIELDS = ("id", "description", "severity", "passed", "failing", "rows")


@dataclass(frozen=True)
class Evidence:
    """The evaluation in `reports` of folds whose first model.json is `spec`.

    data          MD5 of each input of the training;  folds_sha256  over the assignment of patients to folds
    contract      result of the data contract: passed | failed, `unknown` without a validation
    cohort        numbers of the validated cohort and its excluded patients by reason, as counts
    evaluated     counts of the evaluated patients: patients, events, excluded {step: {reason: patients}}, median
                  follow-up (months, None: not reached), warnings
    regimes       out-of-fold predictions without one modality, with outcomes; None where no fold has any
    md5           over the files that the gates read
    """

    reports: Path
    metrics: Mapping[str, Any]
    spec: Mapping[str, Any]
    data: Mapping[str, str]
    folds_sha256: str
    notice: str
    contract: str
    cohort: Mapping[str, Any]
    evaluated: Mapping[str, Any]
    regimes: "pd.DataFrame | None"
    md5: str

    @classmethod
    def read(cls, folds: Path, reports: Path, validation: Path | None = None) -> "Evidence":
        """Read the results and check that the evaluated patients are the folds' test patients.

        validation  the folder that `mcti validate` wrote for the same cohort

        Raises DataError when a file is missing, or the evaluation is of other models.
        """
        for name in _REQUIRED:
            if not (reports / name).exists():
                raise DataError(f"{name} is missing", str(reports), "run `mcti evaluate` first")
        folders = ensemble_files.fold_folders(folds)
        check_same_risks(folders, reports / "predictions.csv")
        result = storage.read_json(reports / "result.json")
        contract, cohort = ("unknown", {}) if validation is None else _contract(validation, str(result["cohort_md5"]))
        regimes = _regimes(folders, reports)
        with tempfile.TemporaryDirectory(prefix="mcti-redacted-") as scratch:
            files = {path.name: path for path in [*reports.iterdir(), *_regimes_file(regimes, Path(scratch))]}
            md5 = md5_of_files(contract, [_redacted(files[name], Path(scratch)) for name in _hashed(files)])
        return cls(
            reports=reports,
            metrics=storage.read_json(reports / "metrics.json"),
            spec=storage.read_json(folders[0] / "model.json"),
            data=lineage.data_versions(folds),
            folds_sha256=lineage.folds_sha256(folds),
            notice=str(result["notice"]),
            contract=contract,
            cohort=cohort,
            evaluated={name: result[name] for name in _COUNTS if name in result},
            regimes=regimes,
            md5=md5,
        )

    def score(self, model: str = MODEL) -> Mapping[str, float]:
        """C-index of a model: value, low, high."""
        scores: Mapping[str, float] = self.metrics[model]["c_index"]
        return scores

    def headline(self) -> dict[str, float]:
        """The headline metrics."""
        primary = storage.read_json(self.reports / "result.json").get("primary_baseline")
        return headline_metrics.select(self.metrics, primary)

    def log(self) -> None:
        """Log settings, data versions and files into the active run."""
        tracking.log_params(self.spec.get("params", {}))
        for name, md5 in self.data.items():
            tracking.log_dataset(name, md5, {"patients": len(self.spec.get("patients", []))})
        files = [self.reports / name for name in _STORED if (self.reports / name).exists()]
        with tempfile.TemporaryDirectory(prefix="mcti-redacted-") as scratch:
            files += _regimes_file(self.regimes, Path(scratch))
            redacted = [_redacted(path, Path(scratch)) for path in files]
            tracking.log_files({path: f"{FOLDER}/{path.name}" if path.is_dir() else FOLDER for path in redacted})


def fetch(run_id: str, name: str, scratch: Path, folder: str = FOLDER) -> Path:
    """One file or folder of the evaluation (or of `folder`) from a version's run.

    Raises
    DataError when the run has no such file.
    OperationalError when the file exists and cannot be downloaded.
    """
    try:
        return Path(_client().download_file(run_id, f"{folder}/{name}", scratch))
    except (ApiError, OSError) as error:
        if name in names(run_id, folder):
            reason = str(error).splitlines()[0]
            hint = "see the logs of MLflow and of S3 and try again"
            raise OperationalError(f"{folder}/{name} cannot be downloaded ({reason})", f"run {run_id}", hint) from error
        raise DataError(f"{folder}/{name} is missing", f"run {run_id}", "register the model again") from error


def gate_files(run_id: str, scratch: Path) -> list[Path]:
    """Local copies of the files of a version's run that the gates read, in the order of their MD5.

    Raises DataError when a file is missing.
    """
    return [fetch(run_id, name, scratch) for name in _hashed(names(run_id))]


def md5_of(run_id: str, contract: str, scratch: Path) -> str:
    """The MD5 of the evidence in a version's run, computed from its current files.

    Raises DataError when a file is missing.
    """
    return md5_of_files(contract, gate_files(run_id, scratch))


def not_hashed(run_id: str, contract: str, md5: str, scratch: Path) -> list[str]:
    """The files that `md5`, which an earlier version of mcti recorded, does not include; empty where it is no such MD5.

    Raises DataError when a file is missing.
    """
    hashed = _hashed(names(run_id))
    files = [fetch(run_id, name, scratch) for name in hashed]
    counts = range(len(_REQUIRED), len(hashed))
    return next((hashed[count:] for count in counts if md5_of_files(contract, files[:count]) == md5), [])


def _hashed(available: Container[str]) -> list[str]:
    """The files that the gates read, in the order of their hash; a new one comes last, for `not_hashed`.

    `baselines.csv` is absent where no baseline could be fitted, `regimes.csv` where the models need all modalities.
    """
    return [*_REQUIRED, *(name for name in (BASELINES, REGIMES) if name in available)]


def md5_of_files(contract: str, files: list[Path]) -> str:
    """The MD5 of the evidence: result of the data contract and files in the order of `gate_files`."""
    return storage.text_md5(contract + "".join(map(storage.md5, files)))


def names(run_id: str, folder: str = FOLDER) -> list[str]:
    """The names of the files and folders of the evaluation (or of `folder`) in a version's run."""
    return [Path(item.path).name for item in _client().list_artifacts(run_id, folder)]


def _client() -> Any:
    return tracking.client_of(os.environ["MLFLOW_TRACKING_URI"])


def read_predictions(path: Path) -> "pd.DataFrame":
    """The rows of a predictions file; each number has exactly the bits that were written."""
    import pandas as pd

    return pd.read_csv(path, dtype={"patient_id": str}, keep_default_na=False, float_precision="round_trip")


def _regimes(folders: list[Path], reports: Path) -> "pd.DataFrame | None":
    files = [folder / REGIMES for folder in folders]
    if not all(file.exists() for file in files):
        return None
    import pandas as pd

    outcome = read_predictions(reports / "predictions.csv")
    columns = ["patient_id", "fold", "time_months", "event", "entry_months"]
    outcome = outcome[[name for name in columns if name in outcome]]
    return pd.concat([read_predictions(file) for file in files]).merge(outcome, on=["patient_id", "fold"])


def _regimes_file(regimes: "pd.DataFrame | None", scratch: Path) -> list[Path]:
    """`regimes.csv` written to `scratch`, as it is stored; none without such predictions."""
    if regimes is None:
        return []
    regimes.to_csv(scratch / REGIMES, index=False, lineterminator="\n")
    return [scratch / REGIMES]


def _contract(validation: Path, cohort_md5: str) -> tuple[str, dict[str, Any]]:
    results = storage.read_json(validation / "results.json")
    if results["md5"] != cohort_md5:
        what = f"the validation is of cohort {results['md5'][:8]}…, the evaluation of {cohort_md5[:8]}…"
        raise DataError(what, str(validation), "run `mcti validate` on the cohort that was evaluated")
    cohort = {name: results.get(name) for name in _COHORT_FIELDS}
    cohort["attrition"] = {reason: len(ids) for reason, ids in results.get("attrition", {}).items()}
    cohort["expectations"] = [
        {name: expectation[name] for name in _EXPECTATION_FIELDS} for expectation in results.get("expectations", ())
    ]
    return "passed" if results["passed"] else "failed", cohort


def _redacted(path: Path, scratch: Path) -> Path:
    """The file as it may be published: with `--redact`, tables and report contain hashes in place of patient ids."""
    if not redaction.active() or path.suffix not in (".csv", ".html"):
        return path
    if path.suffix == ".html":
        redaction.register_ids(read_predictions(path.with_name("predictions.csv"))["patient_id"])
        (scratch / path.name).write_text(redaction.text(path.read_text(encoding="utf-8")), encoding="utf-8")
        return scratch / path.name
    import pandas as pd

    table = pd.read_csv(path, dtype=str, keep_default_na=False)  # as text: the numbers must keep every bit
    table["patient_id"] = table["patient_id"].map(redaction.redact_id)
    table.to_csv(scratch / path.name, index=False, lineterminator="\n")
    return scratch / path.name


def check_same_risks(folders: list[Path], evaluated: Path) -> None:
    """Check that an evaluation is of the models in `folders` (fold_*): same patients, same risks.

    Raises DataError with the first patient for whom they differ.
    """
    import pandas as pd

    of_folds = pd.concat([read_predictions(folder / "predictions.csv") for folder in folders])
    of_evaluation = read_predictions(evaluated)
    hint = "run `mcti evaluate` on these models"
    unmatched = sorted(set(of_folds["patient_id"]) ^ set(of_evaluation["patient_id"]))
    if unmatched:
        what = f"patient {unmatched[0]!r} is not in both the folds' and the evaluation's predictions"
        raise DataError(what, str(evaluated), hint)
    if len(of_folds) == len(of_evaluation):
        both = of_folds.merge(of_evaluation, on=["patient_id", "fold"], suffixes=("_folds", "_evaluation"))
        different = both.loc[both["risk_folds"] != both["risk_evaluation"], "patient_id"]
        if len(different):
            what = f"the risk of patient {different.iloc[0]!r} is not that of the fold's model"
            raise DataError(what, str(evaluated), hint)
