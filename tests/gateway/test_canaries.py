"""No identifier of a person lies anywhere: a search for known ones in everything that a gateway writes or sends."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from tests.gateway.canaries import Search, canaries, run


def test_the_search_finds_every_form_of_a_canary() -> None:
    """Else its silence would say nothing."""
    birds = canaries(14)
    look = Search(birds)
    for bird in birds:
        raw = bird.raw.encode()
        for hidden in (
            raw, bird.normal.encode(), raw.hex().encode(), base64.b64encode(b'{"member":"' + raw + b'"}'),
            hashlib.md5(raw).digest(), hashlib.sha256(raw).hexdigest().encode(), hashlib.sha256(raw).digest(),
            base64.b64encode(hashlib.sha256(bird.normal.encode()).digest()),
        ):  # fmt: skip
            assert look.hits("here", b"\x01\x02" + hidden + b"\x03"), (bird.scheme, hidden)
    assert not look.hits("here", b"nothing of anybody " * 100)


def test_no_canary_is_found_in_database_log_backup_or_http(tmp_path: Path) -> None:
    """Every kind through every input, agreed and not, well formed and broken: zero hits in every form."""
    found = run(tmp_path, 140)
    assert found.hits == ()
    assert (
        found.subjects > 100 and found.quarantined > 500 and found.consents == 176
    )  # 70 persons, some of whom took all back
    assert found.events > 500 and found.searched_bytes > 1_000_000
