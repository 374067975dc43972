"""What needs no cluster: the overlays are rendered and tested, the pipelines compiled and checked."""

from infra.rehearse.session import Session
from infra.rehearse.shell import Differs, run
from infra.rehearse.work import write_settings

KINDS = ("training", "retraining", "inference")
ANY_VERSION = "d41d8cd98f00b204e9800998ecf8427e.dir"


def rendered(session: Session) -> str:
    """Every overlay by `kubectl kustomize`."""
    overlays = sorted(path for path in (session.root / "infra/kubernetes/overlays").iterdir() if path.is_dir())
    for overlay in overlays:
        if "kind:" not in run(["kubectl", "kustomize", str(overlay)], 120):
            raise Differs(f"{overlay.name} renders to nothing")
    return f"{len(overlays)} overlays rendered"


def checked(session: Session) -> str:
    """The three pipelines with the settings of this rehearsal: compiled, and checked by `mcti pipeline check`."""
    write_settings(session)
    for pipeline in KINDS:
        session.mcti("pipeline", "compile", "--kind", pipeline, "--data", ANY_VERSION, "--out", f"{pipeline}.yaml")
        session.mcti("pipeline", "check", f"{pipeline}.yaml")
    return f"{len(KINDS)} pipelines compiled, no rule broken"
