"""What the HTML pages of this package have in common: their templates, the style of two of them, inline figures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mcti.figure_canvas import Figure

if TYPE_CHECKING:
    from jinja2 import Template


def template(name: str) -> "Template":
    """The Jinja template `name` of mcti/evaluation; files of the folder may be included, all values are escaped."""
    from jinja2 import Environment, PackageLoader

    return Environment(loader=PackageLoader("mcti.evaluation", package_path=""), autoescape=True).get_template(name)


def inline_figures(figures: Sequence[tuple[Figure, str]]) -> list[dict[str, Any]]:
    """Name, title, inline SVG and caption of each figure, as a template shows them."""
    from markupsafe import Markup

    # Our own figures: matplotlib escapes the text in them.
    return [
        {"name": f.name, "title": f.title, "svg": Markup(f.inline()), "caption": f"{f.alt} {caption}".strip()}  # noqa: S704
        for f, caption in figures
    ]
