"""`bench`: run the project's benchmarks. They are part of a checkout, not of the installed package.

Run as a process of their own, in the checkout, so that nothing of the daemon ever imports them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway.errors import ConfigError

_CHECKOUT = Path(__file__).resolve().parents[2]


def bench(arguments: Sequence[str], checkout: Path = _CHECKOUT) -> int:
    """Run `python -m bench` with these arguments and return its exit code.

    Raises:
        ConfigError: this is an installed package, without the benchmarks.
    """
    if not (checkout / "bench" / "__main__.py").is_file() or not (checkout / "pyproject.toml").is_file():
        raise ConfigError(
            "run benchmarks", str(checkout), "the benchmarks are not part of the installed package",
            "get a checkout of the project and type `make bench` there",
        )  # fmt: skip
    return subprocess.call([sys.executable, "-m", "bench", *arguments], cwd=checkout)  # noqa: S603 - no shell
