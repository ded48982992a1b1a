"""Draws a run of `serving.py`: tokens a second, and the time to the first token, against streams at once.

Run: `python benchmarks/plot_serving.py RUN.json PLOT.svg`, with what `serving.py --json RUN.json` wrote;
needs matplotlib. The same run gives the same file.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

DECODE, WHOLE = "decode tokens/s", "tokens/s end to end"
FIRST, LAST = "first token p50 ms", "last ms"


def rows_of(document: Mapping[str, list[Mapping[str, object]]]) -> dict[str, dict[int, Mapping[str, object]]]:
    """Of each server, its row for each number of streams."""
    found: dict[str, dict[int, Mapping[str, object]]] = {}
    for row in document["results"]:
        streams = re.fullmatch(r"(\d+) streams?", str(row["what"]))
        if streams is not None:
            found.setdefault(str(row["server"]), {})[int(streams[1])] = row
    return found


def draw(rows: Mapping[str, Mapping[int, Mapping[str, object]]], about: Mapping[str, object]) -> None:
    mpl.rcParams.update({"svg.hashsalt": "serving", "svg.fonttype": "none", "font.size": 9})
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")

    def line(axes: Axes, who: str, column: str, label: str, style: str, scale: float = 1.0) -> None:
        values = {count: row[column] for count, row in rows[who].items()}
        assert all(isinstance(value, float) for value in values.values()), f"{who} has no {column}"
        axes.plot(list(values), [float(str(value)) * scale for value in values.values()], style, label=label)

    bare = next((who for who in rows if "bare" in who), None)
    for number, who in enumerate(who for who in rows if who != bare):
        color = f"C{number}"
        line(left, who, DECODE, f"{who}, decode", f"{color}-o")
        line(left, who, WHOLE, f"{who}, end to end", f"{color}--o")
        line(right, who, FIRST, f"{who}, median", f"{color}-o", 1e-3)
        line(right, who, LAST, f"{who}, last", f"{color}--o", 1e-3)
    if bare is not None:
        line(left, bare, DECODE, bare, "k:")
    for axes, title in ((left, "tokens a second"), (right, "seconds to the first token")):
        streams = sorted({count for counts in rows.values() for count in counts})
        axes.set_xscale("log", base=2)
        axes.set_xticks(streams, [str(count) for count in streams])
        axes.minorticks_off()
        axes.set_xlabel("streams at once")
        axes.set_title(title)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.suptitle(f"{about['cpu']}, {about['cores']} cores, {about['date']}", fontsize=7)


def main(arguments: Sequence[str] | None = None) -> int:
    made = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    made.add_argument("run", type=Path, help="what serving.py --json wrote")
    made.add_argument("plot", type=Path, help="the SVG to write")
    options = made.parse_args(arguments)
    document = json.loads(options.run.read_bytes())
    draw(rows_of(document), document["machine"])
    plt.savefig(options.plot, metadata={"Date": None})
    return 0


if __name__ == "__main__":
    sys.exit(main())
