"""Run the steps in order, write down what each saw, print the table."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from infra.rehearse.session import Session, save
from infra.rehearse.shell import Differs, Missing


@dataclass(frozen=True)
class Step:
    """One step.

    does        what it does to the cluster, for the announcement
    expected    what the action sees when all is well
    action      returns what it saw; raises Differs (something else) or Missing (it cannot be done here)
    needs       steps whose success it builds on
    """

    name: str
    does: str
    expected: str
    action: Callable[[Session], str]
    needs: tuple[str, ...] = ()


def chosen(steps: Iterable[Step], first: str | None, only: Iterable[str]) -> list[Step]:
    """The steps from `first` on, or those named in `only`."""
    candidates, names = list(steps), set(only)
    if names:
        return [step for step in candidates if step.name in names]
    start = next((i for i, step in enumerate(candidates) if step.name == first), 0)
    return candidates[start:]


def rehearse(session: Session, steps: list[Step], say: Callable[[str], None]) -> bool:
    """Run the steps; whether each saw what it expected. Facts and results are saved after each step.

    Raises
        Missing: a step cannot be done here, which is its row; earlier results are kept, and `--from` resumes.
    """
    results = session.facts.setdefault("results", {})
    for number, step in enumerate(steps, 1):
        say(f"[{number}/{len(steps)}] {step.name}: {step.does}")
        begun = time.monotonic()
        observed, good = "interrupted", False
        try:
            observed, good = _run_step(session, step)
        except Missing as missing:
            observed = f"missing: {missing}"
            raise
        finally:
            results[step.name] = {"seen": observed, "good": good, "seconds": round(time.monotonic() - begun)}
            save(session)  # also what a step made before it was given up: a later `--clean` must know of it
        say(f"      {'as expected' if good else 'DIFFERS'} after {results[step.name]['seconds']} s: {observed}")
    return all(results[step.name]["good"] for step in steps)


def _run_step(session: Session, step: Step) -> tuple[str, bool]:
    results = session.facts["results"]
    if lacking := [name for name in step.needs if not results.get(name, {}).get("good")]:
        return f"not done: needs {', '.join(lacking)}", False
    try:
        return step.action(session), True
    except Differs as error:
        return str(error), False
    except Missing:
        raise
    except Exception as error:  # what a library raised is what the step saw; the next steps still run
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", False


def table(session: Session, steps: Iterable[Step]) -> str:
    """Step, expected, seen: one row for each step that was ever run in this folder."""
    results = session.facts.get("results", {})
    rows = [
        (
            step.name,
            step.expected,
            f"{'' if result['good'] else 'DIFFERS: '}{result['seen']} ({result['seconds']} s)",
        )
        for step in steps
        if (result := results.get(step.name))
    ]
    head = ("step", "expected", "seen")
    widths = [max(len(row[i]) for row in [head, *rows]) for i in (0, 1)]
    lines = [f"{a:<{widths[0]}} | {b:<{widths[1]}} | {c}" for a, b, c in [head, *rows]]
    return "\n".join([lines[0], "-" * min(len(lines[0]) + 40, 160), *lines[1:]])
