"""The steps without a cluster: render the overlays, compile and check the pipelines."""

from infra.rehearse.session import Session
from infra.rehearse.shell import UnexpectedResult, run
from infra.rehearse.work import write_settings

PIPELINES = ("training", "retraining", "inference")
ANY_VERSION = "d41d8cd98f00b204e9800998ecf8427e.dir"


def render_overlays(session: Session) -> str:
    """Render every overlay by `kubectl kustomize`."""
    overlays = sorted(path for path in (session.root / "infra/kubernetes/overlays").iterdir() if path.is_dir())
    for overlay in overlays:
        if "kind:" not in run(["kubectl", "kustomize", str(overlay)], 120):
            raise UnexpectedResult(f"{overlay.name} renders no object")
    return f"{len(overlays)} overlays rendered"


def check_pipelines(session: Session) -> str:
    """Compile the three pipelines with the settings of this rehearsal and run `mcti pipeline check`."""
    write_settings(session)
    for pipeline in PIPELINES:
        session.mcti("pipeline", "compile", "--kind", pipeline, "--data", ANY_VERSION, "--out", f"{pipeline}.yaml")
        session.mcti("pipeline", "check", f"{pipeline}.yaml")
    return f"{len(PIPELINES)} pipelines compiled, no rule violated"
