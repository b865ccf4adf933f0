"""Which symmetries the law of data obeys: an exact test."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keras_lap._checks import is_number, refusal, whole_number
from keras_lap.symmetry.actions import Action, action_of
from keras_lap.symmetry.groups import FiniteGroup
from keras_lap.symmetry.law_report import NO_POWER, LawReport
from keras_lap.symmetry.passes import Element, run

# Relative to the loss: what float32 leaves of two equal losses.
ROUNDING = 1e-5


def law_test(
    model: Any,
    x: Any,
    y: Any,
    groups: Iterable[FiniteGroup | Action] | Mapping[str, FiniteGroup | Action],
    loss: Any = None,
    inputs: Any = "vectors",
    outputs: Any = "trivial",
    level: float = 0.05,
    samples: int = 1999,
    batch_size: int = 128,
    seed: int = 0,
    verbose: int = 0,
) -> LawReport:
    """Tests which groups the law of data obeys: (ρ_g x, ρ̂_g y) as (x, y) for all g.

    If it obeys one, the mean loss of any model that was fixed before is exchangeable
    with that of data of which each sample was transformed by a random element. The
    p-value is the share of such data whose mean loss lies as far from the mean over
    orbits; it is exact at any number of samples. A good model rejects more of the
    groups that data do not obey. Those that are not rejected may be used: by
    `keras_lap.symmetry.DataAugmentation` or `keras_lap.symmetry.FeatureAveraging`.

    Source: a conditional Monte Carlo test, as in Chiu, Bloem-Reddy, arXiv 2307.15834;
    the statistic is ours. Holm, *A Simple Sequentially Rejective Multiple Test
    Procedure*, 1979.

    Args:
        model: A `keras.Model`, or a function of a batch, with one output. One that is
            equivariant by construction has no power.
        x: Samples that the model was not trained on, `(samples, ...)`, or a structure
            of such arrays. With samples of the training the p-values mean nothing.
        y: Their targets, `(samples, ...)`.
        groups: The candidates, a list or dictionary by name: each a `FiniteGroup`, or
            an `Action` on the inputs. An element that several have is run once.
        loss: As in `equivariance_report`.
        inputs: How a `FiniteGroup` acts on the inputs; see
            `keras_lap.symmetry.FeatureAveraging`. Defaults to `"vectors"`.
        outputs: How all act on outputs and targets. Defaults to `"trivial"`.
        level: At which p-value or below a candidate is rejected, after Holm's
            correction for their number. Defaults to 0.05.
        samples: As in `equivariance_report`; of k candidates none can be rejected by
            fewer than k / level. Defaults to 1999.
        batch_size: Samples of one run. Defaults to 128.
        seed: Of the random elements. Defaults to 0.
        verbose: 1 for a progress bar, 0 for silence. Defaults to 0.

    Returns:
        A `LawReport`.

    Raises:
        ValueError: If the model's loss is the same along all orbits of all candidates,
            as that of a constant model; if an argument is outside the values above, or
            shapes do not fit.
        TypeError: If a candidate is none.

    Examples:
        >>> keras.utils.set_random_seed(0)
        >>> groups = {"sign": keras_lap.symmetry.sign(64)}
        >>> law = keras_lap.symmetry.law_test(network, x, x[:, :10], groups, "mse")
    """
    if y is None:
        raise refusal("y", "be the targets of x", y, "The law of x and y is tested.")
    if not (is_number(level) and 0 < level < 1):
        raise refusal("level", "be a number between 0 and 1", level)
    whole_number("samples", samples, 1)
    candidates = _candidates(groups, inputs, outputs)
    elements: dict[Any, Element] = {}
    keys = {
        name: [elements.setdefault(each.key, each) and each.key for each in orbit]
        for name, orbit in candidates.items()
    }
    seen = run(model, x, y, loss, list(elements.values()), batch_size, verbose)
    losses = np.asarray(seen.losses)
    columns = {key: losses[:, number] for number, key in enumerate(elements)}
    p_values = np.array(
        [
            exact_p_value(np.stack([columns[k] for k in each], 1), samples, seed)
            for each in keys.values()
        ]
    )
    orders = np.array([len(each) for each in keys.values()])
    trivial = orders == 1
    if not trivial.all() and np.isnan(p_values[~trivial]).all():
        raise ValueError(f"{NO_POWER} Received: model={model!r}. Pass a plain one.")
    return LawReport(
        names=tuple(candidates),
        groups=tuple(each[0].inputs.group for each in candidates.values()),
        samples=len(losses),
        p_values=p_values,
        adjusted=_holm(p_values, trivial),
        level=float(level),
        least=_least(orders[~trivial & ~np.isnan(p_values)], len(losses), samples),
    )


def exact_p_value(losses: np.ndarray, samples: int, seed: int) -> float:
    """The p-value of the hypothesis that a column drawn for each row changes nothing.

    ``(1 + #{|T_b − m| ≥ |T − m|}) / (1 + samples)`` with T the mean of the first
    column, m that of all, T_b the mean of entries of random columns.

    Args:
        losses: Of each sample and element, the identity first, `(samples, n)`.
        samples: How many T_b are drawn.
        seed: Of these.

    Returns:
        The p-value; 1 for a single column, NaN if no row varies.
    """
    count, order = losses.shape
    if order == 1:
        return 1.0
    if not _varies(losses):
        return math.nan
    rng = np.random.default_rng(seed)
    centred = losses - losses.mean()
    # Equal means are counted, whatever the order in which they were added.
    bound = abs(centred[:, 0].mean()) - 1e-12 * np.abs(centred).mean()
    rows, hits, left = np.arange(count), 0, samples
    while left:
        size = min(left, max(1, 2**20 // count))
        drawn = centred[rows, rng.integers(0, order, (size, count))].mean(1)
        hits += int((np.abs(drawn) >= bound).sum())
        left -= size
    return (1 + hits) / (1 + samples)


def _candidates(groups: Any, inputs: Any, outputs: Any) -> dict[str, list[Element]]:
    """The elements of each candidate, by name."""
    if isinstance(groups, FiniteGroup | Action) or not groups:
        accepted = "be a list or dictionary of at least one group"
        raise refusal("groups", accepted, groups, "Pass e.g. group.subgroups().")
    given = list(groups.values() if isinstance(groups, Mapping) else groups)
    found: dict[str, list[Element]] = {}
    named = list(groups) if isinstance(groups, Mapping) else [None] * len(given)
    for name, each in zip(named, given, strict=True):
        own = isinstance(each, Action)
        group = each.group if own else each
        acts = (
            each if own else action_of("inputs", inputs, group),
            action_of("outputs", outputs, group),
        )
        text = str(name or group.name)
        if text in found:
            raise ValueError(
                f"groups must have different names. Received: {text!r} twice. Pass a "
                "dictionary of them by name."
            )
        found[text] = [Element(*acts, g) for g in range(group.order)]
    return found


def _holm(p_values: np.ndarray, trivial: np.ndarray) -> np.ndarray:
    """p-values adjusted by Holm over those that test something."""
    adjusted = p_values.copy()
    tested = np.flatnonzero(~trivial & ~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    factors = len(order) - np.arange(len(order))
    raised = np.maximum.accumulate(p_values[order] * factors)
    adjusted[order] = np.minimum(raised, 1.0)
    return adjusted


def _least(orders: np.ndarray, count: int, samples: int) -> float:
    """The least p-value that one of several candidates can have after Holm.

    A draw of elements for n samples is the identity throughout once in |G|ⁿ.
    """
    floors = [max(1 / (1 + samples), float(order) ** -count) for order in orders]
    return min(1.0, len(floors) * min(floors)) if floors else 0.0


def _varies(losses: np.ndarray) -> bool:
    """Whether the loss of some sample differs between elements, above rounding."""
    spread = np.abs(losses - losses[:, :1]).max()
    return bool(spread > ROUNDING * np.sqrt(np.mean(losses**2)))
