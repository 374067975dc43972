"""The origin of a model: the commit of the code and the MD5s of the data."""

import hashlib
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import mcti
from mcti import storage
from mcti.errors import DataError
from mcti.registry import transfer_origin

UNKNOWN = "unknown"
DIRTY = "-dirty"
CHANGED = "mcti.changed"
"""Tag of a version of a dirty working tree: the files that differed from the commit."""
SETTINGS = ("params.yaml", "dvc.yaml")
SOURCE = "mcti.data.source"
"""Tag of a model version: the MD5 of the folder of source tables and slides, where a pipeline pinned one."""
KFP_RUN = "mcti.kfp_run"
"""Tag of everything that a pipeline run created: the id of the run in Kubeflow Pipelines."""


@dataclass(frozen=True)
class Origin:
    """The pipeline run that created a version; "" for an unknown value.

    run     id of the run in Kubeflow Pipelines;  pipeline  its name and the SHA-256 of its definition
    data    MD5 of the folder of source tables and slides
    """

    run: str = ""
    pipeline: str = ""
    data: str = ""

    def tags(self) -> dict[str, str]:
        """The tags of the model version; an unknown value has no tag."""
        tags = {KFP_RUN: self.run, "mcti.pipeline": self.pipeline, SOURCE: self.data}
        return {name: value for name, value in tags.items() if value}


def commit() -> str:
    """The commit of the running code, `…-dirty` when files of the package or the settings differ (`changed_files`).

    Of an installed package it is the commit of the project in the working directory, whose files name the version of
    mcti. MCTI_COMMIT replaces it where there is no checkout (an image); without any of these it is `unknown`.
    """
    stated = os.environ.get("MCTI_COMMIT")
    if stated:
        return stated
    head = _git(_checkout(), "rev-parse", "HEAD")
    if head is None:
        return UNKNOWN
    return head + (DIRTY if changed_files() else "")


def _checkout() -> Path:
    """The folder of the package where git tracks it, else the working directory.

    An environment below a project is in the repository of that project, which does not track it.
    """
    package = Path(mcti.__file__).resolve()
    is_tracked = _git(package.parent, "ls-files", "--error-unmatch", package.name) is not None
    return package.parent if is_tracked else Path.cwd()


def changed_files() -> list[str]:
    """The files that differ from the last commit.

    Tracked files of the package; params.yaml and dvc.yaml of the working directory, also if untracked. Results that DVC
    writes (dvc.lock, metrics) do not count.
    """
    package = Path(mcti.__file__).resolve().parent
    status = _git(package, "status", "--porcelain", "--untracked-files=no", ".") or ""
    project = Path.cwd()
    settings = [name for name in SETTINGS if (project / name).is_file()]
    # Without an argument git would report all files.
    status += "\n" + ((_git(project, "status", "--porcelain", "--", *settings) or "") if settings else "")
    return sorted({line.split(maxsplit=1)[1] for line in status.splitlines() if line.strip()})


def has_commit(sha: str) -> bool:
    """Whether the checkout of the running code contains this commit."""
    return _git(_checkout(), "cat-file", "-e", f"{sha}^{{commit}}") is not None


def image() -> str:
    """The image of this task: MCTI_IMAGE (should include the digest); `none` outside a pipeline."""
    return os.environ.get("MCTI_IMAGE") or "none"


def code() -> dict[str, str]:
    """Tags of a run: commit and image."""
    return {"mcti.commit": commit(), "mcti.image": image()}


def pipeline_run() -> str:
    """The id of the pipeline run of which this process is a task: MCTI_RUN; "" outside a pipeline."""
    return os.environ.get("MCTI_RUN", "")


def folds_sha256(models: Path) -> str:
    """SHA-256 over the training and test patients of each fold."""
    import pandas as pd

    rows = []
    for folder in sorted(models.glob("fold_*")):
        trained = storage.read_json(folder / "model.json").get("patients", [])
        tested = pd.read_csv(folder / "predictions.csv", usecols=["patient_id"], dtype=str, keep_default_na=False)
        rows.append([folder.name, sorted(trained), sorted(tested["patient_id"])])
    return hashlib.sha256(storage.to_json(rows).encode()).hexdigest()


def data_versions(models: Path) -> dict[str, str]:
    """MD5s of the data that the models were trained on, by path, from the dvc.lock of their project.

    Models outside a DVC project (a step on a cluster) have one entry: `bags`, the MD5 over the digests of all training
    and test parts in their model.json. Each source and the prior of `train` have an entry with their digest.

    Raises DataError when dvc.lock cannot be read.
    """
    lock = next((p / "dvc.lock" for p in models.resolve().parents if (p / "dvc.lock").is_file()), None)
    locked = _locked(lock, models.resolve()) if lock is not None else {}
    folders = sorted(models.glob("fold_*"))
    versions = locked or {"bags": storage.text_md5("".join(_digests(folder) for folder in folders))}
    return versions | (transfer_origin.data_versions(storage.read_json(folders[0] / "model.json")) if folders else {})


def _locked(lock: Path, models: Path) -> dict[str, str]:
    """The data dependencies of the stage that wrote `models`; empty when no stage did."""
    try:
        stages: Mapping[str, Any] = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise DataError("not a DVC lock file", str(lock), "run `dvc repro` again") from error
    for stage in stages.values():
        if any((lock.parent / out["path"]).resolve() == models for out in stage.get("outs", ())):
            return {d["path"]: str(d["md5"]) for d in stage["deps"] if not d["path"].startswith("mcti/")}
    return {}


def _digests(folder: Path) -> str:
    return storage.to_json(storage.read_json(folder / "model.json").get("digests", {}))


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        completed = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return completed.stdout.strip() if completed.returncode == 0 else None
