"""A process that executes a component: its first and last lines, and how an error ends it."""

import os
import subprocess
import sys

import pytest

from mcti import task
from tests.test_logs import LINE

COMPONENT = """
import logging, os, sys, warnings
logging.basicConfig(stream=sys.stdout, level=logging.INFO)
from mcti import errors
logging.getLogger("a.library").info("noise")
warnings.warn("of a library\\nwith a second line")
exec(sys.stdin.read())
"""


def run(body, **environment):
    """A process as Kubeflow Pipelines starts it: exit code, lines of stderr."""
    command = [sys.executable, "-c", COMPONENT, "--executor_input", "{}", "--function_to_execute", "merge_models"]
    names = {k: v for k, v in os.environ.items() if not k.startswith("MCTI_")} | environment
    done = subprocess.run(command, input=body, capture_output=True, text=True, env=names, check=False)
    assert "noise" not in done.stdout
    return done.returncode, done.stderr.splitlines(keepends=True)


def test_a_task_without_a_step_logs_start_and_end():
    code, lines = run("pass", MCTI_RUN="run-7", MCTI_COMMIT="abc", MCTI_IMAGE="x@sha256:1")
    assert code == 0
    assert all(LINE.fullmatch(line) for line in lines)
    start, warning, end = (line.partition(" ")[2] for line in lines)
    assert start.endswith(
        "INFO merge_models: task started, pipeline run run-7, mcti 0.1.0, commit abc, image x@sha256:1\n"
    )
    assert warning.startswith("WARNING merge_models: UserWarning (")
    assert warning.endswith("): of a library with a second line\n")
    assert end.startswith("INFO merge_models: task finished in ")


@pytest.mark.parametrize(
    ("error", "code", "last"),
    [
        ("errors.UsageError('a', 'b', 'c')", 2, "a in b: c (exit code 2)"),
        ("errors.DataError('a\\nb', 'b', 'c')", 3, "a b in b: c (exit code 3)"),
        ("FileNotFoundError(2, '', 'x')", 3, "no such file or folder in x: check the path (exit code 3)"),
        ("errors.OperationalError('a')", 4, "a (exit code 4)"),
        ("type('P', (errors.MctiError,), {'exit_code': 0, 'code': 'paused'})('at 3')", 130, "at 3 (exit code 130)"),
    ],
)  # fmt: skip
def test_an_error_is_the_last_line_with_its_exit_code_and_no_traceback(error, code, last):
    exit_code, lines = run(f"raise {error}")
    assert exit_code == code
    assert all(LINE.fullmatch(line) for line in lines)
    assert lines[-1].endswith(f" ERROR merge_models: {last}\n")
    assert not any("task finished" in line for line in lines)


def test_a_defect_and_the_level_debug_keep_the_traceback_above_the_last_line():
    code, lines = run("1 / 0")
    assert code == 1
    assert "Traceback (most recent call last):\n" in lines
    assert "ZeroDivisionError: division by zero" in lines[-1]
    code, lines = run("raise errors.DataError('a')", MCTI_LOG_LEVEL="DEBUG")
    assert code == 3
    assert "Traceback (most recent call last):\n" in lines
    assert lines[-1].endswith(" ERROR merge_models: a (exit code 3)\n")


def test_the_level_silences_a_task_but_for_its_error():
    assert run("pass", MCTI_LOG_LEVEL="ERROR") == (0, [])
    code, lines = run("raise errors.DataError('a')", MCTI_LOG_LEVEL="ERROR")
    assert code == 3
    assert len(lines) == 1
    code, lines = run("pass", MCTI_LOG_LEVEL="LOUD")
    assert code == 2
    assert "'LOUD' is no log level" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (
            ["python", "-m", "kfp.dsl.executor_main", "--executor_input", "{}", "--function_to_execute", "train"],
            "train",
        ),
        (["python", "-m", "mcti", "train"], ""),
        (["python", "--function_to_execute"], ""),
    ],
)
def test_a_component_is_known_by_the_arguments_of_its_process(arguments, name):
    assert task.component(arguments) == name


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("docker", "the package docker is not installed: pip install 'mcti[pipelines]'"),
        ("kfp_server_api.rest", "the package kfp_server_api.rest is not installed: pip install 'mcti[pipelines]'"),
        ("timm", "the package timm is not installed: pip install 'mcti[timm]'"),
    ],
)
def test_a_missing_optional_package_is_named_with_the_command_that_installs_it(module, message):
    error = task.to_mcti_error(ModuleNotFoundError(f"No module named {module!r}", name=module))
    assert (str(error), error.exit_code) == (message, 4)


def test_a_task_does_not_search_its_objects_for_cycles_at_its_end():
    """The interpreter would, which takes longer the more modules are imported."""
    code = "import atexit, gc\natexit.register(lambda: print(gc.get_freeze_count() > 10_000))\nimport mcti"
    command = [sys.executable, "-c", code, "--function_to_execute", "merge_models"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n"


def test_a_missing_module_of_no_optional_dependency_is_a_defect():
    error = task.to_mcti_error(ModuleNotFoundError("No module named 'mcti.no_such'", name="mcti.no_such"))
    assert error.code == "defect"
