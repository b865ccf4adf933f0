"""A picture of a network with its residual blocks marked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from keras_lap._drawing import BLUE, GREEN, ORANGE
from keras_lap._extras import needs
from keras_lap.blocks.find import find_residual_blocks, unwrapped
from keras_lap.blocks.graph import MODEL
from keras_lap.blocks.report import BlockReport

COLORS = {"identity": BLUE, "projection": ORANGE, "layer": GREEN}
_GRAPHVIZ = (
    ", and graphviz from your system (on Debian and Ubuntu: apt install graphviz)"
)


def plot_blocks(
    model: keras.Model,
    to_file: str | Path = "blocks.png",
    report: BlockReport | None = None,
    **options: Any,
) -> None:
    """Draws a network as `keras.utils.plot_model` does, its blocks in colour.

    The merge of each identity block is blue, of each projection orange; a layer that
    is a block as a whole, or holds blocks inside its call, is green.

    Args:
        model: The network.
        to_file: Where to, e.g. `"blocks.png"` or `"blocks.svg"`; the ending says in
            which format. Defaults to `"blocks.png"`.
        report: The blocks to mark. Defaults to `find_residual_blocks(model)`.
        **options: Further arguments of `keras.utils.model_to_dot`, e.g.
            `show_shapes=True`.

    Raises:
        ImportError: If `pydot` or graphviz is not installed.
        ValueError: If the model is not built.
    """
    report = find_residual_blocks(model) if report is None else report
    model, _ = unwrapped(model)
    path = Path(to_file)
    missing = (ImportError, FileNotFoundError)
    purpose = "A picture of the network"
    with needs("pydot with graphviz", "plots", purpose, _GRAPHVIZ, missing):
        dot = keras.utils.model_to_dot(model, expand_nested=True, **options)
        drawn = mark(dot, report).create(format=path.suffix[1:] or "png")
    path.write_bytes(drawn)


def mark(dot: Any, report: BlockReport) -> Any:
    """Colours the boxes of the blocks in the graph of `keras.utils.model_to_dot`."""
    colors = dict(_marks(report))
    for box in _boxes(dot):
        color = colors.get(box.get_name().strip('"'))
        if color is not None:
            label = box.get("label").replace('bgcolor="black"', f'bgcolor="{color}"')
            box.set("label", label)
    return dot


def _marks(report: BlockReport) -> Iterator[tuple[str, str]]:
    """The name of the box of each block, the `id` of its operation, and a colour."""
    for found in report.found:
        # What is inside a call is not drawn.
        around = next((call for call in found.path if MODEL not in call.roles), None)
        call, kind = (around, "layer") if around else (found.call, found.block.kind)
        yield str(id(call.operation)), COLORS[kind]


def _boxes(dot: Any) -> Iterator[Any]:
    yield from dot.get_nodes()
    for cluster in dot.get_subgraphs():
        yield from _boxes(cluster)
