"""Hook of mkdocs (mkdocs.yml): pages from outside docs/, and links to files that are no page. Run: make site."""

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {"infra/runbook.md": "runbook.md", "CONTRIBUTING.md": "contributing.md"}
"""Pages of the site that are not in docs/: path in the repository to path in the site."""
_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    for source, target in OUTSIDE.items():
        files.append(File.generated(config, target, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links between the pages as links of the site; a link to a file of the repository as its path."""
    site_path = page.file.src_uri
    source = {target: name for name, target in OUTSIDE.items()}.get(site_path, f"docs/{site_path}")
    return _LINK.sub(lambda match: _link(source, site_path, *match.groups("")), markdown)


def _link(source: str, site_path: str, text: str, target: str, anchor: str) -> str:
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if path in OUTSIDE:
        wanted = OUTSIDE[path]
    elif path.startswith("docs/") and (ROOT / path).is_file():
        wanted = path.removeprefix("docs/")
    elif (ROOT / path).exists():
        return f"`{path}`" if text.strip("`") in (path, target) else f"{text} (`{path}`)"
    else:
        return f"[{text}]({target}{anchor})"  # mkdocs reports it
    return f"[{text}]({os.path.relpath(wanted, posixpath.dirname(site_path) or '.')}{anchor})"
