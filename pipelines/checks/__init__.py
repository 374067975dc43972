"""Rules over a compiled pipeline: what a cluster was seen to refuse is found before anything is sent.

`mcti pipeline check FILE` runs them; compile, submit, schedule and the tests do so as well (docs/kubeflow.md).
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mcti.errors import DataError, UsageError
from mcti.params import ClusterParams
from pipelines.checks import document, flow, pods, size, values
from pipelines.checks.rule import Rule

RULES: tuple[Rule, ...] = (*flow.RULES, *values.RULES, *pods.RULES, *size.RULES)
NOTES = (
    "retries of failed tasks need COMPILED_PIPELINE_SPEC_PATCH at the API server, else KFP 2.17 retries lost pods only "
    "(docs/kubeflow.md, Retries)",
    "PodSecurity restricted also wants no privilege escalation, no capabilities and seccomp RuntimeDefault: "
    "KFP 2.17 adds these itself, kfp-kubernetes cannot write them",
    "a PersistentVolumeClaim must be writable for user 10001: kfp-kubernetes cannot write fsGroup",
)


class Violation(BaseModel):
    """A rule that the file breaks: where and how, and why the rule exists."""

    model_config = ConfigDict(frozen=True)
    rule: str
    message: str
    reason: str
    source: str


class CheckReport(BaseModel):
    """What the rules found in a file; `nodes` is the estimate of the rule `fan-out`."""

    model_config = ConfigDict(frozen=True)
    file: str
    bytes: int
    nodes: int
    passed: tuple[str, ...]
    violations: tuple[Violation, ...]
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0, or that of wrong data."""
        return DataError.exit_code if self.violations else 0

    def lines(self) -> list[str]:
        """One line per rule that holds, then the notes."""
        head = f"check: {self.file} · {self.bytes} bytes · about {self.nodes} nodes · {len(self.violations)} violations"
        return [head, *(f"  passed: {name}" for name in self.passed), *(f"  note: {note}" for note in self.notes)]

    def complaints(self) -> list[str]:
        """One line per violation."""
        return [f"{found.message} [{found.rule}: {found.reason}]" for found in self.violations]


def check(path: Path, cluster: ClusterParams) -> CheckReport:
    """Hold a compiled file against every rule.

    cluster     what the cluster offers: largest node, quota, objects of its own

    Raises
        DataError: no such file, or it is no compiled pipeline.
    """
    found = document.read(path)
    try:
        broken = {rule.name: tuple(rule.find(found, cluster)) for rule in RULES}
        nodes = size.nodes(found)
    except RecursionError as error:
        raise DataError("components that hold each other", str(path), "write the file with kfp dsl compile") from error
    return CheckReport(
        file=str(path),
        bytes=found.size,
        nodes=nodes,
        passed=tuple(name for name, faults in broken.items() if not faults),
        violations=tuple(
            Violation(rule=rule.name, message=fault, reason=rule.reason, source=rule.source)
            for rule in RULES
            for fault in broken[rule.name]
        ),
        notes=NOTES,
    )


def refuse(path: Path, cluster: ClusterParams) -> None:
    """Refuse a file that breaks a rule.

    Raises
        UsageError: it does; the settings it was compiled from are wrong.
    """
    complaints = check(path, cluster).complaints()
    if complaints:
        more = f"; {len(complaints) - 1} more: {'; '.join(complaints[1:])}" if len(complaints) > 1 else ""
        raise UsageError(f"the pipeline would not run on a cluster: {complaints[0]}{more}")
