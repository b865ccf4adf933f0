"""Ends the build where a page would not serve its readers.

Every picture needs a text for those who do not see it, every page one heading of the
first level and a title of its own, and a place in the index of the search. Pages load
nothing from another server.
"""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority

_titles: dict[str, str] = {}


class Page(HTMLParser):
    """What is wrong with a page, in `faults`, and its `title`."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.title = ""
        self._headings = 0
        self._in_title = False
        self.feed(html)
        if self._headings != 1:
            self.faults.append(f"it has {self._headings} headings of the first level")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Looks at one tag."""
        values = dict(attrs)
        self._in_title = tag == "title" and not self.title
        self._headings += tag == "h1"
        if tag == "img" and not (values.get("alt") or "").strip():
            self.faults.append(f"the picture {values.get('src')} has no alt text")
        loaded = values.get("src")
        if tag == "link" and values.get("rel") not in ("canonical", "prev", "next"):
            loaded = values.get("href")
        if loaded and loaded.startswith(("http:", "https:", "//")):
            self.faults.append(f"it loads {loaded} from another server")

    def handle_data(self, data: str) -> None:
        """Reads the title."""
        if self._in_title:
            self.title += data

    def handle_endtag(self, tag: str) -> None:
        """Ends the title."""
        self._in_title = self._in_title and tag != "title"


def on_pre_build(config: Any) -> None:
    """Forgets an earlier build; MkDocs calls this before each."""
    _titles.clear()


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Checks one page; MkDocs calls this with its whole HTML."""
    found = Page(output)
    if found.title in _titles.values():
        found.faults.append(f"another page has its title, {found.title!r}")
    if found.faults:
        raise PluginError(f"{page.file.src_uri}: " + "; ".join(found.faults))
    _titles[page.url] = found.title
    return output


@event_priority(-100)  # after the search has written its index
def on_post_build(config: Any) -> None:
    """Looks for every page in the index of the search."""
    index = Path(config.site_dir) / "search" / "search_index.json"
    places = {each["location"] for each in json.loads(index.read_text())["docs"]}
    if missing := sorted(set(_titles) - places):
        raise PluginError(f"The search does not find the pages {missing}")
