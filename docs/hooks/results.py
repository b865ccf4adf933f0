"""Adds `studies/results/`, what the studies found, and the changelog to the site.

The results lie beside what made them, and are read there too. Their pages are in
`results/` of the site, and the files that they lead to lie beside them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

# Links that lead to a file of the repository, and to the page that has it.
_LINKS = {
    r"\]\(\.\./\.\./benchmarks/(README|results/\w+)\.md\)": "](../benchmarks.md)",
    r"\]\(\.\./\.\./docs/": "](../",
    r"\]\(\.\./\.\./examples/tutorials/(\w+)\.py\)": r"](../tutorials/\1.md)",
}


def on_files(files: Files, config: Any) -> Files:
    """Adds the results; MkDocs calls this when it has read `docs/`."""
    root = Path(config.config_file_path).parent
    changes = (root / "CHANGELOG.md").read_text("utf-8").replace("](docs/", "](")
    files.append(File.generated(config, "changelog.md", content=changes))
    studies = root / "studies"
    for path in sorted((studies / "results").iterdir()):
        place = path.relative_to(studies).as_posix()
        files.append(
            File(place, str(studies), config.site_dir, config.use_directory_urls)
        )
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Leads to a page where the repository has a file."""
    if page.file.src_uri.startswith("results/"):
        for file, place in _LINKS.items():
            markdown = re.sub(file, place, markdown)
    return markdown
