"""The site of all pages: it builds without a warning, in the order of the index, and needs no network to be read."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.labs.counts import nightly
from tests.reference.links import types_pages
from tests.reference.site import write_pages

# Some 15 s of work, while other tests run beside it.
pytestmark = pytest.mark.timeout(600)
RECIPE = re.compile(r"^docs:.*\n.*\n\t\$\(BIN\)/sphinx-build (.+)$", re.MULTILINE)
LOADED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=\"(?P<url>[^\"]+)\"")
LINK = re.compile(r"<a\b[^>]*?\bhref=\"(?P<url>[^\"]+)\"")
NAVIGATION = re.compile(r"<li class=\"toctree-l1[^\"]*\"><a [^>]*href=\"(?P<url>[^\"]+)\"")


def build(checkout: Path, pages: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """What `make docs` runs, for these pages."""
    recipe = RECIPE.search((checkout / "Makefile").read_text("utf-8"))
    assert recipe is not None
    words = recipe[1].replace("build/pages", str(pages)).replace("build/", f"{out}/").split()
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *words], cwd=checkout, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def site(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    write_pages(folder / "pages")
    done = build(checkout, folder / "pages", folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "site"


def html(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


@nightly
def test_every_page_of_the_checkout_is_a_page_of_the_site(site: Path, checkout: Path) -> None:
    pages = ["README.md", "CHANGELOG.md", *(str(path.relative_to(checkout)) for path in checkout.glob("docs/**/*.md"))]
    pages += [f"docs/reference/{page}.md" for page in types_pages()]
    assert len(pages) > 80
    assert [
        page for page in pages if not (site / page).with_suffix("").with_name(f"{Path(page).stem}.html").exists()
    ] == []
    assert (site / "index.html").read_bytes() == (site / "README.html").read_bytes()


def test_the_navigation_has_the_order_of_the_index(site: Path, checkout: Path) -> None:
    shown = [url for url in NAVIGATION.findall((site / "index.html").read_text("utf-8")) if "#" not in url]
    index = (checkout / "docs" / "README.md").read_text("utf-8")
    pages = re.findall(r"^- \[.+?\]\((.+?)\.md\)", index, re.MULTILINE)
    assert shown == ["docs/README.html", *(f"docs/{page}.html" for page in pages), "CHANGELOG.html"]


@pytest.mark.parametrize(
    "page", ["index.html", "docs/decisions/README.html", "docs/decisions/0001-nothing-is-recorded-before-the-burn.html"]
)
def test_the_decisions_are_one_entry_of_the_navigation(site: Path, page: str) -> None:
    text = (site / page).read_text("utf-8")
    (sidebar,) = re.findall(r"<div class=\"sidebar-tree\">.+?</aside>", text, re.DOTALL)
    shown = re.findall(r"href=\"([^\"]+)\">([^<]+)</a>", sidebar)
    assert [title for _, title in shown if title == "Decisions"] == ["Decisions"]
    assert [url for url, _ in shown if re.search(r"(^|/)\d{4}-", url)] == []
    # The pages of other indexes are shown.
    assert any("reference/capx.html" in url for url, _ in shown)


def test_a_decision_leads_to_the_next_one(site: Path) -> None:
    first, second, *_ = sorted((site / "docs" / "decisions").glob("0*.html"))
    assert re.search(rf"class=\"next-page\" href=\"{re.escape(second.name)}\"", first.read_text("utf-8"))
    assert 'href="README.html"' in first.read_text("utf-8")


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    for page in html(site):
        for url in LOADED.findall(page.read_text("utf-8")):
            assert not re.match(r"(\w+:)?//", url), (page, url)
            assert (page.parent / url.partition("?")[0].partition("#")[0]).exists(), (page, url)
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(\w+:)?//", style.read_text("utf-8")), style


def test_every_link_of_the_site_leads_to_a_file_of_it(site: Path) -> None:
    for page in html(site):
        for url in LINK.findall(page.read_text("utf-8")):
            target = url.partition("#")[0]
            if target and not re.match(r"\w+:", target):
                assert (page.parent / target).is_file(), (page, url)


def test_a_link_to_source_shows_the_source(site: Path) -> None:
    page = (site / "docs" / "reference" / "capx.guard.tool.html").read_text("utf-8")
    assert 'href="../../source/capx/guard/tool.py.html"' in page
    shown = (site / "source" / "capx" / "guard" / "tool.py.html").read_text("utf-8")
    assert "ToolGuard" in shown
    assert 'id="line-1"' in shown


def index(site: Path) -> dict[str, Any]:
    """What the search of the site reads: a script, which a page opened from a folder may load too."""
    text = (site / "searchindex.js").read_text("utf-8")
    found: dict[str, Any] = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    return found


STEMS = {
    "macaroon": "README",
    "incid": "docs/the-incident",
    "connect_from_env": "docs/reference/capx.resource",
    "capx_caveat": "docs/reference/capx_caveats",
}
"""Words as the search shortens them, and a page that each finds."""


@pytest.mark.parametrize(("stem", "page"), STEMS.items())
def test_the_search_finds_without_a_network(site: Path, stem: str, page: str) -> None:
    found = index(site)
    places = [found[part].get(stem, []) for part in ("terms", "titleterms")]
    at = found["docnames"].index(page)
    assert any(at == place if isinstance(place, int) else at in place for place in places)
    assert "searchindex.js" in (site / "search.html").read_text("utf-8")


@pytest.mark.parametrize("link", ["[x](nowhere.md)", "[x](why.md#nowhere)", "[x](../capx/nowhere.py)"])
def test_a_link_that_leads_nowhere_stops_the_build(checkout: Path, tmp_path: Path, link: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "site").symlink_to(checkout / "docs" / "site")
    (tmp_path / "Makefile").symlink_to(checkout / "Makefile")
    (tmp_path / "README.md").write_text("# One\n\n[All](docs/README.md)\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n")
    (tmp_path / "docs" / "README.md").write_text("# All\n\n- [Why](why.md): so.\n")
    (tmp_path / "docs" / "why.md").write_text("# Why\n\n## So\n\n[Fine](#so).\n")
    assert build(tmp_path, tmp_path, tmp_path / "out").returncode == 0
    (tmp_path / "docs" / "why.md").write_text(f"# Why\n\n## So\n\n{link}\n")
    done = build(tmp_path, tmp_path, tmp_path / "out")
    assert done.returncode == 1
    assert "nowhere" in done.stderr
