"""What the site makes of the pages: their order, pages of the source that they link to, and a first page.

The order is that of docs/README.md. A page that this index names, and that is an index itself (a README.md), has the
pages below it that it links to.
"""

import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from sphinx import addnodes
from sphinx.application import Sphinx

INDEX = "docs/README"
SOURCE = "source"
"""The folder of the site that holds source files, each as a page."""
_ITEM = re.compile(r"^- \[(?P<title>[^\]]+)\]\((?P<target>[^)]+)\.md\)")
_LINK = re.compile(r"\]\((?P<target>[\w.-]+)\.md\)")


class Group:
    """The pages under one caption of the navigation."""

    def __init__(self, caption: str) -> None:
        self.caption = caption
        self.pages: list[tuple[str, str]] = []

    def toctree(self) -> str:
        """What Sphinx reads the navigation from."""
        lines = [f"{title} </{page}>" if title else f"/{page}" for title, page in self.pages]
        caption = [f":caption: {self.caption}"] if self.caption else []
        return "\n".join(["", "```{toctree}", ":hidden:", *caption, "", *lines, "```", ""])


def groups(index: str) -> list[Group]:
    """The groups of docs/README.md: the pages of each list, under the heading before it."""
    found = [Group("")]
    for line in index.splitlines():
        if line.startswith("## "):
            found.append(Group(line.removeprefix("## ")))
        if item := _ITEM.match(line):
            found[-1].pages.append((item["title"], f"docs/{item['target']}"))
    return [group for group in found if group.pages]


def below(index: str, folder: str, elsewhere: set[str]) -> Group:
    """The pages of a folder that its index links to, without those that the first index has."""
    found = Group("")
    pages = dict.fromkeys(f"{folder}/{link['target']}" for link in _LINK.finditer(index))
    found.pages = [("", page) for page in pages if page not in elsewhere]
    return found


def add_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    """Append the navigation to the text of the first page and of each index."""
    found = groups((Path(app.srcdir) / f"{INDEX}.md").read_text(encoding="utf-8"))
    named = {each for group in found for _, each in group.pages}
    if page == app.config.root_doc:
        first, last = Group(""), Group("Changes")
        first.pages = [("All pages", INDEX)]
        last.pages = [("Changelog", "CHANGELOG")]
        source[0] += "".join(group.toctree() for group in (first, *found, last))
    elif page in named and page.endswith("/README"):
        source[0] += below(source[0], page.removesuffix("/README"), named).toctree()


def read_titles_only(app: Sphinx, _page: str, _template: str, context: dict[str, Any], _tree: object) -> None:
    """Make the navigation of a page from titles: else Sphinx copies all headings for each page, and then drops them."""
    navigation = context["toctree"]

    def quick(**options: Any) -> Any:
        whole, app.env.tocs = app.env.tocs, _titles(app)
        try:
            return navigation(**options)
        finally:
            app.env.tocs = whole

    context["toctree"] = quick


def _titles(app: Sphinx) -> dict[str, nodes.bullet_list]:
    """What each page has in the navigation: its title, and the pages below it."""
    found: dict[str, nodes.bullet_list] = app.env.__dict__.setdefault("capx_titles", {})
    if not found:
        for page, contents in app.env.tocs.items():
            found[page] = contents.deepcopy()
            for title in found[page].findall(nodes.list_item):
                below = list(title.findall(addnodes.toctree))
                title[1:] = [nodes.bullet_list("", *below)] if below else []
    return found


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
    app.connect("source-read", add_navigation)
    # Before Sphinx copies what is left of the links to files.
    app.connect("doctree-read", link_to_source, priority=100)
    # Before the theme, which asks for the navigation.
    app.connect("html-page-context", read_titles_only, priority=100)
    app.connect("build-finished", write_files)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
