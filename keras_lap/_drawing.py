"""What all pictures and tables have in common: colours, axes, names and columns."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

from keras_lap._extras import require

# Colours that stay apart in every kind of colour blindness: those of Okabe and Ito
# without yellow, which is lost on white, then brown and violet.
BLUE, VERMILION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
COLORS = (
    *(BLUE, VERMILION, GREEN, "#CC79A7", ORANGE, "#56B4E9"),
    *("#000000", "#999999", "#7F4F24", "#7B3294"),
)
GREY, PALE = "#777777", "#D9D9D9"  # of what stays in the background
# More shapes than ten classes need, so that colour is never alone.
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", ">", "*")


def color(number: int) -> str:
    """The colour of the line or group with this number, from the first again."""
    return COLORS[number % len(COLORS)]


def colors_of(names: Iterable[str]) -> list[str]:
    """The colours of networks that are compared, by their names.

    Plain training is orange and least action blue, in whatever order and among whatever
    others; these have the colours that are left.
    """
    names = list(names)
    taken: dict[str, str] = {}
    for method, own in (("plain", VERMILION), ("least action", BLUE)):
        found = [n for n in names if n.lower().startswith(method) and n not in taken]
        taken |= dict.fromkeys(found[:1], own)
    rest = [each for each in COLORS if each not in taken.values()]
    others = [name for name in names if name not in taken]
    taken |= {name: rest[i % len(rest)] for i, name in enumerate(others)}
    return [taken[name] for name in names]


def marker(number: int) -> str:
    """The shape of the points of the group with this number, likewise."""
    return MARKERS[number % len(MARKERS)]


def label(name: Any) -> str:
    """A name that users have chosen, as matplotlib is to be given it.

    Two dollars in it would be read as the ends of a formula.
    """
    return str(name).replace("$", r"\$")


def matplotlib(module: str = "figure") -> Any:
    """A module of matplotlib, imported when a picture is drawn.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    return require(f"matplotlib.{module}", "matplotlib", "plots", "A picture")


def single(ax: Any = None, size: tuple[float, float] = (5.0, 3.6)) -> Any:
    """The user's axes, or those of a new figure that belongs to no window."""
    return grid(1, 1, size)[1][0] if ax is None else ax


def grid(
    count: int, columns: int = 4, size: tuple[float, float] = (4.2, 3.4)
) -> tuple[Any, list[Any]]:
    """A new figure, which belongs to no window, with axes of equal size.

    Args:
        count: How many axes; those left over in the last row are hidden.
        columns: How many of them in a row, at most.
        size: Width and height of one, in inches.

    Returns:
        The figure and its axes.
    """
    columns = max(1, min(columns, count))
    rows = max(1, math.ceil(count / columns))
    figure = matplotlib().Figure(
        figsize=(columns * size[0], rows * size[1]), layout="constrained"
    )
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count]


def whole_ticks(*scales: Any) -> None:
    """Ticks only at whole numbers, on an axis of epochs or of blocks."""
    for scale in scales:
        scale.get_major_locator().set_params(integer=True)


def text_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], align: str = "<"
) -> list[str]:
    """The lines of a table for a fixed-width font, the first column on the left.

    Args:
        head: Names of the columns.
        rows: Their cells.
        align: Where the cells of all further columns lie: `"<"` left or `">"` right.
    """
    table = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    form = "  ".join(
        f"{{:{align if number else '<'}{width}}}" for number, width in enumerate(widths)
    )
    return [f"  {form.format(*row)}".rstrip() for row in table]


def html_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as an HTML table, the first of them its head."""
    lines = []
    for tag, row in zip(["th", *["td"] * len(rows)], rows, strict=False):
        cells = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
        lines.append(f"<tr>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


def few(names: Sequence[str], at_most: int = 3) -> str:
    """Names in one line, of which only the first are written."""
    rest = [f"{len(names) - at_most} more"] if len(names) > at_most else []
    return ", ".join([*names[:at_most], *rest])


def short(value: float | None) -> str:
    """A number in four digits, for a table; a dash for None."""
    return "-" if value is None else f"{value:.4g}"


def counted(count: int, noun: str) -> str:
    """A number and what it counts: 1 block, 2 blocks."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
