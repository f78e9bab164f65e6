"""What all tests share: reproducible examples, and where the real data lies."""

from __future__ import annotations

from hypothesis import settings

# The same examples in every run, on every machine. To look further: --hypothesis-profile=search.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=2000, deadline=None)
settings.load_profile("same")
