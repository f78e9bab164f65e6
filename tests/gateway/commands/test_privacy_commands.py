"""`privacy report` and `privacy keys`, and that a process with persons in its memory is not dumped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from config.loader import DEMO
from gateway.commands import privacy
from gateway.shopper.sealing import key_to_text, new_key


def test_the_report_follows_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A reader for shoppers' cards needs a consent, one for the shop's own does not; a camera keeps counts."""
    config = tmp_path / "gateway.toml"
    config.write_text(
        "".join(
            f'[[devices]]\nname = "{name}"\ndriver = "rdm6300"\naddress = "/dev/x"\npersonal = {personal}\n'
            for name, personal in (("pad", "true"), ("locker", "false"))
        )
        + '[[cameras]]\nname = "door"\nsource = "synthetic:top"\n'
    )
    assert privacy.report(config, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    needs = {flow["source"]: flow["needs"] for flow in found["flows"]}
    assert needs["pad"].startswith("visits") and needs["locker"].startswith("none") and "door" in needs
    assert found["goes_to"] == [] and any("no key" in line for line in found["warnings"])
    assert privacy.report(DEMO, as_json=False) == 0
    assert "till-1 (pos_json)" in capsys.readouterr().out


def test_keys_say_which_one_seals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And end with 1 where nothing can be sealed."""
    config = tmp_path / "gateway.toml"
    head = f'[storage]\ndirectory = "{tmp_path / "state"}"\n'
    config.write_text(head)
    assert privacy.keys(config, as_json=False) == 1
    assert "only day keys" in capsys.readouterr().out
    config.write_text(f'{head}[privacy]\nseal_keys = {{ a = "{key_to_text(new_key()[1])}", b = "{"A" * 43}=" }}\n')
    assert privacy.keys(config, as_json=True) == 1  # b is the last, and no point of the curve
    capsys.readouterr()
    config.write_text(config.read_text() + 'seal_with = "a"\n')
    assert privacy.keys(config, as_json=True) == 0
    rows = json.loads(capsys.readouterr().out)["platform"]
    assert [(row["id"], row["usable"], row["seals"]) for row in rows] == [("b", False, False), ("a", True, True)]


def test_no_core_dump_of_a_gateway_is_written() -> None:
    """The kernel is told so, and says that it was."""
    program = (
        "import resource\nfrom pathlib import Path\nfrom gateway.runtime.memory import keep_memory_private\n"
        "assert keep_memory_private()\nassert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)
