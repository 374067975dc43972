"""The command `mcti model convert-reference`: a checkpoint of the published reference as a model of preset `paper`."""

from pathlib import Path

from mcti import storage
from mcti.errors import DataError
from mcti.steps.result import StepResult
from mcti.storage import Location


class ConvertResult(StepResult):
    """Number of keys and parameters that were converted, and of those without influence on any output."""

    used_keys: int
    aliases: int
    unused_keys: int
    used_parameters: int
    unused_parameters: int
    genes: int
    classes: int
    bins: int
    written: tuple[str, ...] = ("weights.safetensors", "model.json", "conversion.json")


def convert_reference(
    checkpoint: Location,
    out: Path,
    genes: Location | None = None,
    *,
    measure: str = "entropy",
    guides: str = "fusion_x",
) -> ConvertResult:
    """Convert a state dict of the published reference; measure and guides as in mcti/model/reference.py.

    Reads   checkpoint (torch.save of a state dict; nothing in it is executed), genes (one name per line, in the order
            of the reference's training; without it they are numbered)
    Writes  out/{weights.safetensors, model.json, conversion.json}: conversion.json lists every key
    Raises  DataError when the file is no such state dict: unknown or missing keys, wrong shapes, a pickle payload
    """
    from mcti.model.reference import convert

    names = read_names(genes) if genes is not None else None
    conversion = convert(checkpoint, out, genes=names, measure=measure, guides=guides)
    report = storage.read_json(out / "conversion.json")
    return ConvertResult(
        used_keys=len(conversion.used),
        aliases=len(conversion.aliases),
        unused_keys=len(conversion.unused),
        used_parameters=report["used_parameters"],
        unused_parameters=report["unused_parameters"],
        genes=len(conversion.config.genes),
        classes=len(conversion.config.classes),
        bins=conversion.config.bins,
    )


def read_names(location: Location) -> list[str]:
    """Names of a file, one per line; blank lines are skipped.

    Raises DataError when the file is no UTF-8 text
    """
    try:
        text = storage.read_bytes(location).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("not UTF-8 text", str(location), "write one name per line") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
