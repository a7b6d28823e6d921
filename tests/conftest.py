"""What every test shares: how hypothesis searches.

Read by pytest before it collects. Fixtures of one room belong into the conftest.py of that room's folder.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Wall-clock limits fail on a busy machine and while numba compiles, which says nothing about the code under test.
settings.register_profile(
    "deterministic", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
# pytest --hypothesis-profile=explore: other examples on each run, and more of them.
settings.register_profile("explore", settings.get_profile("deterministic"), derandomize=False, max_examples=2_000)
# The examples of the default, then more of them, the same on each run: what slow tests use.
settings.register_profile("thorough", settings.get_profile("deterministic"), max_examples=1_000)
settings.load_profile("deterministic")
