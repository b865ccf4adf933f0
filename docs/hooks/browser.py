"""Looks at every page of the built site in headless Chromium.

Each page is opened on a desktop (1280 pixels) and on a phone (400), light and dark,
from a server of its own that adds one script to it. The script says what a reader would
suffer: a page wider than its window, code wider than its box on a desktop, an error on
the console, a request to another server, a picture that did not load. Screenshots stay
in `build/screenshots/`.

    make docs-check

It needs a Chromium, on the path or named by CHROMIUM, and ends with status 1 where
a page has a fault.
"""

from __future__ import annotations

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
from collections.abc import Iterator
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SITE, SCREENSHOTS = ROOT / "build" / "site", ROOT / "build" / "screenshots"
WIDTHS = {"desktop": 1280, "phone": 400}
SCHEMES = {"light": "default", "dark": "slate"}
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_SECONDS = 60

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
    said.type = "application/json"; said.id = "faults";
    said.textContent = JSON.stringify(faults);
    top.document.body.append(said);
  }, 300);
});
</script>"""


# A window is at least 500 pixels wide, so a page is shown in a frame within one.
_FRAME = """<!doctype html><body style="margin: 0"><iframe src="PAGE" style="border: 0;
width: WIDTHpx; height: 100vh"></iframe></body>"""


class _Pages(http.server.SimpleHTTPRequestHandler):
    """Serves the site, with the script in every page."""

    scheme = "default"

    def do_GET(self) -> None:
        """Serves one file."""
        if self.path.startswith("/frame/"):
            width, _, page = self.path.removeprefix("/frame/").partition("/")
            self._send(_FRAME.replace("PAGE", "/" + page).replace("WIDTH", width))
            return
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if path.suffix != ".html" or not path.exists():
            super().do_GET()
            return
        script = _BEFORE.replace("SCHEME", self.scheme)
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
def serve(scheme: str) -> Iterator[str]:
    """Serves the site on a free port.

    Args:
        scheme: Material's colour scheme.

    Yields:
        The address.
    """
    handler = partial(type("Pages", (_Pages,), {"scheme": scheme}), directory=str(SITE))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def faults_of(page: str) -> list[str]:
    """What the script found, in a page as the browser left it.

    Args:
        page: HTML, as `--dump-dom` prints it.
    """
    found = re.search(r'id="faults">(.*?)</script>', page, re.DOTALL)
    if not found:
        return ["the page did not finish"]
    return list(json.loads(unescape(found[1])))


def look(chromium: str, address: str, width: int, picture: Path) -> list[str]:
    """Opens one page, keeps its picture and returns its faults.

    Args:
        chromium: The browser.
        address: Of the page.
        width: Of the window, pixels.
        picture: Where its picture is kept.
    """
    picture.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        command = [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu"),
            *("--hide-scrollbars", f"--user-data-dir={profile}"),
            f"--window-size={max(width, 500)},1400",
            "--virtual-time-budget=5000",
        ]
        shot = [*command, f"--screenshot={picture}", address]
        subprocess.run(shot, capture_output=True, timeout=_SECONDS, check=False)
        dump = [*command, "--dump-dom", address]
        done = subprocess.run(
            dump, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    return faults_of(done.stdout)


def pages(site: Path = SITE) -> list[str]:
    """The addresses of all pages, relative to the site."""
    found = sorted(site.rglob("index.html"))
    return [p.parent.relative_to(site).as_posix().replace(".", "", 1) for p in found]


def main() -> int:
    """Looks at all pages.

    Returns:
        The exit status.
    """
    named = os.environ.get("CHROMIUM")
    chromium = named or next(filter(None, map(shutil.which, NAMES)), None)
    if not chromium:
        print("No Chromium found: install one, or name it by CHROMIUM=/path/to/it.")
        return 1
    if not (SITE / "index.html").exists():
        print("No site found: build it by `make docs`.")
        return 1
    only = sys.argv[1:]
    count = 0
    for colours, scheme in SCHEMES.items():
        with serve(scheme) as address:
            for page in [p for p in pages() if not only or (p or "home") in only]:
                for device, width in WIDTHS.items():
                    name = f"{page.replace('/', '-') or 'home'}-{device}-{colours}.png"
                    place = SCREENSHOTS / name
                    where = f"{address}frame/{width}/{page + '/' if page else ''}"
                    for fault in look(chromium, where, width, place):
                        count += 1
                        print(f"{page or 'home'} ({device}, {colours}): {fault}")
    print(f"{count} faults. Screenshots: {SCREENSHOTS.relative_to(ROOT)}")
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
