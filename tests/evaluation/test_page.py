"""The templates of the pages: one style for two of them."""

from importlib import resources

import pytest
from jinja2 import ChainableUndefined

from mcti.evaluation import page


@pytest.mark.parametrize("name", ["comparison.html", "external.html"])
def test_the_style_is_inside_the_page(name):
    template = page.template(name)
    template.environment.undefined = ChainableUndefined
    style = resources.files("mcti.evaluation").joinpath("page_style.css").read_text(encoding="utf-8")
    assert f"<style>\n{style}</style>\n" in template.render()
