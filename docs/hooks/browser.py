"""Looks at every page of the built site in headless Chromium.

Each page is opened on a desktop (1280 pixels) and on a phone (400), light and dark, in
four frames of one window, from a server of its own that adds one script to it. The
script says what a reader would suffer: a page wider than its window, code wider than
its box on a desktop, an error on the console, a request to another server, a picture
that did not load. Screenshots stay in `build/screenshots/`.

    make docs-check                               # all pages
    python docs/hooks/browser.py home results     # two of the site that is there

It needs a Chromium, on the path or named by CHROMIUM, and ends with status 1 where
a page has a fault.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SITE, SCREENSHOTS = ROOT / "build" / "site", ROOT / "build" / "screenshots"
WIDTHS = {"desktop": 1280, "phone": 400}
SCHEMES = {"light": "default", "dark": "slate"}
HEIGHT = 1400
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_SECONDS = 120

# Before anything of the page runs: collect what goes wrong, and set the colours.
_BEFORE = """<script>
window.faults = [];
addEventListener("error", event => faults.push(
  event.message ? "error: " + event.message
  : "not loaded: " + (event.target.src || event.target.href)), true);
for (const name of ["error", "warn"]) {
  console[name] = (...what) => faults.push("console: " + what.join(" "));
}
addEventListener("load", () => {
  document.body.setAttribute("data-md-color-scheme", "SCHEME");
  setTimeout(() => {
    const own = location.host, page = document.documentElement;
    for (const entry of performance.getEntriesByType("resource")) {
      if (new URL(entry.name).host !== own) faults.push("foreign: " + entry.name);
    }
    if (page.scrollWidth > innerWidth) {
      const wide = [...document.querySelectorAll(".md-content *")].filter(
        each => each.getBoundingClientRect().right > innerWidth + 1)[0];
      faults.push("wider than its window: " + page.scrollWidth + " of " + innerWidth
        + " px" + (wide ? ", first " + wide.tagName + " " + wide.className : ""));
    }
    for (const code of innerWidth < 1000 ? [] : document.querySelectorAll(
        ".highlight pre > code")) {
      if (code.scrollWidth > code.clientWidth + 1) faults.push(
        "code wider than its box: " + code.textContent.trim().split("\\n")[0]);
    }
    const said = document.createElement("script");
    said.type = "application/json"; said.id = frameElement.name;
    said.textContent = JSON.stringify(faults);
    top.document.body.append(said);
  }, 300);
});
</script>"""


# The frames of a window: a name, a width and a scheme each.
FRAMES = [
    (f"{device}-{colours}", width, scheme)
    for device, width in WIDTHS.items()
    for colours, scheme in SCHEMES.items()
]
_FRAME = """<iframe name="{name}" src="/{scheme}/{page}"
style="border: 0; float: left; height: 100vh; width: {width}px"></iframe>"""


class _Pages(http.server.SimpleHTTPRequestHandler):
    """Serves the site under each scheme, with the script in every page."""

    def do_GET(self) -> None:
        """Serves one file, or a window with four frames of a page."""
        scheme, _, rest = self.path.lstrip("/").partition("/")
        if scheme == "frames":
            frames = (
                _FRAME.format(name=name, scheme=colours, page=rest, width=width)
                for name, width, colours in FRAMES
            )
            self._send(f'<!doctype html><body style="margin: 0">{"".join(frames)}')
            return
        if scheme in SCHEMES.values():
            self.path = "/" + rest
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if path.suffix != ".html" or not path.exists():
            super().do_GET()
            return
        script = _BEFORE.replace("SCHEME", scheme)
        self._send(path.read_text("utf-8").replace("<head>", "<head>" + script, 1))

    def _send(self, page: str) -> None:
        body = page.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Says nothing."""


@contextlib.contextmanager
def serve() -> Iterator[str]:
    """Serves the site on a free port.

    Yields:
        The address.
    """
    handler = partial(_Pages, directory=str(SITE))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def faults_of(window: str) -> dict[str, list[str]]:
    """What the script found, by frames, in a window as the browser left it.

    Args:
        window: HTML, as `--dump-dom` prints it.
    """
    found = {}
    for name, _, _ in FRAMES:
        said = re.search(rf'id="{name}">(.*?)</script>', window, re.DOTALL)
        found[name] = (
            list(json.loads(unescape(said[1]))) if said else ["did not finish"]
        )
    return found


def look(chromium: str, address: str, picture: Path) -> dict[str, list[str]]:
    """Opens one page, keeps its picture and returns its faults by frames.

    Args:
        chromium: The browser.
        address: Of the window.
        picture: Where its picture is kept.
    """
    picture.parent.mkdir(parents=True, exist_ok=True)
    width = sum(width for _, width, _ in FRAMES)
    with tempfile.TemporaryDirectory() as profile:
        command = [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu"),
            *("--hide-scrollbars", f"--user-data-dir={profile}"),
            *(f"--window-size={width},{HEIGHT}", "--virtual-time-budget=5000"),
            *(f"--screenshot={picture}", "--dump-dom", address),
        ]
        window = ""
        with contextlib.suppress(subprocess.TimeoutExpired):  # said of every frame
            window = subprocess.run(
                command, capture_output=True, text=True, timeout=_SECONDS, check=False
            ).stdout
    return faults_of(window)


def pages(site: Path = SITE) -> list[str]:
    """The addresses of all pages, relative to the site."""
    found = sorted(site.rglob("index.html"))
    return [p.parent.relative_to(site).as_posix().replace(".", "", 1) for p in found]


def chosen(wanted: Sequence[str], there: Sequence[str]) -> list[str]:
    """The pages that are looked at.

    Args:
        wanted: Their names; none for all.
        there: The addresses of all pages; the name of the empty one is `home`.

    Raises:
        ValueError: If there is no page of a name: nothing would be looked at.
    """
    names = {page or "home": page for page in there}
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ValueError(
            f"No page of that name. Received: {', '.join(unknown)}. There are "
            f"{', '.join(names)}."
        )
    return [names[name] for name in wanted or names]


def main(arguments: Sequence[str] | None = None) -> int:
    """Looks at all pages, or at those that are named.

    Args:
        arguments: The command line; None for that of this process.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        description="Looks at every page of the built site in headless Chromium."
    )
    text = "of the site, such as home or results; all if none is named"
    parser.add_argument("page", nargs="*", help=text)
    options = parser.parse_args(arguments)
    named = os.environ.get("CHROMIUM")
    chromium = named or next(filter(None, map(shutil.which, NAMES)), None)
    if not chromium:
        print("No Chromium found: install one, or name it by CHROMIUM=/path/to/it.")
        return 1
    if not (SITE / "index.html").exists():
        print("No site found: build it by `make docs`.")
        return 1
    try:
        looked_at = chosen(options.page, pages())
    except ValueError as error:
        print(error)
        return 1
    count = 0
    with serve() as address:
        for page in looked_at:
            name = page or "home"
            picture = SCREENSHOTS / f"{name.replace('/', '-')}.png"
            where = f"{address}frames/{page + '/' if page else ''}"
            for frame, faults in look(chromium, where, picture).items():
                count += len(faults)
                for fault in faults:
                    print(f"{name} ({frame}): {fault}", flush=True)
    pictures = SCREENSHOTS.relative_to(ROOT)
    print(f"{len(looked_at)} pages, {count} faults. Screenshots: {pictures}")
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
