"""Random crops and flips, paired between runs of one seed."""

from __future__ import annotations

import numpy as np

# Pixels of the padding: four of 32, as the authors', and as much of other sizes.
_PART = 8
# Keeps the draws apart from those of the order of the batches.
_STREAM = 1


def crop_and_flip(
    images: np.ndarray, chosen: np.ndarray, seed: int, epoch: int
) -> np.ndarray:
    """Some images, each moved by up to an eighth of its size and perhaps mirrored.

    As the authors do it for CIFAR: four pixels of zeros all around (two of images of 16
    pixels), a random window of the old size, and a horizontal flip with probability
    one half. The images here are standardised, so that zero is the mean colour; padding
    before that would be black. What is drawn for an image depends on the seed, the
    epoch and its number, and on nothing else.

    Args:
        images: All training images, `(n, height, width, channels)`.
        chosen: Numbers of the images wanted, `(batch,)`.
        seed: Seed of the run.
        epoch: Epoch, from 0.

    Returns:
        New images, `(batch, height, width, channels)`.
    """
    generator = np.random.default_rng((seed, epoch, _STREAM))
    padding = images.shape[1] // _PART
    starts = generator.integers(0, 2 * padding + 1, (len(images), 2))[chosen]
    flipped = generator.integers(0, 2, len(images))[chosen]
    height, width = images.shape[1:3]
    rows = starts[:, :1] + np.arange(height)
    columns = np.arange(width)
    columns = np.where(flipped[:, None] == 1, columns[::-1], columns)
    columns = starts[:, 1:] + columns
    border = (padding, padding)
    padded = np.pad(images[chosen], ((0, 0), border, border, (0, 0)))
    batch = np.arange(len(chosen))[:, None, None]
    return padded[batch, rows[:, :, None], columns[:, None, :]]


def pooled(images: np.ndarray, size: int) -> np.ndarray:
    """Means over squares of `size` pixels.

    Args:
        images: `(n, height, width, channels)`.
        size: Divides height and width.

    Returns:
        `(n, height / size, width / size, channels)`.

    Raises:
        ValueError: If it does not divide them.
    """
    if images.ndim != 4 or images.shape[1] % size or images.shape[2] % size:
        raise ValueError(
            "pool must divide the height and width of images (n, height, width, "
            f"channels). Received: pool={size}, data of shape {images.shape}. Pass a "
            "divisor, or None to leave them as they are."
        )
    count, height, width, channels = images.shape
    squares = (count, height // size, size, width // size, size, channels)
    return images.reshape(squares).mean((2, 4), dtype=np.float32)
