"""Two circles on their way through two networks, plain beside least action.

Trains one network of the plane twice, with the same data, seed and optimizer: plainly,
and by least action. Writes an animation of the test points that both carry from block
to block, on one scale, and beside it a still picture of their paths for readers who
want no motion. Prints what was measured.

    python examples/animation.py                           # out/animation.gif, .png
    KERAS_BACKEND=torch python examples/animation.py --out docs/animation.gif
    python examples/animation.py --dataset moons --seed 1
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras
from keras import layers
from PIL import Image, ImageSequence

import keras_lap
from keras_lap import transport

PANEL = (2.6, 2.5)  # inches: at 150 pixels each, letters can be read on a phone
DPI = 150
COLORS = 32  # of the file: shades of two colours and of grey
REST = 1500  # milliseconds of the last frame


def parse_arguments() -> argparse.Namespace:
    """Reads the options from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--dataset", choices=["circles", "moons"], default="circles", help="points"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches")
    parser.add_argument("--blocks", type=int, default=6, help="of the network")
    parser.add_argument("--epochs", type=int, default=40, help="of each training")
    out = Path("out/animation.gif")
    parser.add_argument(
        "--out", type=Path, default=out, help="where to; the still is its .png"
    )
    return parser.parse_args()


def train(
    data: keras_lap.datasets.Dataset, least_action: bool, options: argparse.Namespace
) -> keras.Model:
    """A network whose blocks alone move the points, trained in one way."""
    keras.utils.set_random_seed(options.seed)
    inputs = state = keras.Input((2,))
    for _ in range(options.blocks):
        state = state + layers.Dense(2)(layers.Dense(16, "tanh")(state))
    network = keras.Model(inputs, layers.Dense(2)(state))
    model, callbacks = network, []
    if least_action:
        model = keras_lap.LeastActionModel(network, initial_multiplier=1.0)
        callbacks = [keras_lap.callbacks.MultiplierUpdate(tau=0.1)]
    model.compile(
        keras.optimizers.SGD(0.02, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(
        *data.train,
        batch_size=50,
        epochs=options.epochs,
        callbacks=callbacks,
        verbose=0,
    )
    return network


def shrink(path: Path) -> None:
    """Writes an animation again with few colours, and a rest at its end."""
    with Image.open(path) as picture:
        lasting = picture.info["duration"]
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(picture)]
    palette = frames[-1].quantize(COLORS)
    white = [255 if value > 250 else value for value in palette.getpalette() or []]
    palette.putpalette(white)  # as the page is
    few = [
        frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames
    ]
    durations = [lasting] * (len(few) - 1) + [REST]
    few[0].save(path, save_all=True, append_images=few[1:], duration=durations, loop=0)


def draw_paths(reports: dict[str, transport.TransportReport], path: Path) -> None:
    """Draws the paths of some points, on one scale as the animation."""
    figure = transport.plot_trajectories(reports, max_points=60)
    figure.set_size_inches(2 * PANEL[0], PANEL[1])
    for of in ("x", "y"):
        ends = [getattr(axis, f"get_{of}lim")() for axis in figure.axes]
        low, high = min(end[0] for end in ends), max(end[1] for end in ends)
        for axis in figure.axes:
            axis.set(**{f"{of}lim": (low, high)})
    figure.savefig(path, dpi=DPI)


def main() -> None:
    """Runs everything."""
    options = parse_arguments()
    data = keras_lap.datasets.load(options.dataset, train_size=500)
    reports = {}
    for name in ("plain", "least action"):
        network = train(data, name == "least action", options)
        right = network.predict(data.test.x, verbose=0).argmax(-1) == data.test.y
        reports[name] = transport.analyze(network, *data.test, verbose=0)
        print(
            f"{name}: cost of transport {reports[name].total_cost:.3g}, test accuracy "
            f"{100 * right.mean():.1f} % of {len(right)} points"
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    transport.animate(
        reports,
        options.out,
        max_points=200,
        frames_per_block=6,
        same_scale=True,
        size=PANEL,
        dpi=DPI,
    )
    shrink(options.out)
    still = options.out.with_suffix(".png")
    draw_paths(reports, still)
    print(f"{options.out} ({options.out.stat().st_size / 1000:.0f} kB), {still}")


if __name__ == "__main__":
    main()
