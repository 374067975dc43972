"""Rules for a compiled pipeline: they find what a cluster refuses before anything is submitted.

`mcti pipeline check FILE` applies them, as do compile, submit, schedule and the tests (docs/kubeflow.md).
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mcti.errors import DataError, UsageError
from mcti.params import ClusterParams
from mcti.pipelines.checks import document, flow, pods, resources, size, sources, values
from mcti.pipelines.checks.rule import Rule

RULES: tuple[Rule, ...] = (*flow.RULES, *values.RULES, *resources.RULES, *pods.RULES, *size.RULES, *sources.RULES)
NOTES = (
    "retries of failed tasks need COMPILED_PIPELINE_SPEC_PATCH at the API server, else KFP 2.17 retries lost pods only "
    "(docs/kubeflow.md, Retries)",
    "PodSecurity restricted also requires no privilege escalation, no capabilities and seccomp RuntimeDefault: "
    "KFP 2.17 adds these itself, kfp-kubernetes cannot write them",
    "a PersistentVolumeClaim must be writable for user 10001: kfp-kubernetes cannot write fsGroup",
)


class Violation(BaseModel):
    """One violation of a rule: where and how, and why the rule exists."""

    model_config = ConfigDict(frozen=True)
    rule: str
    message: str
    reason: str
    source: str


class CheckReport(BaseModel):
    """The result of all rules for a file; `nodes` is the estimate of the rule `fan-out`."""

    model_config = ConfigDict(frozen=True)
    file: str
    bytes: int
    nodes: int
    passed: tuple[str, ...]
    violations: tuple[Violation, ...]
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 without violations, else that of DataError."""
        return DataError.exit_code if self.violations else 0

    def lines(self) -> list[str]:
        """One line per rule without violation, then the notes."""
        head = f"check: {self.file} · {self.bytes} bytes · about {self.nodes} nodes · {len(self.violations)} violations"
        return [head, *(f"  passed: {name}" for name in self.passed), *(f"  note: {note}" for note in self.notes)]

    def violation_lines(self) -> list[str]:
        """One line per violation."""
        return [f"{violation.message} [{violation.rule}: {violation.reason}]" for violation in self.violations]


def check(path: Path, cluster: ClusterParams) -> CheckReport:
    """Check a compiled file against every rule.

    cluster     what the cluster offers: largest node, quota, additional objects

    Raises
        DataError: no such file, or it is no compiled pipeline.
    """
    pipeline = document.read(path)
    try:
        messages = {rule.name: tuple(rule.find(pipeline, cluster)) for rule in RULES}
        nodes = size.nodes(pipeline)
    except RecursionError as error:
        hint = "write the file with kfp dsl compile"
        raise DataError("components that contain each other", str(path), hint) from error
    return CheckReport(
        file=str(path),
        bytes=pipeline.size,
        nodes=nodes,
        passed=tuple(name for name, lines in messages.items() if not lines),
        violations=tuple(
            Violation(rule=rule.name, message=message, reason=rule.reason, source=rule.source)
            for rule in RULES
            for message in messages[rule.name]
        ),
        notes=NOTES,
    )


def require_valid(path: Path, cluster: ClusterParams, *, local: bool = False) -> None:
    """Refuse a file that violates a rule.

    local   the file runs on this machine, whose folders its tasks can read

    Raises
        UsageError: the file violates a rule; the settings from which it was compiled are wrong.
    """
    report = check(path, cluster)
    skipped = {rule.name for rule in sources.RULES} if local else set()
    kept = tuple(violation for violation in report.violations if violation.rule not in skipped)
    lines = report.model_copy(update={"violations": kept}).violation_lines()
    if lines:
        more = f"; {len(lines) - 1} more: {'; '.join(lines[1:])}" if len(lines) > 1 else ""
        raise UsageError(f"the pipeline would not run on a cluster: {lines[0]}{more}")
