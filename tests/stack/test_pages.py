"""The command blocks of README.md and docs/, each page in one project on real servers, in this process.

`command_blocks.ELSEWHERE` lists the pages whose blocks other tests run; a block with a title is not run.
"""

import os
import shutil
from pathlib import Path

import h5py
import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml

from mcti.cli.app import app
from mcti.cli.command_context import run_app
from mcti.demo import painting
from mcti.local import settings
from mcti.registry import promotion, tracking
from mcti.registry.gates import GateEvaluation
from tests.command_blocks import ELSEWHERE, PAGES, commands, to_run
from tests.stack.test_without_slides import make_features, make_tables

pytestmark = [pytest.mark.slow, pytest.mark.stack]
NAME, PATIENTS = "lung-os", 60
RUN_HERE = [name for name, page in PAGES.items() if to_run(page) and name not in ELSEWHERE]
INPUTS = ("--cohort", "data/cohort", "--features", "data/features")
MODELS = ("--models", "models/folds")
EVIDENCE = (*MODELS, "--evaluation", "reports/evaluation")
SETTINGS = {
    "ingest": {
        "name": NAME, "clinical": "data/raw/clinical.csv", "expression": "data/raw/expression.csv",
        "slides": "data/raw/slides.csv", "expression_scale": "z-score", "time_unit": "days",
        "endpoints": {name: {"time_months": f"{name}_days", "event": name} for name in ("OS", "DFI")},
    },
    "validate": {"min_events": 5, "min_patients": 10},
    "extract": {"workers": 1},
    "split": {"folds": 2, "inner_folds": 2, "min_test_events": 0},
    "search": {"trials": 1, "epochs": 1, "parallel_trials": 1, "experiment": NAME},
    "train": {
        "preset": "tiny", "epochs": 1, "workers": 1, "bins": {"count": 2}, "modality_dropout": 0.3, "cox_weight": 0,
        "horizons_months": [12, 24],
    },
    "evaluate": {
        "bootstrap": 100, "baselines": ["cox_clinical"], "primary_baseline": "cox_clinical",
        "attribution_patients": 0, "horizons_months": [12, 24],
    },
    "register": {"name": NAME, "experiment": NAME},
    "promote": {
        "min_events": 2, "bootstrap": 100, "margin": -1.0, "alpha": 0.4, "ibs_margin": 1, "calibration_margin": 1,
        "group_margin": 1, "max_latency_ratio": 100, "benchmark_patches": 20,
    },
    "predict": {"workers": 1},
    "explain": {"steps": 8, "clusters": 2},
    "monitor": {"min_patients": 5, "bootstrap": 100},
    "cluster": {"extract_shards": 1, "search_workers": 1, "experiment": NAME},
}  # fmt: skip
"""Every valid challenger is promoted: the commands are tested here, the gates in tests/registry."""


def call(words):
    """A command of mcti in this process; it must succeed."""
    assert run_app(app, words) == 0, " ".join(words)


def run_block(script):
    """The commands of a block, in order."""
    for program, *rest in commands(script):
        if program == "mcti":
            call(rest)
        elif program == "cd":
            os.chdir(rest[0])
        else:
            raise AssertionError(f"no rule to run {program}: add one, or a title to the block")


def train_and_evaluate():
    """Models in models/folds, with their evaluation."""
    call(["train", *INPUTS, "--folds", "data/folds.csv", "--out", "models/folds"])
    call(["evaluate", *INPUTS, "--folds", "data/folds.csv", *MODELS, "--out", "reports/evaluation"])


def promote_a_copy(_):
    """Another champion with the files and tags of the first version, so that there is a previous one."""
    decision = GateEvaluation(outcome="promote", reason="in a test", difference=None, gates=())
    with tracking.service() as client:
        copy = mlflow.MlflowClient().copy_model_version(f"models:/{NAME}/1", NAME)
        promotion.decide(client, promotion.verified_entries(client, NAME), copy, decision, {})


def write_tables(folder, first=1, count=PATIENTS, seed=0):
    """clinical.csv with two end points in days, expression.csv and slides.csv of patients P-001, P-002, …"""
    random = np.random.default_rng(seed)
    ids = [f"P-{number:03d}" for number in range(first, first + count)]
    genes = random.standard_normal((count, 6)).round(3)
    days, censoring = (
        900 * np.exp(-0.8 * genes[:, 0]) * random.exponential(size=count),
        random.uniform(200, 2000, count),
    )
    clinical = pd.DataFrame({"patient_id": ids, "cohort": "C", "site": [f"S{n % 4}" for n in range(count)]})
    clinical["age"], clinical["is_female"] = random.integers(40, 80, count), random.integers(0, 2, count)
    clinical["subtype"] = ["AB"[n % 2] for n in range(count)]
    for name, factor in {"OS": 1.0, "DFI": 0.8}.items():
        clinical[f"{name}_days"] = (np.minimum(days, censoring) * factor).round() + 1
        clinical[name] = (days <= censoring).astype(int)
    folder.mkdir(parents=True, exist_ok=True)
    clinical.to_csv(folder / "clinical.csv", index=False)
    table = pd.DataFrame(genes, columns=[f"GENE{n}" for n in range(6)])
    table.insert(0, "patient_id", ids)
    table.to_csv(folder / "expression.csv", index=False)
    pd.DataFrame({"patient_id": ids, "slide_id": [f"{name}-S" for name in ids]}).assign(
        path=[f"slides/{name}-S.svs" for name in ids]
    ).to_csv(folder / "slides.csv", index=False)
    return ids


def write_features(source, folder, ids):
    """Features of one slide, with noise, as those of the slide of each patient."""
    random = np.random.default_rng(len(ids))
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.read_csv(source / "slides.csv", dtype=str, keep_default_na=False).iloc[[0] * len(ids)]
    table.assign(patient_id=ids, slide_id=[f"{name}-S" for name in ids]).to_csv(folder / "slides.csv", index=False)
    for name in ids:
        target = folder / f"{name}-S.h5"
        shutil.copyfile(next(source.glob("*.h5")), target)
        with h5py.File(target, "r+") as file:
            file["features"][...] = file["features"][...] + random.normal(scale=0.1, size=file["features"].shape)


def write_project(root):
    """params.yaml, tables, the slides that the pages name, features of all patients, and folders of other patients."""
    (root / "params.yaml").write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")
    ids = write_tables(root / "data/raw")
    painting.paint(root / "painted/P-003-S.svs", seed=0, grade=2, er_positive=True)
    call(["extract", "--slides", "painted", "--out", "painted-features"])
    write_features(root / "painted-features", root / "data/features", ids)
    for name in ("slides/CMU-1-Small-Region", "slides/P-003-S", "new/slides/P-101"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / "painted/P-003-S.svs", root / f"{name}.svs")
    write_tables(root / "unseen", first=101, count=1, seed=3)
    shutil.copyfile(root / "unseen/expression.csv", root / "new/expression.csv")
    clinical = pd.read_csv(root / "unseen/clinical.csv")
    clinical[["patient_id", "age", "is_female"]].to_csv(root / "new/clinical.csv", index=False)


@pytest.fixture(scope="module")
def project(running, tmp_path_factory):
    """A project with a champion; the environment is restored at the end of the module."""
    settings.activate(Path(running.folder).parent, force=True)
    root = tmp_path_factory.mktemp("pages") / "a project"
    with pytest.MonkeyPatch.context() as patch:
        root.mkdir()
        patch.chdir(root)
        write_project(root)
        run_block(to_run(PAGES["docs/cohort.md"])[0])
        train_and_evaluate()
        call(["register", *EVIDENCE, "--validation", "reports/validation"])
        call(["promote"])
        yield root


def prepare_readme(root):
    """A cohort of other patients, and a previous champion."""
    write_new_cohort(root)
    promote_a_copy(root)


def write_new_cohort(root):
    """A cohort of other patients, with features."""
    ids = write_tables(root / "other", first=201, count=12, seed=4)
    tables = [f"--set=ingest.{name}=other/{name}.csv" for name in ("clinical", "expression", "slides")]
    call(["ingest", *tables, "--out", "data/new-cohort"])
    write_features(root / "painted-features", root / "data/new-features", ids)


def prepare_external_validation(root):
    """Another cohort; two projects with ready-made features."""
    write_new_cohort(root)
    (root / "data/new-cohort").rename(root / "other/cohort")
    (root / "data/new-features").rename(root / "other/features")
    for seed, name in enumerate(("brca", "blca")):
        make_features(root / name / "set", make_tables(root / name / "raw", name.upper(), seed))
        source = {"format": "trident", "path": "set", "encoder": "made", "mpp": 0.5, "patch_size": 256}
        ingest = {part: f"raw/{part}.csv" for part in ("clinical", "expression", "slides")} | {"name": name}
        changed = {"ingest": ingest, "extract": {"source": "import", "import": source}}
        (root / name / "params.yaml").write_text(yaml.safe_dump(SETTINGS | changed), encoding="utf-8")


def prepare_explain(root):
    lines = [
        f"HALLMARK_{n}\thttps://example.org\t" + "\t".join(f"GENE{m}" for m in (n, n + 1, n + 2)) for n in range(3)
    ]
    (root / "hallmark.gmt").write_text("\n".join(lines) + "\n")


def prepare_project(root):
    """A folder of tables, outside of a project."""
    folder = root.parent / "tables of a user"
    write_tables(folder)
    (folder / "expression.csv").rename(folder / "genes.csv")
    shutil.copytree(root / "data/features", folder / "features")
    os.chdir(folder)


def prepare_slides(root):
    """A table of two slides, and sets of other tools for them."""
    folder = root.parent / "slides and sets"
    (folder / "slides").mkdir(parents=True)
    ids = ["P-001", "P-002"]
    for name in ids:
        shutil.copyfile(root / "painted/P-003-S.svs", folder / f"slides/{name}-S.svs")
    write_tables(folder, count=2)
    random = np.random.default_rng(0)
    vectors = pd.DataFrame(
        random.standard_normal((2, 4)), index=pd.Index([f"{name}-S" for name in ids], name="slide_id")
    )
    vectors.add_prefix("f").to_parquet(folder / "prism.parquet")
    make_features(folder / "trident-set", {f"{name}-S": 0.0 for name in ids})
    titan = folder / "20x_512px_0px_overlap/slide_features_titan"
    for directory in (titan, folder / "clam-features/h5_files"):
        directory.mkdir(parents=True)
    for name in ids:
        with h5py.File(titan / f"{name}-S.h5", "w") as file:
            file["features"] = random.standard_normal(8).astype(np.float32)
            file["coords"] = np.zeros((5, 2), dtype=np.int64)  # of the patches
        with h5py.File(folder / f"clam-features/h5_files/{name}-S.h5", "w") as file:
            file["features"] = random.standard_normal((5, 8)).astype(np.float32)
            file["coords"] = np.arange(10).reshape(5, 2) * 256
    os.chdir(folder)


BY_FIXTURE = {"docs/cohort.md": 1}
"""Page -> number of its first blocks that `project` runs."""
PREPARE = {
    "README.md": prepare_readme,
    "docs/explain.md": prepare_explain,
    "docs/external-validation.md": prepare_external_validation,
    "docs/project.md": prepare_project,
    "docs/registry.md": promote_a_copy,
    "docs/slides.md": prepare_slides,
}


@pytest.mark.parametrize("page", RUN_HERE)
def test_the_commands_of_a_page_run(page, project, tmp_path, monkeypatch):
    """Each page in a copy of the project, in a folder with a space in its name; the registry is shared."""
    root = tmp_path / "a copy"
    shutil.copytree(project, root)
    monkeypatch.chdir(root)
    PREPARE.get(page, lambda _: None)(root)
    for script in to_run(PAGES[page])[BY_FIXTURE.get(page, 0) :]:
        run_block(script)
