"""Edits of the configuration file change what was asked for and nothing else."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest

from config.edit import digest_of, edit, restart_needed
from config.loader import EXAMPLE, load
from config.settings import Settings
from gateway.errors import ConfigError, Rejected, Unavailable

TEXT = """# our shop
[log]
level = "info"   # as the manual says

[[devices]]      # by the door
name = "door"
driver = "rdm6300"
address = "/dev/null"

[[devices]]
name = "shelf"   # third from the left
driver = "rdm6300"
address = "/dev/null"
enabled = true   # since May
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(TEXT, "utf-8")
    path.chmod(0o640)
    return path


def test_only_the_value_changes(file: Path) -> None:
    """Comments, order and mode stay; the answer says what has changed and that nothing waits for a restart."""
    done = edit(file, {"log.level": "debug", "devices.shelf.enabled": False, "devices.door.enabled": True})
    expected = TEXT.replace('"info" ', '"debug" ').replace("enabled = true ", "enabled = false ")
    text = file.read_text("utf-8")
    assert "as the manual says" in text
    assert "since May" in text
    assert tomllib.loads(text)["devices"][1] == tomllib.loads(expected)["devices"][1]
    assert [line for line in TEXT.splitlines() if line not in text.splitlines()] == [
        'level = "info"   # as the manual says', "enabled = true   # since May",
    ]  # fmt: skip
    assert done.changed == ("log.level", "devices.shelf.enabled", "devices.door.enabled")
    assert done.restart == ()
    assert done.digest == digest_of(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [path.name for path in file.parent.iterdir()] == ["gateway.toml"]


def test_what_is_so_already_is_not_written(file: Path) -> None:
    """The same again touches nothing."""
    before = file.stat().st_mtime_ns
    assert edit(file, {"log.level": "info"}).changed == ()
    assert file.stat().st_mtime_ns == before


def test_entries_come_and_go(file: Path) -> None:
    """A table under a new name adds a device, None removes one, None at a key takes the default back."""
    new = {"name": "gate", "driver": "rdm6300", "address": "/dev/null"}
    edit(file, {"devices.gate": new, "devices.door": None, "devices.shelf.enabled": None})
    settings = load(file)
    assert [device.name for device in settings.devices] == ["shelf", "gate"]
    assert settings.devices[0].enabled
    edit(file, {"devices.gate": {**new, "zone": "out"}})
    assert load(file).devices[1].zone == "out"


def test_a_file_that_is_not_there_is_made(tmp_path: Path) -> None:
    """Readable by nobody else, with tables that were not there."""
    path = tmp_path / "new.toml"
    done = edit(path, {"page.port": 8090, "devices.a": {"name": "a", "driver": "rdm6300"}}, expected="")
    assert load(path).page.port == 8090
    assert load(path).devices[0].name == "a"
    assert done.restart == ("page",)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_somebody_was_faster(file: Path) -> None:
    """A change made for another content is refused and the file is as that somebody left it."""
    expected = digest_of(file)
    file.write_text(TEXT + "# and more\n", "utf-8")
    with pytest.raises(Rejected, match="meanwhile"):
        edit(file, {"log.level": "debug"}, expected=expected)
    assert file.read_text("utf-8").endswith("# and more\n")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"log.level": "loud"}, ConfigError), ({"log.nonsense": 1}, ConfigError), ({"nonsense.x": 1}, ConfigError),
        ({"devices.nobody.enabled": False}, Rejected), ({"": 1}, Rejected), ({"log..level": 1}, Rejected),
        ({"log.level.deep": 1}, Rejected), ({"devices.new": {"name": "other", "driver": "rdm6300"}}, Rejected),
        ({"log.level": object()}, ConfigError), ({"devices.door.name": "shelf"}, ConfigError),
        ({f"a{n}.b": 1 for n in range(201)}, Rejected),
    ],
)  # fmt: skip
def test_a_wrong_change_changes_nothing(file: Path, changes: dict[str, Any], error: type[Exception]) -> None:
    """All of a set of changes, or none; the file that is wrong after them is never written."""
    with pytest.raises(error):
        edit(file, {"devices.shelf.stale_after_s": 60.0, **changes})
    assert file.read_text("utf-8") == TEXT


def test_a_further_check_may_refuse(file: Path) -> None:
    """What the loader cannot know, the caller's check does."""

    def check(settings: Settings) -> None:
        raise ConfigError("plan", "devices", "no such driver")

    with pytest.raises(ConfigError, match="no such driver"):
        edit(file, {"log.level": "debug"}, check=check)
    assert file.read_text("utf-8") == TEXT


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """It is said, and whose fault it is."""
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises((Unavailable, ConfigError)):
        edit(tmp_path / "file" / "gateway.toml", {"log.level": "debug"})


def test_the_example_can_be_edited(tmp_path: Path) -> None:
    """Every option of the example file stays what it was, and every comment, when one changes."""
    path = tmp_path / "gateway.toml"
    path.write_bytes(EXAMPLE.read_bytes())
    before, lines = load(path), EXAMPLE.read_text("utf-8").splitlines()
    done = edit(path, {"gateway.store": "0099"})
    assert done.restart == ("gateway",) == restart_needed(before, load(path))
    after = path.read_text("utf-8").splitlines()
    assert sum(a != b for a, b in zip(lines, after, strict=True)) == 1


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    """What it points to is edited."""
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    edit(link, {"log.level": "error"})
    assert link.is_symlink()
    assert load(file).log.level == "error"
