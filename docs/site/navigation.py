"""The navigation of the site: the pages in the order of docs/README.md.

A page that this index names, and that is an index itself (a README.md), has the pages below it that it links to. The
decisions are many: they have a place in the order of the pages, but the navigation shows only their index.
"""

import re
from pathlib import Path
from typing import Any
from unittest.mock import patch

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

INDEX = "docs/README"
ONE_ENTRY = {"docs/decisions/README"}
"""Indexes whose pages the navigation does not show."""
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
        with patch.object(app.env, "tocs", _titles(app)):
            return navigation(**options)

    context["toctree"] = quick


def _titles(app: Sphinx) -> dict[str, nodes.bullet_list]:
    """What each page has in the navigation: its title, and the pages below it."""
    found: dict[str, nodes.bullet_list] = app.env.__dict__.setdefault("capx_titles", {})
    if not found:
        for page, contents in app.env.tocs.items():
            found[page] = contents.deepcopy()
            for title in found[page].findall(nodes.list_item):
                trees = list(title.findall(addnodes.toctree))
                title[1:] = [nodes.bullet_list("", *trees)] if trees and page not in ONE_ENTRY else []
    return found


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect all of it."""
    app.connect("source-read", add_navigation)
    # Before the theme, which asks for the navigation.
    app.connect("html-page-context", read_titles_only, priority=100)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
