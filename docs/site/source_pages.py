"""What the site makes of links to the source: pages that show it. And the folder opens with the README."""

import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from sphinx import addnodes
from sphinx.application import Sphinx

SOURCE = "source"
"""The folder of the site that holds source files, each as a page."""


def link_to_source(app: Sphinx, doctree: nodes.document) -> None:
    """Lead a link to a Python file to the page that shows it; show a drawing that nothing here draws as text."""
    page = app.env.docname
    for block in doctree.findall(nodes.literal_block):
        if block.get("language") == "mermaid":
            block["language"] = "text"
    for link in list(doctree.findall(addnodes.download_reference)):
        if link["reftarget"].endswith(".py"):
            path, _ = app.env.relfn2path(link["reftarget"], page)
            uri = app.builder.get_relative_uri(page, f"{SOURCE}/{path}")
            linked = nodes.reference("", "", *link.children, internal=True, refuri=uri)
            link.replace_self(linked)
            _linked(app).add(path)


def _linked(app: Sphinx) -> set[str]:
    """The source files that pages link to."""
    found: set[str] = app.env.__dict__.setdefault("capx_linked", set())
    return found


def write_files(app: Sphinx, failure: Exception | None) -> None:
    """Write the source files that are linked to, with line numbers, and let the folder open with the README."""
    if failure is not None:
        return
    folder = Path(app.outdir)
    for path in sorted(_linked(app)):
        code = (Path(app.srcdir) / path).read_text(encoding="utf-8")
        # A page of its own, without the navigation: to work that out takes most of the time of a build.
        formatter: HtmlFormatter[str] = HtmlFormatter(
            full=True, title=path, linenos="inline", lineanchors="line", anchorlinenos=True
        )
        page = folder / SOURCE / f"{path}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(highlight(code, get_lexer_by_name("python"), formatter), encoding="utf-8")
    # The page of the README keeps its own name too, which others link to.
    shutil.copyfile(folder / f"{app.config.root_doc}.html", folder / "index.html")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect all of it."""
    # Before Sphinx copies what is left of the links to files.
    app.connect("doctree-read", link_to_source, priority=100)
    app.connect("build-finished", write_files)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
