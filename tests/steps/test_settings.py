"""The DVC stage `settings`, with the real dvc: which stages a change of params.yaml runs again, and what it deletes."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from mcti import params
from mcti.params.result_settings import STAGES, stage_settings
from mcti.steps.settings import settings

ROOT = Path(__file__).parents[2]
DVC_YAML = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
SHIPPED = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
EMPTY = (
    *(stage for stage in STAGES if stage != "ingest"),
    "promote",
    "explain",
    "predict",
    "serve",
    "monitor",
    "cluster",
)


def test_each_stage_has_a_file_and_the_same_settings_give_the_same_bytes(tmp_path):
    result = settings(params.load(None), tmp_path / "one")
    settings(params.load(None, ["train.epochs=4", "validate=", "train.workers=3"]), tmp_path / "two")
    assert result.stages == STAGES
    for stage in STAGES:
        text = (tmp_path / "one" / f"{stage}.json").read_bytes()
        assert (tmp_path / "two" / f"{stage}.json").read_bytes() == text
        assert json.loads(text) == json.loads(json.dumps(stage_settings(params.load(None))[stage]))


def test_every_stage_of_dvc_yaml_depends_on_its_settings_file_and_on_no_listed_key():
    assert sorted(DVC_YAML["settings"]["params"]) == sorted(STAGES)
    others = {"list_features": "extract", "list_sources": "train", "validate_features": "validate"}
    sections = others | {stage: stage for stage in STAGES}
    assert set(DVC_YAML) == {"settings", *sections}
    for stage, section in sections.items():
        assert "params" not in DVC_YAML[stage]
        listed = [path for path in DVC_YAML[stage]["deps"] if path.startswith("data/settings")]
        assert listed == [f"data/settings/{section}.json"]


class Project:
    """The dvc.yaml of this project; the command of each stage but `settings` only writes its outputs."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.programs = folder, programs

    @classmethod
    def create(cls, folder: Path, programs: Path) -> "Project":
        """A project without results, with the `mcti` and `dvc` of a folder of programs."""
        stages = {name: dict(stage) for name, stage in DVC_YAML.items()}
        for name in set(stages) - {"settings"}:
            stages[name]["cmd"] = " && ".join(_write(name, out) for out in outputs_of(stages[name]))
        program = shlex.quote(str(programs / "mcti"))  # a folder may have a blank in its name
        tree = {"vars": [{"mcti": program}], "stages": stages}
        (folder / "dvc.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
        (folder / "mcti").symlink_to(ROOT / "mcti")
        for name in ("clinical", "expression", "slides"):
            source = folder / SHIPPED["ingest"][name]
            source.parent.mkdir(parents=True, exist_ok=True)
            source.write_text(name, encoding="utf-8")
        project = cls(folder, programs)
        project.dvc("init", "--no-scm", "--quiet")
        return project

    def dvc(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The real dvc."""
        command = [str(self.programs / "dvc"), *words]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)

    def repro(self, tree: dict) -> subprocess.CompletedProcess[str]:
        """`dvc repro` with this params.yaml."""
        (self.folder / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
        return self.dvc("repro", "--no-run-cache")

    def stages_run(self, tree: dict) -> set[str]:
        """The stages that `dvc repro` runs with this params.yaml, without those that always run."""
        done = self.repro(tree)
        assert done.returncode == 0, done.stdout + done.stderr
        return {name for name in ("settings", *STAGES) if f"Running stage '{name}'" in done.stdout}

    def results(self) -> set[str]:
        """The outputs that exist, without those of `settings`."""
        return {out for name in STAGES for out in outputs_of(DVC_YAML[name]) if (self.folder / out).exists()}


def outputs_of(stage: dict) -> list[str]:
    declared = [*stage.get("outs", []), *stage.get("metrics", [])]
    return [out if isinstance(out, str) else next(iter(out)) for out in declared]


def _write(stage: str, out: str) -> str:
    """A shell command that writes an output, and in a folder each file that another stage reads."""
    read = [path for other in DVC_YAML.values() for path in other["deps"] if path.startswith(f"{out}/")]
    files = read or ([out] if Path(out).suffix else [f"{out}/file"])
    return " && ".join(f"mkdir -p {Path(path).parent} && echo {stage} > {path}" for path in files)


ALL_RESULTS = {out for name in STAGES for out in outputs_of(DVC_YAML[name])}


@pytest.fixture(scope="module")
def finished(preloaded, tmp_path_factory):
    """A project all of whose stages have run with the shipped params.yaml."""
    project = Project.create(tmp_path_factory.mktemp("finished"), preloaded)
    assert project.stages_run(SHIPPED) == {"settings", *STAGES}
    assert project.results() == ALL_RESULTS
    return project


@pytest.fixture
def project(finished, tmp_path):
    """A copy of the finished project."""
    folder = tmp_path / "project"
    shutil.copytree(finished.folder, folder, symlinks=True)
    return Project(folder, finished.programs)


def with_keys(**sections: dict) -> dict:
    """The shipped settings with some keys changed."""
    return SHIPPED | {name: SHIPPED[name] | keys for name, keys in sections.items()}


@pytest.mark.slow
def test_a_second_repro_and_settings_that_cannot_change_a_result_run_no_other_stage(project):
    assert project.stages_run(SHIPPED) == set()
    neutral = with_keys(
        train={"workers": 2, "checkpoint_seconds": 1.0},
        search={"wait_minutes": 2.0, "experiment": "other"},
        extract={"workers": 3, "cache": "/cache", "cache_gib": 1.0, "accept_licences": ["uni"]},
    )
    assert project.stages_run(neutral) == {"settings"}


@pytest.mark.slow
def test_a_setting_that_can_change_a_result_runs_the_stages_that_read_it(project):
    """The replaced commands write the same files again, so that no later stage has a changed input."""
    assert project.stages_run(with_keys(search={"trials": 9})) == {"settings", "search"}
    assert project.stages_run(with_keys(search={"trials": 9}, train={"epochs": 9})) == {"settings", "train"}
    changed = with_keys(search={"trials": 9}, train={"epochs": 9, "alpha": 0.9}, split={"seed": 8})
    assert project.stages_run(changed) == {"settings", "split", "search", "train"}


@pytest.mark.slow
def test_an_empty_section_and_a_missing_key_have_their_defaults(project):
    defaults = params.Settings().model_dump(mode="json", by_alias=True)
    project.stages_run(SHIPPED | {name: defaults[name] for name in EMPTY})
    assert project.stages_run(SHIPPED | dict.fromkeys(EMPTY)) == {"settings"}
    without = ("space", "epochs", "bins", "architecture", "horizons_months", "tissue")
    shorter = {name: {key: value for key, value in defaults[name].items() if key not in without} for name in EMPTY}
    assert project.stages_run(SHIPPED | shorter) == {"settings"}


@pytest.mark.slow
@pytest.mark.parametrize("section", ["ingest", "search", "train"])
def test_a_missing_section_is_named_before_a_result_is_deleted(project, section):
    done = project.repro({name: keys for name, keys in SHIPPED.items() if name != section})
    assert done.returncode != 0
    expected = "Could not find 'ingest.clinical'" if section == "ingest" else f"Parameters '{section}' are missing"
    assert expected in done.stderr
    assert project.results() == ALL_RESULTS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"epoch": 9}}, "error: unknown key 'epoch' in params.yaml, key train.epoch: did you mean epochs?"),
        ({"split": {"folds": 1}}, "error: 1 does not fit in params.yaml, key split.folds"),
    ],
)
def test_an_invalid_setting_stops_before_a_result_is_deleted(project, changes, message):
    done = project.repro(with_keys(**changes))
    assert done.returncode != 0
    assert message in done.stderr
    assert project.results() == ALL_RESULTS
