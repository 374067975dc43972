"""Draw docs/figures/packages.svg and the package table of docs/architecture.md from the code.

Run    make docs (tests/test_docs.py asserts that both are current)
Reads  pyproject.toml (layers, and the only importers of each library), the docstring and the imports of each package
"""

import ast
import io
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grimp

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).parents[1]
FOUNDATION = "task"  # this layer and those below it are single modules without a subject of their own
CALLERS = (("dvc.yaml", "stages of DVC"), ("components, pipelines", "tasks of Kubeflow"), ("cli", "the command mcti"))
ROW_HEIGHT, GAP, WIDTH, MARGIN = 0.62, 0.16, 12.0, 1.0  # inches; the arrow is in the left margin
EDGE = "#52606d"
COLOURS = ("#d9e2ec", "#bcd4e6", "#cfe8cf", "#fdebc8", "#f3d9d3")


@dataclass(frozen=True)
class Package:
    """One package or module of mcti/ as the page shows it."""

    name: str
    purpose: str
    imports: tuple[str, ...]
    libraries: tuple[str, ...]


def _contracts() -> list[dict[str, Any]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]


def layers() -> list[list[str]]:
    """The layers of the import contract, the highest first, each a list of names below mcti/."""
    contract = next(contract for contract in _contracts() if contract["type"] == "layers")
    return [[name.strip() for name in layer.split("|")] for layer in contract["layers"]]


def libraries() -> dict[str, list[str]]:
    """Name of a package of mcti to the outside libraries that it alone (or nearly alone) may import."""
    owners: dict[str, list[str]] = {}
    for contract in _contracts():
        for importer in contract.get("allowed_importers", ()):
            package, _, rest = str(importer).removeprefix("mcti.").partition(".")
            if str(importer).startswith("mcti.") and not rest:
                outside = [name for name in contract["protected_modules"] if not name.startswith("mcti.")]
                owners.setdefault(package, []).extend(outside)
    return owners


def packages() -> list[Package]:
    """Every package and module of mcti/, in the order of the layers."""
    graph = grimp.build_graph("mcti")
    owners = libraries()
    described = []
    for name in [name for layer in layers() for name in layer]:
        inner = {f"mcti.{name}", *graph.find_descendants(f"mcti.{name}")}
        imported = {module for one in inner for module in graph.find_modules_directly_imported_by(one)} - inner
        names = sorted({module.split(".")[1] for module in imported if module != "mcti"})
        described.append(Package(name, purpose(name), tuple(names), tuple(owners.get(name, ()))))
    return described


def purpose(name: str) -> str:
    """The first sentence of the docstring of `mcti/<name>`."""
    path = ROOT / "mcti" / name / "__init__.py"
    path = path if path.is_file() else ROOT / "mcti" / f"{name}.py"
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def table() -> str:
    """The package table of docs/architecture.md."""
    head = "| package | subject | imports |\n|---|---|---|\n"
    rows = []
    for package in packages():
        path = f"mcti/{package.name}/" if (ROOT / "mcti" / package.name).is_dir() else f"mcti/{package.name}.py"
        imports = [*package.imports, *(f"**{library}**" for library in package.libraries)]
        rows.append(f"| `{path}` | {package.purpose.replace('|', '/')} | {', '.join(imports) or '-'} |\n")
    return head + "".join(rows)


def _rows() -> list[list[tuple[str, str]]]:
    """Rows of (title, subtitle) from the callers down to the foundation."""
    all_layers = layers()
    split = next(n for n, layer in enumerate(all_layers) if FOUNDATION in layer)
    owners = libraries()
    middle = [[(name, ", ".join(owners.get(name, ()))) for name in layer] for layer in all_layers[1:split]]
    foundation = [name for layer in all_layers[split:] for name in layer]
    return [list(CALLERS), *middle, [(", ".join(foundation), "")]]


def svg() -> str:
    """The drawing: one row per layer, from the callers down to the foundation."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = _rows()
    height = len(rows) * (ROW_HEIGHT + GAP) + GAP
    # The salt and the missing date make the bytes reproducible; text stays text, whatever fonts the machine has.
    with mpl.rc_context({"svg.hashsalt": "mcti", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, WIDTH), ylim=(0, height))
        axes.axis("off")
        for number, boxes in enumerate(rows):
            colour = COLOURS[number * len(COLOURS) // len(rows)]
            _draw_row(axes, boxes, height - (number + 1) * (ROW_HEIGHT + GAP), colour)
        arrow = {"arrowstyle": "-|>", "color": EDGE, "lw": 1.5}
        axes.annotate("", xy=(0.6, GAP), xytext=(0.6, height - GAP), arrowprops=arrow)
        axes.text(0.35, height / 2, "imports", rotation=90, ha="center", va="center", fontsize=10, color=EDGE)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _draw_row(axes: "Axes", boxes: list[tuple[str, str]], bottom: float, colour: str) -> None:
    """Boxes of equal width with a title and a smaller subtitle; `bottom` in inches."""
    from matplotlib.patches import FancyBboxPatch

    width = (WIDTH - MARGIN - GAP * (len(boxes) + 1)) / len(boxes)
    for column, (title, subtitle) in enumerate(boxes):
        left = MARGIN + GAP + column * (width + GAP)
        style = "round,pad=0,rounding_size=0.06"
        axes.add_patch(FancyBboxPatch((left, bottom), width, ROW_HEIGHT, boxstyle=style, fc=colour, ec=EDGE))
        centre = left + width / 2
        title_height = bottom + ROW_HEIGHT * (0.64 if subtitle else 0.5)
        axes.text(centre, title_height, title, ha="center", va="center", fontsize=11, weight="bold")
        axes.text(centre, bottom + ROW_HEIGHT * 0.26, subtitle, ha="center", va="center", fontsize=8.5)


def page(text: str) -> str:
    """The text of docs/architecture.md with the package table between its marks replaced by the current one."""
    head, _, rest = text.partition("<!-- packages -->\n")
    tail = rest.partition("<!-- end of packages -->\n")[2]
    return f"{head}<!-- packages -->\n{table()}<!-- end of packages -->\n{tail}"


if __name__ == "__main__":
    (ROOT / "docs" / "figures" / "packages.svg").write_text(svg(), encoding="utf-8")
    ARCHITECTURE = ROOT / "docs" / "architecture.md"
    ARCHITECTURE.write_text(page(ARCHITECTURE.read_text(encoding="utf-8")), encoding="utf-8")
