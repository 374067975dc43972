"""Run the complete system on a Kubernetes cluster: `make rehearse` (docs/rehearsal.md).

Exit codes: 0 every step had the expected result; 1 at least one had not; 2 wrong usage; 4 a requirement is missing,
and one line on standard error names it.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from infra.rehearse.runner import Step, format_table, rehearse, select_steps
from infra.rehearse.session import Options, Session, facts_path
from infra.rehearse.shell import MissingRequirement
from infra.rehearse.steps import CLEAN, OFFLINE, STEPS
from infra.rehearse.work import write_settings

ROOT = Path(__file__).parents[2]


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    names = [step.name for step in STEPS]
    parser = argparse.ArgumentParser(prog="make rehearse", description="Rehearse mcti on a Kubernetes cluster.")
    parser.add_argument("--host", default="", help="address of Kubeflow Pipelines, e.g. http://localhost:8888")
    parser.add_argument("--context", default="", help="context of kubectl; default: the current one")
    parser.add_argument(
        "--namespace", default="mcti", help="namespace of the services; only mcti, which the manifests name"
    )
    parser.add_argument(
        "--runs-namespace", default="", help="namespace where Kubeflow starts the pods of runs; default: --namespace"
    )
    parser.add_argument("--multi-user", action="store_true", help="Kubeflow has Profiles; --runs-namespace is one")
    parser.add_argument("--image", default="mcti-python:0.1.0", help="image of the tasks")
    parser.add_argument("--services-image", default="", help="image of MLflow, backup and buckets")
    parser.add_argument("--postgres-image", default="", help="image of PostgreSQL")
    parser.add_argument("--seaweedfs-image", default="", help="image of SeaweedFS")
    parser.add_argument("--patience", type=float, default=1.0, help="factor on the limits of all waits")
    parser.add_argument("--from", dest="first", choices=names, metavar="STEP", help="resume at this step")
    parser.add_argument(
        "--only", action="append", default=[], choices=[*names, "clean"], metavar="STEP", help="repeatable"
    )
    parser.add_argument(
        "--offline", action="store_true", help=f"only the steps without a cluster: {', '.join(OFFLINE)}"
    )
    parser.add_argument("--clean", action="store_true", help="only delete the objects that earlier rehearsals created")
    parser.add_argument("--list", action="store_true", help="print the steps and exit")
    parser.add_argument("--yes", action="store_true", help="do not request a confirmation")
    parser.add_argument("--folder", type=Path, default=ROOT / "build/rehearsal", help="settings, data, results")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Announce the steps, request a confirmation, run them and print the table. Returns the exit code."""
    options = build_parser().parse_args(arguments)
    if options.list:
        print("\n".join(f"{step.name:<16} {step.description}" for step in (*STEPS, CLEAN)))  # noqa: T201
        return 0
    steps, session, succeeded = _steps(options), None, False
    try:
        session = _session(options, steps)
        print(announcement(session, steps), flush=True)  # noqa: T201
        if not options.yes and not _confirmed(steps):
            raise MissingRequirement("the rehearsal was not confirmed: answer yes, or run with YES=1")
        write_settings(session)
        if len(steps) == len(STEPS):
            session.facts.pop("results", None)  # a complete rehearsal: the table omits the rows of an earlier one
        succeeded = rehearse(session, steps, lambda line: print(line, flush=True))  # noqa: T201
    except MissingRequirement as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 4
    finally:
        if session is not None and session.facts.get("results"):
            print("\n" + format_table(session, (*STEPS, CLEAN)))  # noqa: T201
    return 0 if succeeded else 1


def _steps(options: argparse.Namespace) -> list[Step]:
    if options.clean:
        return [CLEAN]
    if options.offline:
        return select_steps(STEPS, None, OFFLINE)
    return select_steps((*STEPS, CLEAN) if options.only else STEPS, options.first, options.only)


def needs_cluster(steps: list[Step]) -> bool:
    """Whether any of the steps sends requests to a cluster."""
    return any(step.name not in OFFLINE for step in steps)


def _session(arguments: argparse.Namespace, steps: list[Step]) -> Session:
    """The options, with the facts of earlier rehearsals in the same folder."""
    online = needs_cluster(steps)
    if arguments.namespace != "mcti":
        raise MissingRequirement(f"namespace {arguments.namespace}: the manifests are for the namespace mcti")
    if online and not arguments.host and any(step.name not in ("look", "install", "clean") for step in steps):
        forward = "kubectl -n kubeflow port-forward service/ml-pipeline 8888:8888"
        hint = f"set HOST=http://localhost:8888 and run `{forward}` in another terminal"
        raise MissingRequirement(f"no address of Kubeflow Pipelines is set: {hint}")
    options = Options(
        host=arguments.host,
        context=(arguments.context or _current_context()) if online else "",
        namespace=arguments.namespace,
        runs_namespace=arguments.runs_namespace or arguments.namespace,
        multi_user=arguments.multi_user,
        image=arguments.image,
        services_image=arguments.services_image,
        postgres_image=arguments.postgres_image,
        seaweedfs_image=arguments.seaweedfs_image,
        patience=arguments.patience,
    )
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    session = Session(options, ROOT, folder)
    if facts_path(session).exists():
        session.facts = json.loads(facts_path(session).read_text(encoding="utf-8"))
    return session


def _current_context() -> str:
    try:
        done = subprocess.run(
            ["kubectl", "config", "current-context"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingRequirement("no kubectl on PATH: install 1.27 or later") from error
    if done.returncode or not done.stdout.strip():
        raise MissingRequirement(
            "kubectl has no current context: set CONTEXT, or create a cluster (kind create cluster)"
        )
    return done.stdout.strip()


def announcement(session: Session, steps: list[Step]) -> str:
    """The cluster, the namespaces, the images and the steps, printed before the first step."""
    options = session.options
    lines = [f"  {step.name:<16} {step.description}" for step in steps]
    if not needs_cluster(steps):
        return "\n".join(["These steps need no cluster:", *lines])
    target = [
        f"context                {options.context}",
        f"namespace of services  {options.namespace}",
        f"namespace of runs      {options.runs_namespace}{' (a Profile)' if options.multi_user else ''}",
        f"Kubeflow Pipelines     {options.host or '(not used)'}",
        f"image of the tasks     {options.image}",
        f"results                {session.folder}",
    ]
    return "\n".join([*target, "", "Steps in this cluster:", *lines, ""])


def _confirmed(steps: list[Step]) -> bool:
    if not needs_cluster(steps):
        return True
    if not sys.stdin.isatty():
        return False
    return input("Continue? [yes/no] ").strip() == "yes"


if __name__ == "__main__":
    sys.exit(main())
