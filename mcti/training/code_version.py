"""The version of the code that decides the bits of a trained model."""

import hashlib
from functools import cache
from pathlib import Path

import mcti.dataset
import mcti.model
import mcti.training
from mcti import storage


@cache
def code_digest() -> str:
    """MD5 of the sources of mcti/{dataset,model,training}: a fold that other code trained is trained again."""
    total = hashlib.md5(usedforsecurity=False)
    for module in (mcti.dataset, mcti.model, mcti.training):
        package = Path(str(module.__file__)).parent
        for file in sorted(package.rglob("*.py")):
            total.update(f"{file.relative_to(package.parent).as_posix()}\0{storage.md5(file)}\n".encode())
    return total.hexdigest()
