"""The help and the documents name the commands that there are."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from gateway.cli import SECTIONS, app

_ROOT = Path(__file__).resolve().parents[3]
_COMMAND = typer.main.get_command(app)


def _commands() -> dict[str, object]:
    return {name: command for name, command in vars(_COMMAND)["commands"].items() if not command.hidden}


def test_each_command_stands_in_one_section_of_the_help() -> None:
    """A command that was added and not put anywhere would stand before the sections, without a heading."""
    listed = [name for names in SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(_commands())
    assert [name for name in _COMMAND.list_commands(None) if name in listed] == listed  # type: ignore[attr-defined, arg-type]


def test_no_help_loses_words_to_markup() -> None:
    """The help is rendered as markup: a table of the configuration written in brackets would vanish from it."""

    def texts(command: object) -> list[str]:
        inner = [text for one in getattr(command, "commands", {}).values() for text in texts(one)]
        parts = [command, *vars(command)["params"]]
        return [getattr(part, "help", None) or "" for part in parts] + inner

    assert not [text for text in texts(_COMMAND) if re.search(r"\[[a-z/]+(\.[a-z]+)*\]", text)]


def test_the_documents_name_every_command_and_no_other() -> None:
    """README's table has each; what documents show after `storefront` exists."""
    readme = (_ROOT / "README.md").read_text("utf-8")
    table = readme[readme.index("## Commands") : readme.index("## For developers")]
    missing = [name for name in _commands() if not re.search(rf"`(storefront )?{name}\b", table)]
    assert not missing
    documents = [_ROOT / "README.md", _ROOT / "systemd" / "README.md", *(_ROOT / "docs").glob("*.md")]
    shown = {
        (path.name, name)
        for path in documents
        for name in re.findall(r"(?:^|`|/)storefront ([a-z][a-z-]+)\b", path.read_text("utf-8"), re.MULTILINE)
    }
    assert shown
    assert not [one for one in sorted(shown) if one[1] not in _commands()]
