import json

import pytest

from mcti.errors import DataError
from mcti.registry import card, ensemble_files, lineage
from mcti.registry.dossier_document import DossierSource
from mcti.registry.dossier_sections import data as data_section
from mcti.registry.transfer_origin import data_versions, lines, transfer_of
from tests.registry.factories import Run
from tests.registry.test_card import CARD
from tests.registry.test_dossier import card as dossier_card

SPEC = {
    "sources": [
        {
            "name": "luad", "endpoint": "OS", "expression_scale": "z-score", "patients": ["a" * 64, "b" * 64],
            "events": 1, "shared_genes": 1535, "genes": 1558, "slides": 2, "digest": "1" * 32,
        },
        {
            "name": "luad", "endpoint": "OS", "expression_scale": "z-score", "patients": ["c" * 64],
            "events": 1, "shared_genes": 3, "genes": 1558, "slides": 0, "digest": "2" * 32,
        },
    ],
    "prior": {"name": "pan", "version": "3", "digest": "d" * 64, "cohort": {}, "patients": ["e" * 64]},
}  # fmt: skip
USED = "OS, 2 patients, 1 events, 1535 of 1558 genes shared, slides of 2 patients used"
FIRST = f"source luad: {USED}, digest {'1' * 32}"


def test_sources_and_prior_are_described_in_one_line_each_without_hashes_of_patients():
    transfer = transfer_of(SPEC)
    assert "a" * 64 not in json.dumps(transfer)
    assert lines(transfer) == [
        FIRST,
        f"source luad: OS, 1 patients, 1 events, 3 of 1558 genes shared, no slides used, digest {'2' * 32}",
        f"prior pan version 3, digest {'d' * 64}",
    ]
    assert transfer_of({}) == {}
    assert lines({}) == []


def test_each_source_and_the_prior_is_a_data_version():
    names = {"transfer/luad": "1" * 32, "transfer/luad-22222222": "2" * 32, "transfer/prior": "d" * 32}
    assert data_versions(SPEC) == names
    assert data_versions({}) == {}


def add_transfer(path, **changes):
    spec = json.loads(path.read_text())
    spec |= SPEC
    spec["digests"] |= {"sources": ["1" * 32, "2" * 32], "prior": "d" * 64} | changes
    path.write_text(json.dumps(spec))


def test_the_data_versions_of_trained_folds_contain_them(tmp_path):
    run = Run(tmp_path)
    plain = lineage.data_versions(run.models)
    for path in run.models.glob("fold_*/model.json"):
        add_transfer(path)
    versions = lineage.data_versions(run.models)
    assert set(plain) == {"bags"}
    assert set(versions) == {"bags", *data_versions(SPEC)}
    assert versions["bags"] != plain["bags"]


def test_folds_with_other_sources_or_another_prior_are_no_model(tmp_path):
    run = Run(tmp_path)
    for path in run.models.glob("fold_*/model.json"):
        add_transfer(path)
    ensemble_files.load(run.models)
    add_transfer(run.models / "fold_2" / "model.json", prior="f" * 64)
    with pytest.raises(DataError, match="different models: prior is"):
        ensemble_files.load(run.models)


def test_the_patients_of_sources_and_prior_count_as_training_patients(tmp_path):
    run = Run(tmp_path)
    add_transfer(run.models / "fold_1" / "model.json")
    trained = ensemble_files.trained_on(run.models)
    assert trained["fold_1"] - trained["fold_0"] >= {letter * 64 for letter in "abce"}
    assert not trained["fold_0"] & {letter * 64 for letter in "abce"}


def test_the_card_and_the_dossier_show_them():
    transfer = transfer_of(SPEC)
    assert f"**Learned from:** {FIRST}" in card.markdown({**CARD, "transfer": transfer})
    assert "Learned from" not in card.markdown(CARD)
    source = DossierSource(
        version=1, alias="", card={**dossier_card(), "transfer": transfer}, metrics={}, sbom={}, entries=()
    )
    tables = {table.title: table.rows for table in data_section(source).tables}
    rows = tables["other cohorts that the training learned from"]
    assert [row[0] for row in rows] == ["luad", "luad"]
    assert rows[0][1].startswith("OS, 2 patients, 1 events, 1535 of 1558 genes shared")
    assert rows[0][2] == "1" * 32
    prior = ("name", "pan"), ("version", "3"), ("digest", "d" * 64)
    assert tables["registered model that the training started from"] == prior
