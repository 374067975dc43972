import h5py
import pandas as pd
import pytest

from mcti import storage
from mcti.cohort import tables
from mcti.cohort.folds import read_folds
from mcti.errors import DataError, UsageError
from mcti.model.prior import Prior
from mcti.params import SplitParams
from mcti.redaction import hashed
from mcti.registry import ensemble_files
from mcti.registry.priors import PriorFiles
from mcti.steps import transfer as transfer_module
from mcti.steps.evaluate import recalibration
from mcti.steps.pretrain import pretrain
from mcti.steps.train import train
from mcti.training import folds as training
from tests.training import factories

SPLIT = SplitParams(folds=2, inner_folds=2, min_test_events=0)


def settings(sources, **changes):
    return factories.settings(**({"workers": 1, "epochs": 1, "sources": sources} | changes))


def make_source(root, name, prefix, seed, genes=factories.GENES):
    cohort, features, _ = factories.folders(root / name, patients=16, seed=seed, prefix=prefix)
    rewrite(cohort, info={"name": name}, genes=genes)
    return {"cohort": str(cohort), "features": str(features)}


def rewrite(cohort, info, genes=factories.GENES[:4]):
    changed = tables.read_info(cohort).model_copy(update=info)
    expression = tables.read_expression(cohort)[list(genes)]
    tables.write(tables.Cohort(tables.read_patients(cohort), expression, tables.read_slides(cohort), changed), cohort)


def with_entries(cohort):
    """Write the column of late entry, 0 for all patients."""
    parts = tables.read_expression(cohort), tables.read_slides(cohort), tables.read_info(cohort)
    tables.write(tables.Cohort(tables.read_patients(cohort).assign(entry_months=0.0), *parts), cohort)


@pytest.fixture
def sources(tmp_path):
    return [make_source(tmp_path, "one", "A", 1), make_source(tmp_path, "two", "B", 2, factories.GENES[:4])]


@pytest.fixture(scope="module")
def pan(tmp_path_factory):
    root = tmp_path_factory.mktemp("pan")
    sources = [make_source(root, "one", "A", 1), make_source(root, "two", "B", 2, factories.GENES[:4])]
    return pretrain(settings(sources), SPLIT, root / "out"), root / "out"


def test_the_folder_has_a_cohort_features_folds_and_one_model_per_fold(pan):
    result, out = pan
    assert (result.cohorts, result.patients, result.slides, result.folds) == (("one", "two"), (16, 16), 32, 2)
    patients = tables.read_patients(out / "cohort")
    assert result.events == patients["event"].sum()
    assert len(list((out / "features").glob("*.h5"))) == 32
    tested = pd.concat([pd.read_csv(path, dtype=str) for path in (out / "models").glob("fold_*/predictions.csv")])
    assert sorted(tested["patient_id"]) == sorted(patients["patient_id"])
    spec = storage.read_json(out / "models" / "fold_0" / "model.json")
    assert spec["config"]["classes"] == ["one IDC", "one ILC", "two IDC", "two ILC"]
    assert spec["config"]["genes"] == list(factories.GENES)
    assert "sources" not in spec
    assert sorted(spec["digests"]["cohorts"]) == ["one", "two"]


def test_the_evaluation_recognises_the_models_of_a_pretraining(pan, tmp_path):
    out = pan[1]
    assert recalibration.is_pretrained(out / "models", [0, 1])
    cohort, features, folds = factories.folders(tmp_path, patients=16)
    train(cohort, features, folds, factories.settings(workers=1, epochs=1), tmp_path / "models")
    numbers = read_folds(folds).numbers
    assert not recalibration.is_pretrained(tmp_path / "models", numbers)


def test_a_model_learns_from_the_training_patients_of_its_fold_alone(tmp_path, sources, monkeypatch):
    tasks, original = [], training.train
    monkeypatch.setattr(training, "train", lambda task, **options: tasks.append(task) or original(task, **options))
    pretrain(settings(sources), SPLIT, tmp_path / "out")
    folds = read_folds(tmp_path / "out" / "folds" / "folds.csv")
    for task, number in zip(tasks, folds.numbers, strict=True):
        assert task.by_cohort
        learned = [patient for source in task.sources for patient in source.bags]
        assert sorted(learned) == sorted(folds.train_patients(number))
        assert [source.cohort["name"] for source in task.sources] == ["one", "two"]
        assert all(patient.startswith("A") for patient in task.sources[0].bags)


def test_the_same_sources_train_nothing_again_and_another_cohort_of_a_patient_does(tmp_path, sources):
    out = tmp_path / "out"
    pretrain(settings(sources), SPLIT, out)
    weights = out / "models" / "fold_0" / "weights.safetensors"
    before, content = weights.stat().st_ino, weights.read_bytes()
    pretrain(settings(sources), SPLIT, out)
    assert weights.stat().st_ino == before
    train(out / "cohort", out / "features", out / "folds" / "folds.csv", settings([]), tmp_path / "plain")
    plain = (tmp_path / "plain" / "fold_0" / "weights.safetensors").read_bytes()
    assert plain != content, "the pool as one cohort is another model"


def test_a_patient_without_slides_is_left_out_unless_kept(tmp_path, sources):
    (tmp_path / "one" / "features" / "A-003-S.h5").unlink()
    result = pretrain(settings(sources), SPLIT, tmp_path / "out")
    assert result.patients == (15, 16)
    [excluded] = tables.read_info(tmp_path / "out" / "cohort").attrition
    assert (excluded.patient_id, excluded.reason) == ("A-003", "no features of a slide")
    kept_settings = settings(sources, modality_dropout=0.1)
    kept = pretrain(kept_settings, SPLIT.model_copy(update={"missing_modality": "keep"}), tmp_path / "kept")
    assert (kept.patients, kept.slides) == ((16, 16), 31)


def test_features_of_another_encoder_are_not_used(tmp_path, sources):
    for path in (tmp_path / "two" / "features").glob("*.h5"):
        with h5py.File(path, "a") as file:
            file.attrs["encoder"] = "another"
    for path in (tmp_path / "one" / "features").glob("*.h5"):
        with h5py.File(path, "a") as file:
            file.attrs["encoder"] = "the first"
    result = pretrain(settings(sources), SPLIT, tmp_path / "out")
    assert (result.patients, result.slides) == ((16, 16), 16)


def test_cohorts_without_any_features_give_a_model_of_genes(tmp_path, sources):
    genes = [{**source, "features": None} for source in sources]
    result = pretrain(settings(genes), SPLIT, tmp_path / "out")
    assert result.slides == 0
    assert not (tmp_path / "out" / "features").exists()
    assert storage.read_json(tmp_path / "out" / "models" / "fold_0" / "model.json")["config"]["modalities"] == ["genes"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda root, sources: settings(sources[:1]), UsageError, "1 cohorts to pretrain on in params.yaml"),
        (lambda root, sources: settings(sources, prior="models:/p/1"), UsageError, r"key train\.prior: remove it"),
        (lambda root, sources: settings([sources[0]] * 2), DataError, "the source is listed twice"),
        (
            lambda root, sources: rewrite(root / "two" / "cohort", {"name": "one"}),
            DataError,
            "cohort name 'one' is also",
        ),
        (lambda root, sources: rewrite(root / "two" / "cohort", {"endpoint": "DSS"}), DataError, "endpoint is DSS"),
        (
            lambda root, sources: with_entries(root / "two" / "cohort"),
            DataError,
            "only one of this cohort and source one",
        ),
    ],
    ids=["one source", "a prior", "twice", "one name", "endpoint", "late entry"],
)
def test_what_cannot_be_pooled_is_refused_and_nothing_is_written(tmp_path, sources, change, error, message):
    params = change(tmp_path, sources) or settings(sources)
    with pytest.raises(error, match=message):
        pretrain(params, SPLIT, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_models_are_a_prior_of_another_cohort_but_not_of_their_own(pan, tmp_path, monkeypatch):
    _, out = pan
    version = tmp_path / "version"
    ensemble_files.assemble(out / "models", version)
    target = factories.folders(tmp_path / "target", seed=5, prefix="T")
    files = PriorFiles(str(version), "pan-cancer", "1")
    monkeypatch.setattr(transfer_module, "fetch_prior", lambda address, scratch: files)
    priors = []
    original = training.train
    monkeypatch.setattr(
        training, "train", lambda task, **options: priors.append(task.prior) or original(task, **options)
    )
    params = settings([], prior="models:/pan-cancer/1", fine_tuning="full")
    train(*target, params, tmp_path / "models")
    assert isinstance(priors[0], Prior)
    assert priors[0].slides
    assert priors[0].patients == {hashed(name) for name in tables.read_patients(out / "cohort")["patient_id"]}
    itself = factories.folders(tmp_path / "itself", seed=1, prefix="A")
    with pytest.raises(DataError, match="it was trained on 16 patients of the cohort"):
        train(*itself, params, tmp_path / "refused")
