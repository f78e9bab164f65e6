"""What every command needs: the settings and where the data lies."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import msgspec

from config.loader import journal_path, load
from config.settings import Settings


def settings_of(config: Path | None) -> Settings:
    """The settings in the file, or the built-in ones.

    Raises:
        ConfigError: the file is wrong.
    """
    return Settings() if config is None else load(config)


def journal_of(config: Path | None) -> Path:
    """Where the journal lies, by the settings.

    Raises:
        ConfigError: the file is wrong.
    """
    return journal_path(settings_of(config))


def print_json(value: object) -> None:
    """One JSON value on one line."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def begin_logging(level: str) -> None:
    """Log to standard error, without time stamps under systemd (it adds its own)."""
    under_systemd = "JOURNAL_STREAM" in os.environ
    logging.basicConfig(
        level=level.upper(),
        format="%(levelname)s %(name)s %(message)s" if under_systemd else "%(asctime)s %(levelname)-7s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    logging.captureWarnings(capture=True)
