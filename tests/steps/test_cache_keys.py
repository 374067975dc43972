"""The keys of a pipeline run; an error in the data is not computed again by a retry, in any task."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

from mcti.errors import DataError
from mcti.params import ExtractParams
from mcti.registry import refusals
from mcti.steps.cache_keys import cache_keys

ROOT = Path(__file__).parents[2]
# These read no data of the user: they report, publish or end a run.
WITHOUT_DATA = {"conclude", "finish"}


def missing_set(folder: Path) -> str:
    settings = {"format": "pt", "path": str(folder), "encoder": "uni", "mpp": 0.5, "patch_size": 256}
    return ExtractParams.model_validate({"source": "import", "import": settings}).model_dump_json(by_alias=True)


def test_a_missing_set_of_features_is_refused_once_per_run(tmp_path, monkeypatch):
    for name, value in {"RUN": "run-1", "RETRY_SECONDS": "60", "REMOTE": str(tmp_path / "remote")}.items():
        monkeypatch.setenv(f"MCTI_{name}", value)
    text = missing_set(tmp_path / "set")
    with pytest.raises(DataError, match="no such file or folder"):
        cache_keys("md5", "{}", text, "{}", "{}", "{}", "{}")
    assert len(list((tmp_path / "remote" / "runs" / "run-1" / "refused").iterdir())) == 1
    (tmp_path / "set").mkdir()  # the retry does not look again
    with pytest.raises(DataError, match="no such file or folder"):
        cache_keys("md5", "{}", text, "{}", "{}", "{}", "{}")


def _steps():
    """(module, function) of every step that a component calls."""
    for file in sorted((ROOT / "components").rglob("[a-z]*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mcti.steps."):
                yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize(("module", "name"), sorted(set(_steps())))
def test_the_errors_of_every_step_of_a_component_are_kept_for_its_retries(module, name):
    function = getattr(importlib.import_module(module), name)
    if name in WITHOUT_DATA:
        return
    wrappers = []
    while hasattr(function, "__wrapped__"):
        wrappers.append(inspect.getsourcefile(function.__code__))
        function = function.__wrapped__
    assert refusals.__file__ in wrappers
