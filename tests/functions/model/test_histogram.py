"""Latencies in buckets: what a percentile may be wrong by, and that counting can be undone."""

from importlib import import_module
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

histogram = import_module("functions.model.histogram")

latencies = st.floats(0, histogram.COARSEST_MS)


def counted(values: list[float]) -> dict[str, int]:
    return histogram.merged({histogram.bucket_of(value): 1} for value in values)  # type: ignore[no-any-return]


@given(st.lists(latencies, min_size=1), st.sampled_from([0.0, 0.5, 0.95, 0.99, 1.0]))
def test_a_percentile_is_within_its_relative_error(values: list[float], share: float) -> None:
    exact = sorted(values)[max(1, ceil(share * len(values))) - 1]
    found = histogram.percentile(counted(values), share)
    assert abs(found - max(exact, histogram.FINEST_MS)) <= max(exact, histogram.FINEST_MS) * (
        histogram.RELATIVE_ERROR + 1e-9
    )


@given(st.lists(latencies), st.lists(latencies))
def test_histograms_are_merged(first: list[float], second: list[float]) -> None:
    assert histogram.merged([counted(first), counted(second)]) == counted(first + second)


@given(latencies)
def test_a_histogram_has_bounded_size(latency: float) -> None:
    assert 0 <= int(histogram.bucket_of(latency)) < histogram.BUCKETS < 200


def test_nothing_has_no_percentile() -> None:
    assert histogram.percentile({}, 0.95) is None
