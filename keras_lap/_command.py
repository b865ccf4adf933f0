"""What the commands of the package, ``python -m keras_lap...``, say of themselves."""

from __future__ import annotations

import argparse


def parser(prog: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser whose `--help` is the docstring of the command's module.

    Args:
        prog: How the command is called.
        doc: The docstring: a first line that ends before a colon, and the rest.
    """
    summary, _, rest = (doc or "").partition("\n\n")
    return argparse.ArgumentParser(
        prog=prog,
        description=summary.partition(":")[0] + ".",
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
