"""Run the steps in order, store the result of each, format the table."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from infra.rehearse.session import Session, save_facts
from infra.rehearse.shell import MissingRequirement, UnexpectedResult


@dataclass(frozen=True)
class Step:
    """One step.

    description  its actions in the cluster, for the announcement
    expected     the expected result, for the table
    action       returns the observed result; raises UnexpectedResult, or MissingRequirement where it cannot run
    needs        names of the steps that must have succeeded before
    """

    name: str
    description: str
    expected: str
    action: Callable[[Session], str]
    needs: tuple[str, ...] = ()


def select_steps(steps: Iterable[Step], first: str | None, only: Iterable[str]) -> list[Step]:
    """The steps named in `only`; without names the steps from `first` to the last one."""
    candidates, names = list(steps), set(only)
    if names:
        return [step for step in candidates if step.name in names]
    start = next((i for i, step in enumerate(candidates) if step.name == first), 0)
    return candidates[start:]


def rehearse(session: Session, steps: list[Step], print_line: Callable[[str], None]) -> bool:
    """Run the steps and save facts and results after each. Returns whether each had the expected result.

    Raises MissingRequirement when a step cannot run; its row and earlier results are stored, and `--from` resumes.
    """
    results = session.facts.setdefault("results", {})
    for number, step in enumerate(steps, 1):
        print_line(f"[{number}/{len(steps)}] {step.name}: {step.description}")
        begun = time.monotonic()
        observed, succeeded = "interrupted", False
        try:
            observed, succeeded = _run_step(session, step)
        except MissingRequirement as error:
            observed = f"missing: {error}"
            raise
        finally:
            results[step.name] = {
                "observed": observed,
                "succeeded": succeeded,
                "seconds": round(time.monotonic() - begun),
            }
            save_facts(session)  # also after an error: a later `--clean` needs the facts of an incomplete step
        print_line(
            f"      {'as expected' if succeeded else 'DIFFERS'} after {results[step.name]['seconds']} s: {observed}"
        )
    return all(results[step.name]["succeeded"] for step in steps)


def _run_step(session: Session, step: Step) -> tuple[str, bool]:
    results = session.facts["results"]
    if failed := [name for name in step.needs if not results.get(name, {}).get("succeeded")]:
        return f"not run: needs {', '.join(failed)}", False
    try:
        return step.action(session), True
    except UnexpectedResult as error:
        return str(error), False
    except MissingRequirement:
        raise
    except Exception as error:  # an error of a library is the result of the step; the next steps run
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", False


def format_table(session: Session, steps: Iterable[Step]) -> str:
    """Step, expected and observed result: one row per step that has a result in this folder."""
    results = session.facts.get("results", {})
    rows = [
        (
            step.name,
            step.expected,
            f"{'' if result['succeeded'] else 'DIFFERS: '}{result['observed']} ({result['seconds']} s)",
        )
        for step in steps
        if (result := results.get(step.name))
    ]
    head = ("step", "expected", "observed")
    widths = [max(len(row[i]) for row in [head, *rows]) for i in (0, 1)]
    lines = [f"{a:<{widths[0]}} | {b:<{widths[1]}} | {c}" for a, b, c in [head, *rows]]
    return "\n".join([lines[0], "-" * min(len(lines[0]) + 40, 160), *lines[1:]])
