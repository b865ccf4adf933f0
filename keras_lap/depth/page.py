"""A `DepthReport` as a page that needs no other file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

from keras_lap._drawing import html_table

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #222; margin: 2rem auto;
       max-width: 70rem; padding: 0 1rem; }}
table {{ border-collapse: collapse; font-size: .85rem; margin: 1rem 0; }}
th, td {{ padding: .2rem .7rem; text-align: right; white-space: nowrap; }}
th {{ border-bottom: 2px solid #444; }}
tr + tr td {{ border-top: 1px solid #ddd; }}
td:first-child, th:first-child {{ text-align: left; }}
img {{ max-width: 100%; height: auto; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def page(title: str, sentences: Sequence[str], report: Any) -> str:
    """The page of a report: sentences, picture, tables, and the numbers as JSON.

    Args:
        title: Its title.
        sentences: What stands first.
        report: A `DepthReport`.
    """
    data = report.to_json().replace("<", "\\u003c")
    body = [
        *(f"<p>{html.escape(line)}</p>" for line in sentences),
        picture(report.plot(), "Loss by layer, and what the blocks do."),
        *(html_table(rows) for rows in report.tables()),
        f'<script type="application/json">{data}</script>',
    ]
    return _PAGE.format(title=html.escape(title), body="\n".join(body))


def picture(figure: Any, caption: str) -> str:
    """A matplotlib figure inside a page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    code = base64.b64encode(buffer.getvalue()).decode()
    text = html.escape(caption)
    return f'<img src="data:image/png;base64,{code}" alt="{text}">'
