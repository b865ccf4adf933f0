"""A `DepthReport` as a page that needs no other file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_lap._drawing import html_figure, html_page, html_paragraphs, html_table

# What the tables of a report answer, in their order.
_QUESTIONS = (
    "How good is it after each block?",
    "What does each block do?",
    "What if it stops as soon as it is sure?",
)


def page(title: str, sentences: Sequence[str], report: Any) -> str:
    """The page of a report: sentences, picture, tables, and the numbers as JSON.

    Args:
        title: Its title.
        sentences: What stands first, after what follows from them.
        report: A `DepthReport`.
    """
    said = html_paragraphs(sentences)
    drawn = html_figure(report.plot(), "Loss by layer, and what the blocks do.")
    sections = {"How many blocks does it need?": [*said, drawn]}
    for question, rows in zip(_QUESTIONS, report.tables(), strict=False):
        sections[question] = [html_table(rows)]
    return html_page(title, first(report), sections, report.to_json())


def first(report: Any) -> str:
    """What to do, in one sentence.

    Args:
        report: A `DepthReport`.
    """
    count, keep = len(report.blocks), report.layers_needed
    if keep >= count:
        return f"All {count} blocks are needed: leave the network as it is."
    change = report.advice.change
    if report.accuracies is not None:
        return (
            f"{keep} of {count} blocks do: without the others the accuracy changes by "
            f"{100 * change:+.2g} percentage points."
        )
    return (
        f"{keep} of {count} blocks do: without the others the loss changes by "
        f"{change:+.2g}."
    )
