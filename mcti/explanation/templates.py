"""The HTML templates of the patient reports."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template


def template(name: str) -> "Template":
    """The template `name` of this package; every value is escaped."""
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("mcti.explanation", package_path="")
    return Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True).get_template(name)
