"""A step has the same name as function, command, DVC stage, component and row of the resource table."""

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from mcti import components
from mcti.cli.app import app
from mcti.components.utilities.visualize import visualize
from mcti.params import ClusterParams

ROOT = Path(__file__).parents[2]
STAGES = list(yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"])
COMPONENTS = sorted(module.name for module in pkgutil.iter_modules(components.__path__) if not module.ispkg)


def component(name):
    return getattr(importlib.import_module(f"mcti.components.{name}"), name)


def test_stages_components_commands_and_steps_have_the_same_names():
    # These act on the registry or on new patients: they are no DVC stages.
    # The one of `pretrain` is added by a project of several cohorts (docs/transfer.md).
    without_stage = {"test", "promote", "predict", "explain", "monitor", "pretrain"}
    # A pipeline passes the settings of a step as its argument. For DVC `list_features` lists the files that `extract`
    # reads and `list_sources` those of other cohorts that `train` reads; in a pipeline run the cache keys contain them.
    without_component = {"settings", "list_features", "list_sources"}
    assert set(COMPONENTS) == (set(STAGES) - without_component) | without_stage
    assert {name.replace("_", "-") for name in COMPONENTS} <= set(get_command(app).commands)
    for name in COMPONENTS:
        package = importlib.import_module(f"mcti.steps.{name}")
        module = importlib.import_module(f"mcti.steps.{name}.step") if hasattr(package, "__path__") else package
        assert callable(getattr(module, name))
        assert component(name).name == name.replace("_", "-")


def test_every_task_of_the_pipeline_has_a_row_of_resources():
    rows = set(ClusterParams().steps.model_dump(by_alias=True))
    assert rows == set(COMPONENTS) | {"utility"}


@pytest.mark.parametrize("file", sorted((ROOT / "components").rglob("[a-z]*.py")), ids=lambda file: file.stem)
def test_a_component_only_passes_arguments(file):
    source = file.read_text(encoding="utf-8")
    for function in (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)):
        first = function.decorator_list[0].lineno - 1
        lines = [line for line in source.splitlines()[first : function.end_lineno] if line.strip()]
        assert len(lines) <= 15
        assert not function.args.defaults
        assert not [n for n in ast.walk(function) if isinstance(n, ast.If | ast.IfExp | ast.While | ast.Match)]


def test_components_have_the_artifact_types_that_kubeflow_displays():
    types = {
        (name, output): spec.type
        for name in COMPONENTS
        for output, spec in component(name).component_spec.outputs.items()
    }
    types |= {("visualize", output): spec.type for output, spec in visualize.component_spec.outputs.items()}
    assert types["visualize", "roc"] == "system.ClassificationMetrics@0.0.1"
    assert types["visualize", "curves"] == "system.HTML@0.0.1"
    assert types["visualize", "scores"] == "system.Markdown@0.0.1"
    assert types["monitor", "report_html"] == "system.HTML@0.0.1"
    assert types["evaluate", "report_html"] == "system.HTML@0.0.1"
    assert types["evaluate", "metrics"] == "system.Metrics@0.0.1"
    assert types["validate", "report_html"] == "system.HTML@0.0.1"
    assert types["validate_features", "report_html"] == "system.HTML@0.0.1"
    assert types["train", "model"] == "system.Model@0.0.1"
    assert types["extract", "features"] == "system.Dataset@0.0.1"
