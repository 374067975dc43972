"""Take a cluster through the whole system: `make rehearse` (docs/rehearsal.md).

Exit codes: 0 every step saw what it expected; 1 one did not; 2 usage; 4 something is missing, one line says what.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from infra.rehearse.runner import Step, chosen, rehearse, table
from infra.rehearse.session import Options, Session, saved
from infra.rehearse.shell import Missing
from infra.rehearse.steps import CLEAN, OFFLINE, STEPS
from infra.rehearse.work import write_settings

ROOT = Path(__file__).parents[2]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    names = [step.name for step in STEPS]
    words = argparse.ArgumentParser(prog="make rehearse", description="Rehearse mcti on a Kubernetes cluster.")
    words.add_argument("--host", default="", help="address of Kubeflow Pipelines, e.g. http://localhost:8888")
    words.add_argument("--context", default="", help="context of kubectl; default: the current one")
    words.add_argument(
        "--namespace", default="mcti", help="namespace of our services (only mcti: the manifests name it)"
    )
    words.add_argument(
        "--runs-namespace", default="", help="where Kubeflow starts the pods of runs; default: --namespace"
    )
    words.add_argument("--multi-user", action="store_true", help="Kubeflow has Profiles; --runs-namespace is one")
    words.add_argument("--image", default="mcti-python:0.1.0", help="image of the tasks")
    words.add_argument("--services-image", default="", help="image of MLflow, backup and buckets")
    words.add_argument("--postgres-image", default="", help="image of PostgreSQL")
    words.add_argument("--seaweedfs-image", default="", help="image of SeaweedFS")
    words.add_argument("--patience", type=float, default=1.0, help="factor on the limits of all waits")
    words.add_argument("--from", dest="first", choices=names, metavar="STEP", help="resume at this step")
    words.add_argument(
        "--only", action="append", default=[], choices=[*names, "clean"], metavar="STEP", help="repeatable"
    )
    words.add_argument("--offline", action="store_true", help=f"only the steps without a cluster: {', '.join(OFFLINE)}")
    words.add_argument("--clean", action="store_true", help="only delete what earlier rehearsals made")
    words.add_argument("--list", action="store_true", help="print the steps and end")
    words.add_argument("--yes", action="store_true", help="do not ask")
    words.add_argument("--folder", type=Path, default=ROOT / "build/rehearsal", help="settings, data, results")
    return words


def main(arguments: list[str] | None = None) -> int:
    """Announce, ask, run, print the table; the exit code."""
    options = parser().parse_args(arguments)
    if options.list:
        print("\n".join(f"{step.name:<16} {step.does}" for step in (*STEPS, CLEAN)))  # noqa: T201
        return 0
    steps, session, good = _steps(options), None, False
    try:
        session = _session(options, steps)
        print(announcement(session, steps), flush=True)  # noqa: T201
        if not options.yes and not _agreed(steps):
            raise Missing("nobody agreed: answer yes, or run with YES=1")
        write_settings(session)
        if len(steps) == len(STEPS):
            session.facts.pop("results", None)  # from the beginning: no row of an earlier rehearsal is left
        good = rehearse(session, steps, lambda line: print(line, flush=True))  # noqa: T201
    except Missing as missing:
        print(f"error: {missing}", file=sys.stderr)  # noqa: T201
        return 4
    finally:
        if session is not None and session.facts.get("results"):
            print("\n" + table(session, (*STEPS, CLEAN)))  # noqa: T201
    return 0 if good else 1


def _steps(options: argparse.Namespace) -> list[Step]:
    if options.clean:
        return [CLEAN]
    if options.offline:
        return chosen(STEPS, None, OFFLINE)
    return chosen((*STEPS, CLEAN) if options.only else STEPS, options.first, options.only)


def needs_cluster(steps: list[Step]) -> bool:
    """Whether any of the steps asks a cluster."""
    return any(step.name not in OFFLINE for step in steps)


def _session(arguments: argparse.Namespace, steps: list[Step]) -> Session:
    """Options and the facts of earlier rehearsals in the same folder."""
    online = needs_cluster(steps)
    if arguments.namespace != "mcti":
        raise Missing(f"namespace {arguments.namespace}: the manifests are for the namespace mcti")
    if online and not arguments.host and any(step.name not in ("look", "install", "clean") for step in steps):
        forward = "kubectl -n kubeflow port-forward service/ml-pipeline 8888:8888"
        hint = f"for instance HOST=http://localhost:8888 beside `{forward}`"
        raise Missing(f"no address of Kubeflow Pipelines is named: {hint}")
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
    if saved(session).exists():
        session.facts = json.loads(saved(session).read_text(encoding="utf-8"))
    return session


def _current_context() -> str:
    try:
        done = subprocess.run(
            ["kubectl", "config", "current-context"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing("no kubectl on PATH: install 1.27 or later") from error
    if done.returncode or not done.stdout.strip():
        raise Missing("kubectl has no current context: name one (CONTEXT=…), or make a cluster (kind create cluster)")
    return done.stdout.strip()


def announcement(session: Session, steps: list[Step]) -> str:
    """What will be done, where, before anything is."""
    options = session.options
    lines = [f"  {step.name:<16} {step.does}" for step in steps]
    if not needs_cluster(steps):
        return "\n".join(["This asks no cluster:", *lines])
    where = [
        f"context                {options.context}",
        f"namespace of services  {options.namespace}",
        f"namespace of runs      {options.runs_namespace}{' (a Profile)' if options.multi_user else ''}",
        f"Kubeflow Pipelines     {options.host or '(not asked)'}",
        f"image of the tasks     {options.image}",
        f"results                {session.folder}",
    ]
    return "\n".join([*where, "", "This will, in that cluster:", *lines, ""])


def _agreed(steps: list[Step]) -> bool:
    if not needs_cluster(steps):
        return True
    if not sys.stdin.isatty():
        return False
    return input("Do this? [yes/no] ").strip() == "yes"


if __name__ == "__main__":
    sys.exit(main())
