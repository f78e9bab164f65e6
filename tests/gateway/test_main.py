"""The console command: what is read without the library of the command line, and what is left to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.__main__ import main


@pytest.mark.parametrize("option", ["--config", "-c"])
def test_the_daemon_as_the_service_starts_it_carries_no_command_line(tmp_path: Path, option: str) -> None:
    """What the daemon never needs is not in its memory for years; a wrong file is told as by every command."""
    wrong = tmp_path / "gateway.toml"
    wrong.write_text("[gateway]\nstore = 7\n")
    script = (
        "import sys; from gateway.__main__ import main; "
        f"sys.argv = ['storefront', 'run', {option!r}, {str(wrong)!r}]; code = main(); "
        "print(sorted({'typer', 'pydantic', 'rich', 'numpy', 'cv2', 'sqlite_utils', 'starlette', 'uvicorn', 'jinja2', "
        "'babel', 'apscheduler', 'requests', 'biip'} & set(sys.modules))); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 78 and "gateway.store" in done.stderr
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["run", "--help"], 0), (["run", "--config"], 2), (["run", "fast"], 2)],
)
def test_any_other_way_to_write_it_is_the_command_lines(
    arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Help and mistakes look as they do at every other command."""
    monkeypatch.setattr(sys, "argv", ["storefront", *arguments])
    assert main() == code
    said = capsys.readouterr()
    assert "--config" in said.out + said.err or "run" in said.out + said.err
