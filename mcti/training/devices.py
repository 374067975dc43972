"""The device of the settings, checked before the work starts."""

from mcti.errors import OperationalError


def require_device(name: str) -> None:
    """Refuse `cuda` where PyTorch has no GPU; `auto` and `cpu` are always available.

    Raises OperationalError when PyTorch is a CPU build, or no GPU is assigned to the task.
    """
    import torch

    if name != "cuda" or torch.cuda.is_available():
        return
    built = f"PyTorch {torch.__version__} is a CPU build" if torch.version.cuda is None else "no GPU is visible"
    hint = "use the image of target gpu on a node with a GPU, or set train.device to auto"
    raise OperationalError(f"train.device is cuda, but {built}", "this machine", hint)
