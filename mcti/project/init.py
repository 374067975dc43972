"""`mcti init`: tables of the user to a project folder, with what was understood."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mcti.errors import UsageError, did_you_mean
from mcti.local import dvc_program
from mcti.project import create, params_text
from mcti.project.clinical import Answers
from mcti.project.examples import EXAMPLES
from mcti.project.files import WrittenFiles
from mcti.project.proposal import RAW, Proposal, Sources, propose

Prompt = Callable[[str, str], str]
"""Shows a question to the user: (question, proposed answer) -> answer."""


class InitResult(BaseModel):
    """A project folder: what was understood, what to check, and the files.

    understood  lines about the tables;  check: what is uncertain, with the flag that answers it
    kept        existing files with another content, which were not changed
    """

    model_config = ConfigDict(frozen=True)
    folder: str
    name: str
    understood: tuple[str, ...]
    check: tuple[str, ...]
    written: int
    kept: tuple[str, ...]

    def lines(self) -> list[str]:
        """For the terminal, with the next commands."""
        kept = f"; kept as they are: {', '.join(self.kept)}" if self.kept else ""
        return [
            *self.understood,
            *(f"check      {question}" for question in self.check),
            f"project    {self.folder}: {self.written} files written{kept}",
            f"next       cd {self.folder}",
            "           mcti stack up",
            '           git add -A && git commit -m "data and settings"',
            f"           dvc repro && dvc push && mcti promote --name {self.name}",
        ]


class ExampleResult(BaseModel):
    """A filled params.yaml, as text."""

    model_config = ConfigDict(frozen=True)
    example: str
    params: str

    def lines(self) -> list[str]:
        """The text itself."""
        return self.params.rstrip("\n").split("\n")


def init(folder: Path, name: str, inputs: Sources, answers: Answers, prompt: Prompt | None = None) -> InitResult:
    """Read the tables, propose settings, and write a project; files that exist are kept.

    prompt  requests the uncertain values; None: the proposals are taken

    Raises
        DataError when a table cannot be read, or `ingest` would refuse the cohort.
        UsageError when a stated value is invalid. OperationalError when git is missing, or a file cannot be written.
    """
    proposal = propose(name, inputs, answers, folder)
    if prompt is not None:
        inputs, answers = _answered(proposal, inputs, answers, prompt)
        proposal = propose(name, inputs, answers, folder)
    text = params_text.render(proposal.settings, proposal.reasons)
    files = create.create(folder, name, text, proposal.files)
    _version_tables(folder, files)
    return InitResult(
        folder=str(folder),
        name=name,
        understood=proposal.lines,
        check=proposal.questions,
        written=len(files.written),
        kept=files.edited,
    )


def _answered(proposal: Proposal, inputs: Sources, answers: Answers, prompt: Prompt) -> tuple[Sources, Answers]:
    """The answers of the user to what was proposed."""
    for line in (*proposal.lines, *(f"check      {question}" for question in proposal.questions)):
        prompt(line, "")
    ingest = proposal.settings["ingest"]
    if "time_unit" in ingest:
        answers = replace(answers, time_unit=prompt("unit of the times: days, months or years", ingest["time_unit"]))
    answers = replace(answers, endpoint=prompt("end point: OS, DSS, DFI, PFI or DMFS", ingest.get("endpoint", "OS")))
    scale = prompt("scale of the expression: counts, tpm, log2 or z-score", ingest["expression_scale"])
    read = proposal.settings["train"]["architecture"]["covariates"]
    stated = prompt("covariates of the network, separated by commas", ",".join(read) or "none")
    names = tuple(word.strip() for word in stated.split(",") if word.strip() and word.strip() != "none")
    return replace(inputs, expression_scale=scale), replace(answers, covariates=names)


def example(name: str) -> ExampleResult:
    """The settings of an example.

    Raises UsageError when there is no such example.
    """
    if name not in EXAMPLES:
        raise UsageError(f"no example {name!r}", "--example", did_you_mean(name, EXAMPLES))
    return ExampleResult(example=name, params=params_text.render(*EXAMPLES[name]))


def init_example(folder: Path, name: str) -> InitResult:
    """A project with the settings of an example; its tables are to be added."""
    text = example(name).params
    model = EXAMPLES[name][0]["register"]["name"]
    files = create.create(folder, model, text)
    check = ("params.yaml names tables that the project does not have yet: add them, or change the paths",)
    return InitResult(
        folder=str(folder), name=model, understood=(), check=check, written=len(files.written), kept=files.edited
    )


def _version_tables(folder: Path, files: WrittenFiles) -> None:
    """`dvc add` of the converted tables."""
    if any(path.startswith(f"{RAW}/") for path in files.written):
        dvc_program.run(folder, "add", RAW, quiet=True)
