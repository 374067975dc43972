"""`mcti init`: tables of the user to a project folder, with what was understood."""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ConfigDict

from mcti.errors import DataError, UsageError, did_you_mean
from mcti.local import dvc_program
from mcti.params.data import Endpoint
from mcti.project import create, params_text
from mcti.project.clinical import Answers
from mcti.project.coding import SEX_MEANINGS
from mcti.project.endpoints import Outcome
from mcti.project.examples import EXAMPLES
from mcti.project.files import WrittenFiles
from mcti.project.proposal import RAW, Proposal, Sources, propose

Prompt = Callable[[str, str], str]
"""Shows a question to the user: (question, proposed answer) -> answer."""


class InitResult(BaseModel):
    """A project folder: what was understood, what to check, and the files.

    understood  lines about the tables;  check: what is uncertain, with the flag that answers it
    kept        existing files with another content, which were not changed
    endpoints   end points of the project, the selected one first
    """

    model_config = ConfigDict(frozen=True)
    folder: str
    name: str
    understood: tuple[str, ...]
    check: tuple[str, ...]
    written: int
    kept: tuple[str, ...]
    endpoints: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For the terminal, with the next commands."""
        kept = f"; kept as they are: {', '.join(self.kept)}" if self.kept else ""
        return [
            *self.understood,
            *(f"check      {question}" for question in self.check),
            f"project    {self.folder}: {self.written} files written{kept}",
            f"next       cd {shlex.quote(self.folder)}",
            "           mcti stack up",
            '           git add -A && git commit -m "data and settings"',
            f"           dvc repro && dvc push && mcti promote --name {self.name}",
            *(
                f"{other:<10} mcti ingest --set ingest.endpoint={other} --out data/{other}/cohort; then README.md"
                for other in self.endpoints[1:]
            ),
        ]


class ExampleResult(BaseModel):
    """A filled params.yaml, as text."""

    model_config = ConfigDict(frozen=True)
    example: str
    params: str

    def lines(self) -> list[str]:
        """The text itself."""
        return self.params.rstrip("\n").split("\n")


def name_of(folder: Path) -> str:
    """The name of cohort and model for a folder: characters that names must not have become hyphens."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._")[:64]
    return name or "cohort"


def init(folder: Path, name: str, inputs: Sources, answers: Answers, prompt: Prompt | None = None) -> InitResult:
    """Read the tables, propose settings, and write a project; files that exist are kept.

    prompt  requests the uncertain values; None: the proposals are taken

    Raises
        DataError when a table cannot be read, or `ingest` would refuse the cohort.
        UsageError when a stated value is invalid. OperationalError when git is missing, or a file cannot be written.
    """
    if prompt is None:
        proposal = propose(name, inputs, answers, folder)
    else:
        proposal = _answered_proposal(name, inputs, answers, folder, prompt)
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
        endpoints=proposal.endpoints,
    )


def _answered_proposal(name: str, inputs: Sources, answers: Answers, folder: Path, prompt: Prompt) -> Proposal:
    """The proposal with the answers of the user; answers that do not fit the tables are requested again."""
    proposal = propose(name, inputs, answers, folder)
    earlier: dict[str, str] = {}
    while True:
        new: dict[str, str] = {}
        try:
            return propose(name, *_answered(proposal, inputs, answers, _recorded(prompt, earlier, new)), folder)
        except (DataError, UsageError) as error:
            prompt(f"error      {error}", "")
            earlier = new


def _recorded(prompt: Prompt, earlier: Mapping[str, str], answers: dict[str, str]) -> Prompt:
    """The prompt that proposes the answers of an earlier round, and records the last answer to each question."""

    def ask(question: str, proposed: str) -> str:
        answer = prompt(question, earlier.get(question, proposed) if proposed else "")
        answers[question] = answer
        return answer

    return ask


def _answered(proposal: Proposal, inputs: Sources, answers: Answers, prompt: Prompt) -> tuple[Sources, Answers]:
    """The answers of the user to what was proposed; values that the user stated by flags are not requested again."""
    for line in (*proposal.lines, *(f"check      {question}" for question in proposal.questions)):
        prompt(line, "")
    ingest = proposal.settings["ingest"]
    if "time_unit" in ingest and answers.time_unit is None:
        units = ("days", "months", "years")
        answers = replace(answers, time_unit=_choice(prompt, "unit of the times", ingest["time_unit"], units))
    if not answers.endpoints:
        answers = replace(answers, endpoints=_endpoints(prompt, ingest.get("endpoint", "OS")))
    for column, values in proposal.unread_sex.items():
        answers = replace(answers, sex_values=_sex_values(prompt, column, values))
    if inputs.expression_scale is None:
        scales = ("counts", "tpm", "log2", "z-score")
        scale = _choice(prompt, "scale of the expression", ingest["expression_scale"], scales)
        inputs = replace(inputs, expression_scale=scale)
    if answers.covariates is None:
        answers = replace(answers, covariates=_covariates(prompt, proposal, answers))
    return inputs, answers


def _choice(prompt: Prompt, question: str, proposed: str, choices: Sequence[str]) -> str:
    """One of `choices`; the question is repeated until the answer is one of them."""
    while (answer := prompt(f"{question}: {', '.join(choices)}", proposed).strip()) not in choices:
        prompt(f"{answer!r} is none of {', '.join(choices)}", "")
    return answer


def _endpoints(prompt: Prompt, proposed: str) -> dict[str, Outcome | None]:
    """End points in the order of the answer."""
    known = get_args(Endpoint)
    while True:
        names = _words(prompt(f"end point, or several separated by commas: {', '.join(known)}", proposed))
        unknown = [name for name in names if name not in known]
        if names and not unknown:
            return dict.fromkeys(names)
        prompt(f"{', '.join(unknown) or 'no name'}: none of {', '.join(known)}", "")


def _sex_values(prompt: Prompt, column: str, values: tuple[str, ...]) -> dict[str, str]:
    """The meaning of each value of a column of sex; without a female or male one the column is not used."""
    meanings = {
        value: _choice(prompt, f"{value!r} in the column {column}", "missing", tuple(SEX_MEANINGS)) for value in values
    }
    is_known = {"female", "male"} <= set(meanings.values())
    return {value.casefold(): SEX_MEANINGS[word] for value, word in meanings.items()} if is_known else {}


def _covariates(prompt: Prompt, proposal: Proposal, answers: Answers) -> tuple[str, ...]:
    """Covariates of the network; sex is proposed, too, where the user stated its values just now."""
    read = list(proposal.settings["train"]["architecture"]["covariates"])
    if answers.sex_values and "is_female" not in read:
        read.append("is_female")
    return tuple(_words(prompt("covariates of the network, separated by commas", ",".join(read) or "none")))


def _words(answer: str) -> list[str]:
    return [word.strip() for word in answer.split(",") if word.strip() and word.strip() != "none"]


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
