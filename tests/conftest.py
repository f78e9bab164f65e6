"""What all tests share: reproducible examples, and where the real data lies."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# The same examples in every run, on every machine, however busy. To look further: --hypothesis-profile=search.
_AT_LEISURE = (HealthCheck.too_slow,)
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=_AT_LEISURE)
settings.register_profile("search", max_examples=2000, deadline=None, suppress_health_check=_AT_LEISURE)
settings.load_profile("same")
