"""What all pictures, tables and pages have in common: colours, axes, names, columns."""

from __future__ import annotations

import base64
import html
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_lap._checks import refusal
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


def html_paragraphs(lines: Iterable[str]) -> list[str]:
    """Lines of text as paragraphs of HTML."""
    return [f"<p>{html.escape(line)}</p>" for line in lines]


def html_figure(figure: Any, caption: str) -> str:
    """A matplotlib figure inside a page, with what it shows below.

    Args:
        figure: The figure, or axes of it.
        caption: What is seen.
    """
    buffer = io.BytesIO()
    getattr(figure, "figure", figure).savefig(buffer, format="png", dpi=120)
    return html_image(buffer.getvalue(), "png", caption)


def html_image(data: bytes, kind: str, caption: str) -> str:
    """An image inside a page, as `html_figure`.

    Args:
        data: Of the file.
        kind: `"png"` or `"gif"`.
        caption: What is seen.
    """
    code, text = base64.b64encode(data).decode(), html.escape(caption)
    return (
        f'<figure><img src="data:image/{kind};base64,{code}" alt="{text}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def html_page(
    title: str, first: str, sections: Mapping[str, Sequence[str]], data: str = ""
) -> str:
    """A page that needs no other file and no connection, light or dark as its reader.

    Args:
        title: Its title, as text.
        first: The plain sentence that stands first, as text.
        sections: Pieces of HTML by the question that they answer.
        data: The numbers as JSON, for programs.
    """
    body = [f'<p class="first">{html.escape(first)}</p>']
    for question, pieces in sections.items():
        body += [f"<h2>{html.escape(question)}</h2>", *pieces]
    if data:
        plain = data.replace("<", "\\u003c")
        body.append(f'<script type="application/json">{plain}</script>')
    return _PAGE.format(title=html.escape(title), body="\n".join(body))


# Pictures are on white: in the dark their light is turned round, their colours kept.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --line: #ccc; --pale: #555; }}
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem;
       padding: 0 1rem; background: #fff; color: #222; }}
h1, h2, h3 {{ line-height: 1.2; }}
h2 {{ border-bottom: 1px solid var(--line); margin-top: 2.5rem; }}
.first {{ font-size: 1.25rem; }}
table {{ border-collapse: collapse; display: block; font-size: .85rem; margin: 1rem 0;
        max-width: 100%; overflow-x: auto; }}
th, td {{ padding: .2rem .7rem; text-align: right; white-space: nowrap; }}
th {{ border-bottom: 2px solid var(--pale); }}
tr + tr td {{ border-top: 1px solid var(--line); }}
td:first-child, th:first-child {{ text-align: left; }}
figure {{ margin: 1.5rem 0; }}
img {{ max-width: 100%; height: auto; }}
figcaption {{ color: var(--pale); font-size: .9rem; max-width: 45rem; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --line: #444; --pale: #aaa; }}
  body {{ background: #1b1e26; color: #ddd; }}
  img {{ filter: invert(.9) hue-rotate(180deg); }}
}}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def save_page(path: str | os.PathLike[str], text: str) -> None:
    """Writes a page beside its place and moves it there: no half a page is left.

    Args:
        path: Where to; a page that is there already is replaced.
        text: The page.

    Raises:
        TypeError: If `path` is no path.
        ValueError: If it is a folder, or lies in none.
    """
    if not isinstance(path, str | os.PathLike):
        raise refusal("path", "be the path of a file", path, error=TypeError)
    place, said = Path(path), os.fspath(path)
    if place.is_dir():
        advice = "That is a folder: add a name, such as report.html."
        raise refusal("path", "be the path of a file", said, advice)
    if not place.parent.is_dir():
        advice = "Make the folder first, by Path(path).parent.mkdir(parents=True)."
        raise refusal("path", "lie in a folder that is there", said, advice)
    beside = place.with_name(f"{place.name}.part")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(place)
    finally:
        beside.unlink(missing_ok=True)


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
