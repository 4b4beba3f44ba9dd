"""The plots of the page, as SVG: run in the environment of the peers, which has matplotlib.

python -m tests.bench.plots docs/benchmarks.json docs/plots
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any, Final

_LONG_LOG: Final = "long log: "
"""How the operations of a long log begin: this environment has no capx, and so cannot import that."""
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
    _draw_long_log(folder / "long_log.svg", [row for row in rows if row["op"].startswith(_LONG_LOG)])
    sizes = [{"who": size["who"], "at": size["at"], "us": size["characters"]} for size in report["sizes"]]
    _draw(folder / "size.svg", _lines(sizes, None), "hops", "characters of text")


def _lines(rows: list[dict[str, Any]], op: str | None) -> dict[str, list[tuple[int, float]]]:
    lines: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if row["who"] in _COLOURS and row.get("op") == op:
            lines.setdefault(row["who"], []).append((row["at"], row["us"]))
    return lines


def _draw_long_log(path: Path, rows: list[dict[str, Any]]) -> None:
    """A panel for the searches of each store, and one for its other steps; an empty log stands at the left edge."""
    if not rows:
        return
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    stores = list(dict.fromkeys(row["who"] for row in rows))
    least = min(row["at"] for row in rows if row["at"])
    figure, panels = pyplot.subplots(len(stores), 2, figsize=(11, 4 * len(stores)), sharex=True, squeeze=False)
    for who, of_store in zip(stores, panels, strict=True):
        for searches, axes in zip((True, False), of_store, strict=True):
            lines: dict[str, list[tuple[int, float]]] = {}
            for row in rows:
                op = row["op"].removeprefix(_LONG_LOG)
                if row["who"] == who and op.startswith("find ") == searches:
                    lines.setdefault(op, []).append((row["at"], row["us"] / 1000))
            for op, points in lines.items():
                xs, ys = zip(*sorted(points), strict=True)
                axes.plot(xs, ys, marker="o", markersize=4, label=op)
            axes.set_xscale("symlog", linthresh=least)
            axes.set(title=who, yscale="log", xlabel="decisions in the log", ylabel="ms")
            axes.yaxis.set_major_formatter("{x:g}")
            _finish(axes, sorted({row["at"] for row in rows}))
    figure.tight_layout()
    _save(figure, path)


def _draw(path: Path, lines: dict[str, list[tuple[int, float]]], across: str, up: str) -> None:
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for who, points in lines.items():
        xs, ys = zip(*sorted(points), strict=True)
        axes.plot(xs, ys, marker="o", markersize=4, label=who, color=_COLOURS[who])
    ats = sorted({at for points in lines.values() for at, _ in points})
    axes.set(xscale="log", yscale="log", xlabel=across, ylabel=up)
    axes.yaxis.set_major_formatter("{x:g}")
    _finish(axes, ats)
    _save(figure, path)


def _finish(axes: Any, ats: list[int]) -> None:
    axes.set_xticks(ats, labels=[f"{at:,}".replace(",", " ") for at in ats])
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None, "Creator": None}, transparent=False)
    importlib.import_module("matplotlib.pyplot").close(figure)


if __name__ == "__main__":
    main()
