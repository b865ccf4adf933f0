"""Runs the tutorials and makes pages of them while the site is built.

A tutorial is a script of `examples/tutorials/` whose comments below a line
`# %% [markdown]` are its prose. Jupytext reads it, and nbclient runs it as a notebook,
in a process of its own. The page has the prose, the code and what that printed;
pictures that the code writes to `out/` are those that the prose shows. An exception in
a tutorial ends the build.

`build/tutorials/` keeps what was run. A tutorial runs again when its script, the
package, the results that are published or an installed library is another one.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import re
import shutil
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import jupytext
import nbclient
import nbformat
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from nbclient.exceptions import CellControlSignal, DeadKernelError

log = logging.getLogger("mkdocs.hooks.tutorials")

_CELL_LIMIT = 600  # seconds
_COLUMNS = 86  # that fit a page's box at a width of 1280 pixels
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_PICTURE = re.compile(r"!\[[^\]]*\]\((out/[^)\s]+)\)")
_KEY = "keras_lap_key"


def on_files(files: Files, config: Any) -> Files:
    """Adds a page for each tutorial; MkDocs calls this when it has read `docs/`."""
    root = Path(config.config_file_path).parent
    everything = _digest(root)
    for script in sorted((root / "examples" / "tutorials").glob("*.py")):
        folder = root / "build" / "tutorials" / script.stem
        notebook = _executed(script, folder, everything)
        place = f"tutorials/{script.stem}"
        page = _page(script, notebook)
        files.append(File.generated(config, f"{place}.md", content=page))
        text = script.read_text(encoding="utf-8")
        files.append(File.generated(config, f"{place}.py", content=text))
        files.append(File.generated(config, f"{place}.ipynb", content=_empty(text)))
        for picture in sorted(set(_PICTURE.findall(page))):
            if not (folder / picture).exists():
                raise PluginError(f"{script.name} shows {picture} and does not draw it")
            content = (folder / picture).read_bytes()
            files.append(
                File.generated(config, f"tutorials/{picture}", content=content)
            )
    return files


def _digest(root: Path) -> str:
    """Stands for all that a tutorial's outcome depends on, but its script."""
    digest = hashlib.sha256(sys.version.encode())
    digest.update(os.environ.get("KERAS_BACKEND", "").encode())
    distributions = importlib.metadata.distributions()
    versions = {f"{each.name}=={each.version}" for each in distributions}
    digest.update("\n".join(sorted(versions)).encode())
    read = [*root.glob("keras_lap/**/*.py"), *root.glob("studies/results/*.csv")]
    for path in sorted(read):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _empty(text: str) -> str:
    """The script as a notebook that nobody has run, for readers to download."""
    notebook = jupytext.reads(text, fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # the same in every build
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata = {"kernelspec": kernel}
    return str(nbformat.writes(notebook))


def _executed(script: Path, folder: Path, everything: str) -> Any:
    """The tutorial as a notebook that was run, now or before."""
    text = script.read_text(encoding="utf-8")
    key = hashlib.sha256((everything + text).encode()).hexdigest()
    kept = folder / "notebook.ipynb"
    if kept.exists():
        notebook = nbformat.read(kept, as_version=4)
        if notebook.metadata.get(_KEY) == key:
            return notebook
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    notebook = jupytext.reads(text, fmt="py:percent")
    start = time.perf_counter()
    _run(notebook, script, folder)
    log.info("Ran %s in %.0f s", script.name, time.perf_counter() - start)
    notebook.metadata[_KEY] = key
    nbformat.write(notebook, kept)
    return notebook


def _run(notebook: Any, script: Path, folder: Path) -> None:
    environment = {
        **os.environ,
        "MPLBACKEND": "agg",
        # The package of this clone, whatever is installed.
        "PYTHONPATH": os.pathsep.join(
            [str(script.parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
    }
    # Threads that wait for each other on a busy machine take many times as long.
    environment.setdefault("OMP_NUM_THREADS", "1")
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    client = nbclient.NotebookClient(
        notebook,
        timeout=_CELL_LIMIT,
        startup_timeout=_CELL_LIMIT,  # on a machine that is busy
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        coalesce_streams=True,
    )
    logs = folder / "log.txt"  # what libraries say below Python
    try:
        with logs.open("w", encoding="utf-8") as stream:
            client.execute(env=environment, stderr=stream)
    except (CellControlSignal, DeadKernelError) as error:
        text = _COLOURS.sub("", str(error))
        raise PluginError(f"{script}: {text}\nSee also {logs}") from error


def _page(script: Path, notebook: Any) -> str:
    """The notebook as Markdown."""
    name = script.stem
    offer = (
        f"[Notebook]({name}.ipynb){{ download={name}.ipynb }} · "
        f"[script]({name}.py){{ download={name}.py }}"
    )
    parts: list[str] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            title, end, rest = cell.source.partition("\n")
            first = f"{title}\n\n{offer}{end}{rest}"
            parts.append(cell.source if parts else first)
            continue
        parts.append(_fenced(cell.source, "python"))
        shown = "".join(_text(output) for output in cell.outputs).rstrip()
        if shown:
            parts.append(_printed(shown))
    parts.append(
        f"---\n\nThis page is the script [`examples/tutorials/{script.name}`]"
        f"({script.name}), run when the site was built. Run it yourself by\n\n"
        + _fenced(f"python examples/tutorials/{script.name}", "console")
    )
    return "\n\n".join(parts) + "\n"


def _text(output: Any) -> str:
    """What an output adds to the page: what was printed, but no warnings and logs."""
    if output.output_type == "stream":
        return output.text if output.name == "stdout" else ""
    return output.get("data", {}).get("text/plain", "") + "\n"


def _printed(text: str) -> str:
    """What was printed, so that it fits its box: prose is broken, tables are small."""
    lines: list[str] = []
    for line in text.splitlines():
        if len(line) <= _COLUMNS or "  " in line.strip():  # a table has columns
            lines.append(line)
            continue
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        lines += textwrap.wrap(
            line, _COLUMNS, subsequent_indent=indent, break_long_words=False
        )
    small = " .small" if max(map(len, lines)) > _COLUMNS else ""
    return _fenced("\n".join(lines), f"{{ .text .no-copy .output{small} }}")


def _fenced(text: str, kind: str) -> str:
    fence = "```" + "`" * max(map(len, re.findall("`{3,}", text)), default=0)
    space = " " if kind.startswith("{") else ""
    return f"{fence}{space}{kind}\n{text}\n{fence}"
