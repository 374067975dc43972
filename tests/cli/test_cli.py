"""The contract of the command line: one JSON document, exit codes, one line per error, sections of the help."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import mcti
from mcti.cli import command_context
from mcti.cli.app import SECTIONS, app, summary

MCTI = str(Path(sys.executable).with_name("mcti"))


def run(*arguments, cwd=None):
    return subprocess.run([MCTI, *arguments], capture_output=True, text=True, check=False, cwd=cwd)


def commands():
    """Every command as a tuple, e.g. ("model", "info")."""
    from typer.main import get_command

    tree = get_command(app)
    for name, command in tree.commands.items():
        if hasattr(command, "commands"):
            yield from ((name, inner) for inner in command.commands)
        else:
            yield (name,)


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_has_a_help_with_an_example_of_itself(words, capsys):
    assert command_context.run_app(app, [*words, "--help"]) == 0
    output = capsys.readouterr().out
    assert f"Example: mcti {' '.join(words)}" in output
    assert "--json" in output
    assert "--set" in output


def test_the_help_lists_every_command_once_by_section_with_a_whole_sentence(capsys):
    from typer.main import get_command

    tree = get_command(app)
    assert sorted(name for names in SECTIONS.values() for name in names) == sorted(tree.commands)
    assert command_context.run_app(app, ["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.removesuffix(":") in SECTIONS] == [f"{section}:" for section in SECTIONS]
    text = " ".join(" ".join(lines).split())
    for name in tree.commands:
        assert f"{name} {summary(tree.commands[name])}" in text
        assert summary(tree.commands[name]).endswith(".")


def test_version_prints_the_version(capsys):
    assert command_context.run_app(app, ["--version"]) == 0
    assert capsys.readouterr().out == f"mcti {mcti.__version__}\n"


def test_the_page_of_the_command_line_lists_every_option_with_type_and_default():
    """A row per option: flag, type, default, meaning; a change of an option without `make docs` fails in test_docs."""
    from typer.main import get_command

    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    tree = get_command(app)
    for words in commands():
        command = tree.commands[words[0]] if len(words) == 1 else tree.commands[words[0]].commands[words[1]]
        part = page.partition(f"## `mcti {' '.join(words)}`\n")[2].partition("\n## ")[0]
        rows = [line.split(" | ") for line in part.splitlines() if line.startswith("| `")]
        parameters = [parameter for parameter in command.params if parameter.name not in command_context.COMMON]
        assert [row[0].strip("| `").split(" ")[0] for row in rows if "--" in row[0]] == [
            parameter.opts[0] for parameter in parameters if parameter.opts[0].startswith("-")
        ]
        assert len(rows) == len(parameters)
        assert all(len(row) >= 4 and row[1] and row[2] for row in rows)
    for name in ("--params", "--set", "--json", "--redact", "--debug"):
        assert f"| `{name}" in page


def test_help_imports_none_of_the_slow_libraries():
    """`mcti --help` must stay under half a second: the libraries that take longer must not be imported for it."""
    slow = ["torch", "mlflow", "great_expectations", "ot", "sksurv", "optuna", "pandas", "matplotlib", "cv2", "boto3"]
    code = f"""
import sys
from mcti.cli import command_context
from mcti.cli.app import SECTIONS, app, summary
assert command_context.run_app(app, ["--help"]) == 0
print([name for name in {slow} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_stdout_under_json_is_exactly_one_document(tmp_path):
    (tmp_path / "c.csv").write_text("patient_id\n", encoding="utf-8")
    tables = ["--clinical", "c.csv", "--expression", "c.csv", "--slides", "c.csv"]
    done = run("ingest", *tables, "--out", "o", "--dry-run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["reads"] == {"clinical": "c.csv", "expression": "c.csv", "slides": "c.csv"}
    assert plan["writes"] == "o"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.csv"]


@pytest.mark.parametrize(
    ("command", "flags"),
    [("train", {"cohort": "a", "folds": "f"}), ("search", {"cohort": "a", "folds": "f"}), ("pretrain", {})],
)
def test_a_dry_run_lists_and_checks_the_sources_of_the_training(command, flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c", "d"):
        Path(name).mkdir()
    Path("f").touch()
    inputs = [word for name, location in flags.items() for word in (f"--{name}", location)]
    words = [command, *inputs, "--out", "o", "--dry-run", "--json"]
    sources = "train.sources=[{cohort: b, features: c}, {cohort: d}]"
    assert command_context.run_app(app, [*words, "--set", sources]) == 0
    assert json.loads(capsys.readouterr().out)["reads"] == flags | {
        "train.sources.0.cohort": "b",
        "train.sources.0.features": "c",
        "train.sources.1.cohort": "d",
    }
    assert command_context.run_app(app, [*words, "--set", sources.replace("c}", "x}")]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["where"] == "train.sources.0.features x"


def test_only_the_first_process_of_torchrun_prints_the_result(tmp_path, capsys, monkeypatch):
    """Otherwise stdout would contain one document per process."""
    words = ["model", "info", "tiny", "--json"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, documents in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        assert command_context.run_app(app, words) == 0
        assert len(capsys.readouterr().out.splitlines()) == documents


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["ingest"], 2, "--out"),
        (["nonsense"], 2, "nonsense"),
        (["ingest", "--out", "o", "--set", "train.epoch=1"], 2, "did you mean epochs?"),
        (["ingest", "--out", "o", "--params", "none.yaml"], 3, "none.yaml"),
        (["ingest", "--out", "o", "--clinical", "none.csv", "--dry-run"], 3, "none.csv"),
        (["extract", "--slides", ".", "--out", "o", "--shard", "4/4"], 2, "I/N"),
    ],
)
def test_a_wrong_call_is_one_line_on_stderr_and_one_object_under_json(
    arguments, code, word, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    assert command_context.run_app(app, arguments) == code
    plain = capsys.readouterr()
    assert plain.out == ""
    assert plain.err.startswith("error: ")
    assert plain.err.count("\n") == 1
    assert word in plain.err

    assert command_context.run_app(app, [*arguments, "--json"]) == code
    report = json.loads(capsys.readouterr().out)["error"]
    assert set(report) == {"code", "message", "where", "hint"}
    assert word in " ".join(report.values())


def test_an_empty_value_and_its_name_are_omitted(capsys):
    """For example the version of unversioned sources."""
    command_context._show("compile", {"file": "x.yaml", "data": "", "shards": 0, "cached": False}, as_json=False)
    assert capsys.readouterr().out == "compile: file x.yaml · shards 0 · cached False\n"


def test_an_internal_error_exits_with_1_and_shows_its_traceback_only_on_request(capsys, monkeypatch):
    def broken(*_args, **_kwargs):
        raise ZeroDivisionError("by design")

    monkeypatch.setattr(command_context.CommandContext, "__init__", broken)
    assert command_context.run_app(app, ["stack", "status"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    for arguments in (["--debug"], ["--debug", "--json"]):
        assert command_context.run_app(app, ["stack", "status", *arguments]) == 1
        output = capsys.readouterr().err
        assert output.startswith("Traceback (most recent call last):")
        assert ", in broken\n" in output  # the line that raised it
        assert "NoneType: None" not in output


def test_the_traceback_of_a_data_error_is_shown_on_request(capsys):
    assert command_context.run_app(app, ["validate", "--cohort", "nowhere", "--out", "x", "--debug"]) == 3
    assert "mcti.errors.DataError" in capsys.readouterr().err


def test_sources_in_the_folder_of_the_settings_compile_and_register_without_a_version(capsys, monkeypatch, tmp_path):
    """The name of PosixPath('.') is empty, which must not cause a ValueError."""
    monkeypatch.chdir(tmp_path)
    sources = [f"--set=ingest.{name}={name}.csv" for name in ("clinical", "expression", "slides")]
    assert command_context.run_app(app, ["pipeline", "compile", "--out", "pipeline.yaml", *sources]) == 0
    assert (tmp_path / "pipeline.yaml").stat().st_size > 1000
    (tmp_path / "models").mkdir()
    (tmp_path / "evaluation").mkdir()
    assert command_context.run_app(app, ["register", "--models", "models", "--evaluation", "evaluation", *sources]) == 3
    assert "fold" in capsys.readouterr().err  # there is none: the sources were no obstacle


@pytest.mark.parametrize(("environment", "code"), [({}, 0), ({"DVC_STAGE": "train"}, 130)])
def test_a_pause_has_exit_code_0_for_a_user_and_another_one_for_dvc(environment, code, capsys, monkeypatch):
    """DVC records a stage with exit code 0 as complete."""
    from mcti.training.loop import Paused

    def paused(*_args, **_kwargs):
        raise Paused("paused", "fold 0", "run the same command again")

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(command_context.CommandContext, "__init__", paused)
    assert command_context.run_app(app, ["stack", "status"]) == code
    assert capsys.readouterr().err.splitlines()[-1] == "paused in fold 0: run the same command again"
