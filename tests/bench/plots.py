"""The plots of the page, as SVG: run in the environment of the peers, which has matplotlib.

python -m tests.bench.plots docs/benchmarks.json docs/plots
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any, Final

_COLOURS: Final = {
    "bare MACs": "#9a9a9a",
    "capx, cold": "#0b5fa5",
    "capx, warm prefix": "#3fa7d6",
    "capx, presented": "#0b5fa5",
    "pymacaroons": "#8a6d3b",
    "tenuo": "#b5403a",
    "biscuit": "#d98e04",
    "PyJWT": "#5b8c3a",
}


def main() -> None:
    """Draw each plot into a folder."""
    source, folder = map(Path, sys.argv[1:])
    report = json.loads(source.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    library: Any = importlib.import_module("matplotlib")
    library.use("svg")
    # The same numbers give the same bytes.
    library.rcParams.update({"svg.hashsalt": "capx", "svg.fonttype": "none", "font.size": 9})
    rows = report["rows"]
    _draw(folder / "verify.svg", _lines(rows, "verify"), "hops", "µs to verify")
    _draw(folder / "caveats.svg", _lines(rows, "caveats"), "caveats a hop (three hops)", "µs to verify")
    sizes = [{"who": size["who"], "at": size["at"], "us": size["characters"]} for size in report["sizes"]]
    _draw(folder / "size.svg", _lines(sizes, None), "hops", "characters of text")


def _lines(rows: list[dict[str, Any]], op: str | None) -> dict[str, list[tuple[int, float]]]:
    lines: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if row["who"] in _COLOURS and row.get("op") == op:
            lines.setdefault(row["who"], []).append((row["at"], row["us"]))
    return lines


def _draw(path: Path, lines: dict[str, list[tuple[int, float]]], across: str, up: str) -> None:
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for who, points in lines.items():
        xs, ys = zip(*sorted(points), strict=True)
        axes.plot(xs, ys, marker="o", markersize=4, label=who, color=_COLOURS[who])
    ats = sorted({at for points in lines.values() for at, _ in points})
    axes.set(xscale="log", yscale="log", xlabel=across, ylabel=up)
    axes.set_xticks(ats, labels=list(map(str, ats)))
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None, "Creator": None}, transparent=False)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
