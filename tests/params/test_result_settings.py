"""Settings that cannot change a result: dvc.yaml, cache keys and fold identities leave the same ones out."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from components.utilities.cache_keys import cache_keys
from mcti import params
from mcti.params import SearchParams, Settings, TrainParams
from mcti.params.result_settings import RESULT_NEUTRAL, result_settings, result_text, stage_keys, trial_settings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("stage", ["search", "train"])
def test_dvc_yaml_lists_exactly_the_settings_that_can_change_the_result(stage):
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert sorted(stages[stage]["params"]) == stage_keys(stage)


@pytest.mark.parametrize("stage", ["search", "train"])
def test_params_yaml_states_every_listed_setting(stage):
    """DVC 3.67 refuses a listed key that the file lacks, after it has deleted the outputs of the stage."""
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    missing = [key for key in stage_keys(stage) if key.partition(".")[2] not in tree[key.partition(".")[0]]]
    assert missing == []


@pytest.mark.parametrize("stage", ["search", "train"])
def test_dvc_resolves_each_listed_value_of_one_line_before_it_runs_a_stage(stage):
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    required = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]["meta"]["required"]
    values = {key: tree[key.partition(".")[0]][key.partition(".")[2]] for key in stage_keys(stage)}
    assert required == [f"${{{key}}}" for key, value in values.items() if not isinstance(value, list | dict)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("section", "stage", "message"),
    [
        ("search", "search", "Could not find 'search.epochs'"),
        ("train", "search", "Could not find 'train.alpha'"),
        ("train", "train", "Could not find 'train.alpha'"),
    ],
)
def test_the_real_dvc_names_an_empty_section_and_deletes_no_output(tmp_path, section, stage, message):
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")) | {section: None}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    outputs = {name: tmp_path / "models" / name for name in ("search", "folds")}
    for folder in outputs.values():
        folder.mkdir(parents=True)

    def dvc(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("dvc")), *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    dvc("init", "--no-scm", "-q")
    ended = dvc("repro", "--single-item", stage)
    assert ended.returncode != 0
    assert message in ended.stderr
    assert all(folder.is_dir() for folder in outputs.values())


def test_each_result_neutral_setting_exists():
    for section, names in RESULT_NEUTRAL.items():
        assert names <= set(getattr(Settings(), section).model_dump()), section


def test_result_settings_are_equal_for_other_workers_and_differ_for_another_rate():
    one = result_settings("train", TrainParams(workers=3, checkpoint_seconds=1.0))
    assert one == result_settings("train", TrainParams())
    assert one != result_settings("train", TrainParams(learning_rate=0.1))
    assert "workers" not in one
    assert trial_settings(TrainParams(epochs=9)) == trial_settings(TrainParams(workers=2))
    assert trial_settings(TrainParams(alpha=0.5)) != trial_settings(TrainParams())


def test_pipeline_keys_do_not_depend_on_result_neutral_settings():
    def best(search: SearchParams, train: TrainParams) -> str:
        return cache_keys.python_func("md5", "{}", "{}", "{}", search.model_dump_json(), train.model_dump_json(), "{}")[
            3
        ]

    usual = best(SearchParams(), TrainParams())
    assert best(SearchParams(wait_minutes=5), TrainParams(workers=3)) == usual
    assert best(SearchParams(trials=9), TrainParams()) != usual
    assert best(SearchParams(), TrainParams(device="cpu")) != usual, "another device changes the last digits"


def test_result_text_keeps_everything_else():
    assert json.loads(result_text("train", '{"workers": 2, "seed": 7}')) == {"seed": 7}
    assert json.loads(result_text("ingest", '{"workers": 2}')) == {"workers": 2}
    assert result_text("train", "") == ""


@pytest.mark.slow
def test_dvc_runs_search_and_train_again_only_for_settings_that_can_change_their_result(tmp_path):
    """The `params:` of the real dvc.yaml and the real params.yaml; only the commands are replaced."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    small = {
        name: {"cmd": f"echo done > {name}.txt", "params": stages[name]["params"], "outs": [f"{name}.txt"]}
        for name in ("search", "train")
    }
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": small}), encoding="utf-8")
    original = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))

    def dvc(*arguments: str) -> str:
        command = [sys.executable, "-m", "dvc", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    def changed(section: str, key: str, value: object) -> set[str]:
        tree = original | {section: original[section] | {key: value}}
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
        params.load(tmp_path / "params.yaml")  # a setting that exists, in its range
        dry = dvc("repro", "--dry")
        status = set(json.loads(dvc("status", "--json")))
        assert status == {name for name in small if f"Running stage '{name}'" in dry}
        return status

    dvc("init", "--no-scm", "--quiet")
    assert changed("train", "seed", original["train"]["seed"]) == {"search", "train"}, "nothing has run yet"
    dvc("repro", "--quiet")
    assert changed("train", "workers", 2) == set()
    assert changed("train", "checkpoint_seconds", 1.0) == set()
    assert changed("search", "wait_minutes", 5) == set()
    assert changed("search", "trials", 9) == {"search"}
    assert changed("train", "epochs", 9) == {"train"}
    assert changed("train", "alpha", 0.9) == {"search", "train"}
    assert changed("train", "architecture", {"width": 32}) == {"search", "train"}
