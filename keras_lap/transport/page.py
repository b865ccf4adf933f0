"""A `TransportReport` as a page that needs no other file."""

from __future__ import annotations

import html

from keras_lap._checks import refusal
from keras_lap._drawing import html_figure, html_page, html_table, short
from keras_lap.transport.plots import (
    plot_displacements,
    plot_matching,
    plot_points,
    plot_trajectories,
)
from keras_lap.transport.report import TransportReport

_MEANING = (
    "A block moves a state from x_k to x_{k+1}, and v is the difference. A stage is a "
    "run of blocks that move one state through a space of fixed dimension. ‖v‖ is in "
    "units of the state; cosines and ratios have no unit."
)
_RATIOS = (
    "A ratio of costs of 1 is optimal; a path ratio, the length of a path over its "
    "straight distance, of 1 is straight."
)


def page(
    report: TransportReport,
    reference: TransportReport | None = None,
    stage: int = -1,
    note: str = "",
) -> str:
    """The page of a report: sentence, pictures, tables, and the numbers as JSON.

    Args:
        report: The report.
        reference: Of another network on the same data, or None.
        stage: Index of the stage whose points are drawn.
        note: What stands below the sentence, as text.

    Raises:
        ValueError: As `TransportReport.save_html`.
    """
    drawn = {"this network": report}
    if reference is not None:
        if reference.p != report.p:
            accepted = f"be of costs with the same exponent, p = {report.p:g}"
            advice = "Call analyze(..., p=...) for both networks alike."
            raise refusal("reference", accepted, reference, advice)
        drawn["reference"] = reference
    blocks, stages = map(html_table, report.tables())
    said = [html.escape(line) for line in report.captions]
    sections = {
        "How far does each block move the data?": [
            *([f"<p>{html.escape(note)}</p>"] if note else []),
            html_figure(
                plot_displacements(drawn),
                "Length of each block's displacements: median, 25 to 75 % of the "
                "samples (thick), 5 to 95 % (thin).",
            ),
        ],
        "Where do the points go?": [
            html_figure(
                plot_trajectories(drawn, stage),
                "Paths of single points through the blocks of stage "
                f"{range(len(report.stages))[stage]}, from a ring to a filled shape.",
            ),
            html_figure(
                plot_points(report, stage, same_scale=False),
                "The points before the first block and after each, every panel with a "
                "scale of its own.",
            ),
        ],
        "How near is that to optimal transport?": [
            html_figure(
                plot_matching(report, stage),
                "Each point and its image (left), and its partner in the optimal "
                "matching (right; orange where that is not its own image).",
            ),
            *(f"<p>{said[1]}. {_RATIOS}</p>", stages),
        ],
        "What does each block do?": [
            *(f"<p>{html.escape(_MEANING)}</p>", f"<p>{said[0]}</p>", blocks)
        ],
    }
    title = f"Transport of {report.num_samples} samples by {report.model_name}"
    return html_page(title, first(report, reference), sections, report.to_json())


def first(report: TransportReport, reference: TransportReport | None = None) -> str:
    """How far the data move, in one sentence: beside the reference, or by themselves.

    Args:
        report: The report.
        reference: Of another network on the same data, or None.
    """
    cost = report.total_cost
    if reference is not None and cost and reference.total_cost:
        times = reference.total_cost / cost
        less = "less" if times >= 1 else "more"
        times = max(times, 1 / times)
        digits = 0 if times >= 10 else 1
        return (
            f"The data move {times:,.{digits}f} times {less} than in the reference, by "
            f"transport cost ({short(cost)} and {short(reference.total_cost)})."
        )
    if not cost:
        return "The blocks do not move the data."
    relative = report.relative_displacement
    far = f"at a transport cost of {short(cost)}"
    if relative is not None:
        far = f"by {100 * relative:.3g} % of their size on average"
    return (
        f"Each block moves the data {far}, along paths "
        f"{report.mean('path_ratio'):.3g} times as long as the straight way."
    )
