"""The processor that the settings ask for, known to be there before any work is done."""

from mcti.errors import OperationalError


def need(name: str) -> None:
    """Refuse `cuda` where PyTorch sees no GPU; `auto` and `cpu` are always there.

    Raises
        OperationalError: the image has a CPU build of PyTorch, or the task was given no GPU.
    """
    import torch

    if name != "cuda" or torch.cuda.is_available():
        return
    built = f"PyTorch {torch.__version__} is a CPU build" if torch.version.cuda is None else "no GPU is visible"
    hint = "take the image of target gpu on a node with a GPU, or set train.device to auto"
    raise OperationalError(f"train.device is cuda, but {built}", "this machine", hint)
