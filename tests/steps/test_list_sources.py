import json
import shutil

import pytest
import yaml

from mcti.params import TrainParams
from mcti.params.result_settings import STAGES
from mcti.steps import list_sources as module
from mcti.steps.cache_keys import cache_keys
from mcti.steps.list_sources import list_sources
from tests.steps.test_settings import DVC_YAML, SHIPPED, Project, with_keys
from tests.training import factories

VERSION = {"name": "pan", "version": "3", "digest": "a" * 64}


@pytest.fixture
def source(tmp_path):
    cohort, features, _ = factories.folders(tmp_path / "source", patients=8)
    return {"cohort": str(cohort), "features": str(features)}


def test_without_sources_and_prior_the_list_is_empty(tmp_path):
    assert list_sources(TrainParams(), tmp_path / "list.json").model_dump() == {"files": 0, "read": 0, "prior": ""}
    assert json.loads((tmp_path / "list.json").read_text()) == {"files": {}, "prior": None}


def test_the_list_changes_with_the_bytes_of_a_source_and_unchanged_files_are_not_read_again(source, tmp_path):
    params, out = TrainParams(sources=[source]), tmp_path / "list.json"
    assert list_sources(params, out).read == 12
    first = out.read_bytes()
    assert list_sources(params, out).read == 0
    assert out.read_bytes() == first
    shutil.copyfile(f"{source['features']}/P-001-S.h5", f"{source['features']}/P-000-S.h5")
    assert list_sources(params, out).read == 1
    assert out.read_bytes() != first


def test_the_list_changes_when_the_alias_of_the_prior_moves(tmp_path, monkeypatch):
    params, out = TrainParams(prior="models:/pan@champion"), tmp_path / "list.json"
    monkeypatch.setattr(module, "version_of_prior", lambda address: VERSION)
    assert list_sources(params, out).prior == "pan version 3"
    assert json.loads(out.read_text())["prior"] == VERSION


def test_cache_keys_from_the_search_on_contain_the_versions_of_sources_and_prior(source, monkeypatch):
    def keys(**train):
        return cache_keys("md5", "{}", "", "{}", "{}", TrainParams(**train).model_dump_json(), "{}")

    plain, first = keys(), keys(sources=[source])
    assert first[:3] == plain[:3]
    assert all(one != other for one, other in zip(first[3:], plain[3:], strict=True))
    assert keys(sources=[source]) == first
    shutil.copyfile(f"{source['features']}/P-001-S.h5", f"{source['features']}/P-000-S.h5")
    assert keys(sources=[source])[3] != first[3]
    monkeypatch.setattr(module, "version_of_prior", lambda address: VERSION)
    third = keys(prior="models:/pan@champion")
    monkeypatch.setattr(module, "version_of_prior", lambda address: VERSION | {"version": "4"})
    assert keys(prior="models:/pan@champion")[3] != third[3]


@pytest.mark.slow
def test_the_real_dvc_searches_and_trains_again_for_a_changed_source(source, preloaded, tmp_path):
    """The stages of this project; only `settings` and `list_sources` run their own commands."""
    (tmp_path / "project").mkdir()
    project = Project.create(tmp_path / "project", preloaded)
    file = project.folder / "dvc.yaml"
    tree = yaml.safe_load(file.read_text())
    tree["stages"]["list_sources"]["cmd"] = DVC_YAML["list_sources"]["cmd"]
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    assert project.stages_run(SHIPPED) == {"settings", *STAGES}
    listed = with_keys(train={"sources": [source]})
    assert project.stages_run(listed) == {"settings", "search", "train"}
    assert project.stages_run(listed) == set()
    shutil.copyfile(f"{source['features']}/P-001-S.h5", f"{source['features']}/P-000-S.h5")
    assert project.stages_run(listed) == {"search", "train"}
