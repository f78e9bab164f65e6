"""`config.set`: what the platform may change, and how a running gateway takes it over."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.edit import digest_of
from config.loader import load
from gateway.app import Gateway
from gateway.errors import Rejected, Unavailable
from gateway.platform_commands.config_set import ConfigSet

TEXT = """[storage]
directory = "{directory}"
[broker]
mode = "none"
[page]
enabled = false
[log]
level = "warning"  # quiet
[[devices]]
name = "door"
driver = "rdm6300"
address = "/dev/null-not-there"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(TEXT.format(directory=tmp_path / "data"), "utf-8")
    return path


class Still:
    """A gateway that never takes anything over, unless it is told to be quick."""

    def __init__(self, file: Path | None, *, quick: bool) -> None:
        self.file = file
        self.settings = load(file) if file else None
        self.quick = quick
        self.accounts = self
        self.notes: list[tuple[str, str]] = []

    def note(self, act: str, subject: str) -> None:
        self.notes.append((act, subject))

    def check(self, settings: Any) -> None:
        pass

    def ask_reload(self) -> None:
        if self.quick and self.file:
            self.settings = load(self.file)


def asked(**data: Any) -> Any:
    return SimpleNamespace(id="c1", data=data)


def test_a_running_gateway_takes_it_over(file: Path) -> None:
    """The file, its comment, the log's level and the device: all as asked; the same again changes nothing."""
    gateway = Gateway(load(file), file)
    stop = threading.Event()
    level = logging.getLogger().level
    thread = threading.Thread(target=gateway.run, args=(stop,))
    thread.start()
    try:
        handler = ConfigSet(gateway)
        changes = {"log.level": "error", "devices.door.enabled": False}
        done = handler(asked(changes=changes, digest=digest_of(file)))
        assert sorted(done["changed"]) == sorted(changes)
        assert gateway.settings.log.level == "error"
        assert logging.getLogger().level == logging.ERROR
        assert not gateway.settings.devices[0].enabled
        assert "# quiet" in file.read_text("utf-8")
        assert handler(asked(changes=changes)) == {"changed": [], "digest": digest_of(file)}
    finally:
        stop.set()
        thread.join(60)
        logging.getLogger().setLevel(level)


@pytest.mark.parametrize(
    "data",
    [
        {}, {"changes": {}}, {"changes": {"platform.url": "https://evil.example"}}, {"changes": {"log": "debug"}},
        {"changes": {"log.level": "loud"}}, {"changes": {"devices.nobody.enabled": False}},
        {"changes": {"devices.door.enabled": "no"}}, {"changes": {"devices.door.stale_after_s": -1}},
        {"changes": {"devices.door.driver": "other"}}, {"changes": {"log.level": "debug"}, "digest": "0" * 64},
        {"changes": {"log.level": None}}, {"changes": {f"devices.d{n}.enabled": True for n in range(51)}},
        {"changes": {"log.level": "debug", "devices.door.enabled.x": True}}, {"change": {}},
    ],
)  # fmt: skip
def test_what_is_not_on_the_list_or_wrong_is_refused(file: Path, data: dict[str, Any]) -> None:
    """And nothing of the file changes."""
    before = file.read_bytes()
    with pytest.raises(Rejected):
        ConfigSet(Still(file, quick=True), pause=lambda _: None)(asked(**data))  # type: ignore[arg-type]
    assert file.read_bytes() == before


def test_without_a_file_there_is_nothing_to_set() -> None:
    """A gateway that runs on built-in settings says so."""
    with pytest.raises(Rejected, match="without a file"):
        ConfigSet(Still(None, quick=True))(asked(changes={"log.level": "debug"}))  # type: ignore[arg-type]


def test_a_gateway_that_does_not_answer_is_asked_again(file: Path) -> None:
    """The command is not reported done before it is; asked again it still is carried out."""
    still = Still(file, quick=False)
    command = asked(changes={"log.level": "debug"}, digest=digest_of(file))
    handler = ConfigSet(still, pause=lambda _: None)  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        handler(command)
    still.quick = True
    assert handler(command)["changed"] == []
    assert load(file).log.level == "debug"
    assert still.notes == [("config.set", "log.level")]


def test_what_is_refused_is_not_told_as_an_act_and_what_cannot_be_told_is_not_done(file: Path) -> None:
    """The audit trail says what was changed from afar, by which paths; without it nothing changes."""
    still = Still(file, quick=True)
    with pytest.raises(Rejected):
        ConfigSet(still)(asked(changes={"log.level": "loud"}))  # type: ignore[arg-type]
    assert still.notes == []

    def refuse(act: str, subject: str) -> None:
        raise Unavailable("note act", act, "too many wait")

    still.note = refuse  # type: ignore[method-assign]
    before = file.read_bytes()
    with pytest.raises(Unavailable):
        ConfigSet(still)(asked(changes={"log.level": "debug"}))  # type: ignore[arg-type]
    assert file.read_bytes() == before
