"""Shared by every test: the two sizes a test can have, and Hypothesis profiles that follow them."""

from hypothesis import HealthCheck, settings

from tests.sizes import size

settings.register_profile(
    "reactor",
    max_examples=size(50, 1000),
    deadline=None,  # a loaded machine is not a failure
    # The reduced size gates a change, so it judges the change and not its luck; `make torture` draws new examples.
    derandomize=size(True, False),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("reactor")
