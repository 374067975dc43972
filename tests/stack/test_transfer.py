"""Transfer from end to end on real servers: a model over two cohorts is promoted, and is the prior of a third one.

Both models are made by the pipelines; sources are a folder, an address in S3 and a version in DVC's remote.
"""

import shutil
from pathlib import Path

import h5py
import pandas as pd
import pytest
import yaml

from mcti import storage
from mcti.cohort import tables
from mcti.local import settings
from mcti.registry import tracking
from tests.registry.http_client import BIN, post
from tests.registry.http_client import running as serving
from tests.stack.test_pipelines import mcti, run_local
from tests.stack.test_without_slides import make_features, make_tables

pytestmark = [pytest.mark.slow, pytest.mark.stack]

PAN, NAME, REMOTE = "pan-transfer", "learned-transfer", "s3://mcti-data/transfer-test"
PARAMS = {
    "ingest": {
        "clinical": "raw/clinical.csv", "expression": "raw/expression.csv", "slides": "raw/slides.csv",
        "endpoint": "OS", "expression_scale": "z-score",
    },
    "extract": {
        "source": "import",
        "import": {"format": "trident", "path": "set", "encoder": "made", "mpp": 0.5, "patch_size": 256},
    },
    "validate": {"min_events": 5, "min_patients": 10},
    "split": {"folds": 2, "inner_folds": 2},
    "search": {"trials": 1, "epochs": 1},
    "train": {
        "preset": "tiny", "epochs": 10, "bins": {"count": 2}, "workers": 1, "fine_tuning": "full",
        "architecture": {"covariates": ["age", "is_female"]},
    },
    "evaluate": {"bootstrap": 100, "baselines": ["cox_clinical"], "primary_baseline": "cox_clinical"},
    "promote": {"min_events": 5, "bootstrap": 100},
    "predict": {"workers": 1},
    "cluster": {"remote": REMOTE, "extract_shards": 1, "search_workers": 1},
}  # fmt: skip


def write_settings(folder, name, **train):
    tree = {**PARAMS, "train": {**PARAMS["train"], **train}, "register": {"name": name}}
    tree["ingest"] = {**PARAMS["ingest"], "name": folder.name}
    (folder / "params.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")


@pytest.fixture(scope="module")
def root(running, tmp_path_factory):
    """Cohorts of four hospitals with their features; the environment is restored at the end of the module."""
    settings.activate(Path(running.folder).parent, force=True)
    root = tmp_path_factory.mktemp("hospitals")
    for seed, name in enumerate(("one", "two", "target", "three"), 3):
        make_features(root / name / "set", make_tables(root / name / "raw", name.upper(), seed))
        write_settings(root / name, NAME)
        mcti(root / name, "ingest", "--out", "cohort")
        mcti(root / name, "extract", "--slides", "cohort/slides.parquet", "--out", "features")
    return root


def published(folder):
    """A source as versions in DVC's remote."""
    parts = {part: mcti(folder, "data", "publish", part)["address"] for part in ("cohort", "features")}
    assert all(address.startswith("dvc+s3://") for address in parts.values())
    return parts


def uploaded(folder):
    """A source as folders in S3."""
    parts = {part: f"{REMOTE}/{folder.name}/{part}" for part in ("cohort", "features")}
    for part, address in parts.items():
        for path in (folder / part).iterdir():
            storage.upload(path, f"{address}/{path.name}")
    return parts


@pytest.fixture(scope="module")
def pan(root, preloaded):
    """The folder of a run of the pipeline `pretraining`."""
    folder = root / "pan"
    folder.mkdir()
    write_settings(folder, PAN, sources=[{"cohort": "../one/cohort", "features": "../one/features"},
                                         published(root / "two")])  # fmt: skip
    return run_local(folder, preloaded, "pretraining")[1]


@pytest.fixture(scope="module")
def target(root, pan, preloaded):
    """The folder of the third hospital, after the pipeline `training` with the prior and a source in S3."""
    folder = root / "target"
    write_settings(folder, NAME, sources=[uploaded(root / "three")], prior=f"models:/{PAN}@champion")
    run_local(folder, preloaded, "training")
    for name in ("one", "two", "three", "pan"):  # no result needs them
        shutil.rmtree(root / name)
    return folder


def test_the_pipeline_pretraining_promotes_a_model_of_both_cohorts(pan):
    verdict = storage.read_json(next(pan.glob("**/promote/verdict")))
    assert verdict["outcome"] == "promote", verdict
    (cohort,) = pan.glob("**/pretrain/cohort")
    assert list(tables.read_info(cohort).sources) == ["one", "two"]
    with tracking.service() as client:
        assert client.get_model_version_by_alias(PAN, "champion").version == "1"


def test_lineage_signatures_and_dossier_name_the_source_and_the_prior(target):
    address = f"models:/{NAME}@champion"
    with tracking.service() as client:
        digest = client.get_model_version_by_alias(PAN, "champion").tags["mcti.digest"]
    links = {link["what"]: link for link in mcti(target, "lineage", address)["links"]}
    assert (links["prior"]["state"], links["prior"]["value"]) == ("verified", digest)
    assert links["source three"]["note"].startswith("OS, 48 patients, ")
    assert "12 of 12 genes shared, slides of 48 patients used" in links["source three"]["note"]
    mcti(target, "dossier", address, "--out", "dossier.html")
    page = (target / "dossier.html").read_text(encoding="utf-8")
    assert digest in page
    assert links["source three"]["value"] in page


def test_the_server_returns_the_predictions_of_the_batch_without_any_source(target, tmp_path):
    words = ("--cohort", "cohort", "--features", "features", "--out", str(tmp_path / "batch.csv"))
    mcti(target, "predict", "--model", f"models:/{NAME}@champion", *words)
    batch = pd.read_csv(tmp_path / "batch.csv", float_precision="round_trip").set_index("patient_id")
    expression = tables.read_expression(target / "cohort")
    patients = tables.read_patients(target / "cohort").set_index("patient_id")
    names = list(batch.index[:3])
    with serving(tmp_path / "log", str(BIN / "mcti"), "serve", "--model", f"models:/{NAME}@champion") as address:
        body = {"dataframe_records": [record(target, name, expression, patients) for name in names]}
        status, response = post(address, body)
    assert status == 200, response
    for name, online in zip(names, response["predictions"], strict=True):
        assert online["risk"] == batch.loc[name, "risk"]
        assert online["S_12"] == batch.loc[name, "S_12"]


def record(folder, name, expression, patients):
    """A patient as `/invocations` reads one."""
    with h5py.File(folder / "features" / f"{name}-A.h5") as file:
        features = file["features"][:].astype(float).tolist()
    genes = {gene: float(value) for gene, value in expression.loc[name].items()}
    covariates = {key: float(patients.loc[name, key]) for key in ("age", "is_female")}
    return {"patient_id": name, "genes": genes, "features": features, "covariates": covariates}
