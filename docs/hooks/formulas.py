r"""Turns the formulas of the pages into MathML while the site is built.

`pymdownx.arithmatex` marks what stands between dollars; math-core converts it to
MathML, which browsers show by themselves, without a script or another server;
`docs/stylesheets/formulas.css` names the fonts. A formula that math-core cannot
read ends the build.
"""

from __future__ import annotations

import html as entities
import re
from typing import Any

import math_core
from mkdocs.exceptions import PluginError

_MARKED = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\s*'
    r"\\[(\[](?P<latex>.*?)\\[)\]]\s*</(?P=tag)>",
    re.DOTALL,
)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Replaces every marked formula; MkDocs calls this for each page."""
    converter = math_core.LatexToMathML(fancy_error=False)

    def convert(match: re.Match[str]) -> str:
        latex = entities.unescape(match["latex"]).strip()
        block = match["tag"] == "div"
        try:
            formula = converter.convert_with_local_state(latex, displaystyle=block)
        except math_core.LatexError as error:
            raise PluginError(
                f"{page.file.src_uri}: the formula {latex!r} cannot be read: {error}"
            ) from error
        return f'<{match["tag"]} class="formula">{formula}</{match["tag"]}>'

    return _MARKED.sub(convert, html)
