"""The list of ready-made feature files: it changes with the files, and unchanged files are not read again."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import yaml

from mcti.params import ExtractParams
from mcti.steps.list_features import list_features

ROOT = Path(__file__).parents[2]


@pytest.fixture
def params(tmp_path):
    folder = tmp_path / "features"
    folder.mkdir()
    for name in ("A.pt", "B.pt"):
        (folder / name).write_bytes(name.encode())
    settings = {"format": "pt", "path": str(folder), "encoder": "uni", "mpp": 0.5, "patch_size": 256}
    return ExtractParams.model_validate({"source": "import", "import": settings})


def test_the_list_changes_with_content_and_names_and_not_without(params, tmp_path):
    out, folder = tmp_path / "list.json", Path(params.import_.path)
    assert list_features(params, out).model_dump() == {"files": 2, "read": 2}
    first = out.read_bytes()
    assert list_features(params, out).read == 0
    assert out.read_bytes() == first
    (folder / "A.pt").write_bytes(b"changed")
    assert list_features(params, out).read == 1
    assert out.read_bytes() != first
    versions = {name: file["version"] for name, file in json.loads(out.read_text())["files"].items()}
    assert versions["B.pt"] == json.loads(first)["files"]["B.pt"]["version"]
    assert versions["A.pt"] != json.loads(first)["files"]["A.pt"]["version"]
    (folder / "A.pt").unlink()
    assert list_features(params, out).files == 1


def test_a_file_of_the_same_size_that_was_replaced_is_read_again(params, tmp_path):
    out, file = tmp_path / "list.json", Path(params.import_.path, "A.pt")
    list_features(params, out)
    before = json.loads(out.read_text())["files"]["A.pt"]
    file.write_bytes(b"Z.pt")
    os.utime(file, ns=(before["modified"] + 1, before["modified"] + 1))
    list_features(params, out)
    assert json.loads(out.read_text())["files"]["A.pt"]["version"] != before["version"]


def test_with_slides_as_the_source_the_list_is_empty(tmp_path):
    assert list_features(ExtractParams(), tmp_path / "list.json").files == 0
    assert json.loads((tmp_path / "list.json").read_text()) == {"files": {}, "source": "slides"}


def test_an_earlier_file_in_another_form_is_replaced(params, tmp_path):
    (tmp_path / "list.json").write_text("[]")
    assert list_features(params, tmp_path / "list.json").read == 2


def project(folder: Path) -> Path:
    """The stages of this project over a cohort of three patients with ready-made features and without a slide."""
    raw, source = folder / "data" / "raw", folder / "ready made"
    for created in (
        raw,
        source,
        folder / "mcti" / "steps",
        folder / "mcti" / "cohort",
        folder / "mcti" / "slides",
        folder / "mcti" / "params",
    ):
        created.mkdir(parents=True)
    for name in ("ingest", "list_features", "extract"):
        shutil.copy(ROOT / "mcti" / "steps" / f"{name}.py", folder / "mcti" / "steps")
    rows = [f"P{i},site,{60 + i},1,A,{10 + i},{i % 2}" for i in range(3)]
    raw.joinpath("clinical.csv").write_text(
        "\n".join(["patient_id,site,age,is_female,subtype,time_months,event", *rows])
    )
    raw.joinpath("expression.csv").write_text("\n".join(["patient_id,TP53", *(f"P{i},{i}.5" for i in range(3))]))
    raw.joinpath("slides.csv").write_text("\n".join(["patient_id,slide_id", *(f"P{i},S{i}.svs" for i in range(3))]))
    for i in range(3):
        torch.save(torch.full((5, 4), float(i)), source / f"S{i}.pt")
    settings = {"format": "pt", "path": "ready made", "encoder": "uni", "mpp": 0.5, "patch_size": 256}
    tree = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"extract": {"source": "import", "import": settings}}
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    shutil.copy(ROOT / "dvc.yaml", folder)
    return folder


def dvc(programs: Path, folder: Path, *words: str) -> str:
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    ended = subprocess.run(
        [str(programs / "dvc"), *words], cwd=folder, capture_output=True, text=True, check=False, env=environment
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_the_real_dvc_runs_extract_again_for_a_changed_an_added_and_a_removed_file(preloaded, tmp_path):
    folder = project(tmp_path / "a project")

    def repro() -> bool:
        """Whether the stage `extract` ran."""
        return "Running stage 'extract'" in dvc(preloaded, folder, "repro", "extract")

    dvc(preloaded, folder, "init", "--no-scm", "-q")
    assert repro()
    features = folder / "data" / "features"
    assert sorted(path.name for path in features.glob("*.h5")) == ["S0.h5", "S1.h5", "S2.h5"]
    assert not repro()
    first = {path.name: path.read_bytes() for path in features.glob("*.h5")}
    torch.save(torch.zeros(7, 4), folder / "ready made" / "S1.pt")
    assert repro()
    second = {path.name: path.read_bytes() for path in features.glob("*.h5")}
    assert {name for name in first if first[name] != second[name]} == {"S1.h5"}
    torch.save(torch.zeros(7, 4), folder / "ready made" / "unused.pt")
    assert repro()
    (folder / "ready made" / "unused.pt").unlink()
    assert repro()
    assert not repro()
