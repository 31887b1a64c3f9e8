"""What the original asserts of itself, and the test that asserts it here."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
STATEMENTS = [
    ("an unused bucket has its capacity, as of now", "test_arithmetic.py::test_an_unused_bucket_is_full"),
    (
        "30 s of 10 a minute add 5, up to the capacity",
        "test_arithmetic.py::test_30_seconds_give_back_5_and_no_more_than_fit",
    ),
    ("taking subtracts; 5 missing are 30 s", "test_arithmetic.py::test_taking_subtracts_and_a_deficit_says_how_long"),
    (
        "a window keeps value and ts, the next one refills, windowStart is the old one; 3 missing 15 s before the end",
        "test_arithmetic.py::test_a_window_keeps_value_and_begin_until_the_next_one",
    ),
    (
        "an unused window has rate, ts and windowStart",
        "test_arithmetic.py::test_the_phase_of_a_window_is_chosen_by_chance",
    ),
    (
        "the first check is ok; one update, of shard 0, to 0",
        "test_limits.py::test_the_first_request_makes_one_document",
    ),
    (
        "0 is refused for a period, without an update",
        "test_limits.py::test_without_tokens_a_request_waits_a_period_and_writes_nothing",
    ),
    ("-1 is two periods; other keys do not interfere", "test_limits.py::test_a_debt_of_one_takes_two_periods"),
    ("a capacity of 3 is a burst of 3, 4 wait a period", "test_limits.py::test_a_capacity_of_3_is_a_burst_of_3"),
    ("6 s after 5 of 10, 6 leave 0", "test_limits.py::test_six_seconds_after_taking_5_of_10_a_bucket_has_6"),
    (
        "a minute after 5 of 10, 6 leave 4; 10 are refused, and the document stays",
        "test_limits.py::test_a_minute_after_taking_5_of_10_there_are_10_again",
    ),
    (
        "16 are reserved of 6, for a minute; 5 more 30 s later",
        "test_limits.py::test_reservations_go_into_debt_one_after_the_other",
    ),
    ("100 of 1 are reserved; a plain call waits longer", "test_limits.py::test_without_a_bound_any_number_is_reserved"),
    ("with maxReserved 1, 2 are reserved", "test_limits.py::test_a_bounded_reservation_goes_as_deep_as_that"),
    (
        "count 4 with maxReserved 2 and rate 1: exceeds 3",
        "test_limits.py::test_a_count_that_can_never_be_given_is_a_mistake",
    ),
    (
        "check takes nothing, limit takes, reset restores",
        "test_limits.py::test_check_takes_nothing_limit_takes_and_reset_gives_back",
    ),
    ("shards: all have enough, one update", "test_shards.py::test_when_all_have_enough_one_is_written"),
    (
        "shards: an unbounded reservation at 0 is one update to -1",
        "test_shards.py::test_an_unbounded_reservation_of_nothing_is_written_once",
    ),
    ("the same of 3 and 4", "test_shards.py::test_a_reservation_of_nothing_comes_from_one_of_two"),
    (
        "shards: none has enough, raised",
        "test_shards.py::test_when_none_has_enough_it_is_raised_and_nothing_is_written",
    ),
    ("shards: a poor one, still ok with one update", "test_shards.py::test_a_poor_shard_is_passed_over"),
    ("shards: beyond maxReserved, no update", "test_shards.py::test_a_reservation_beyond_the_bound_is_denied"),
    ("shards: 0.5 each, two updates, no wait", "test_shards.py::test_two_halves_make_a_whole"),
    ("getValue of an unused limit is 10, with a full config", "test_hooks.py::test_an_unused_limit_has_everything"),
    ("getValue of a window has a start", "test_hooks.py::test_a_window_says_when_it_began"),
    ("getValue after 4 of 10 is 6", "test_hooks.py::test_what_was_taken_is_missing"),
    ("isRateLimitError only for that kind", "test_limits.py::test_only_that_kind_of_error_is_one"),
    (
        "hook: 8 is ok, 0 has a retryAt",
        "test_hooks.py::test_a_client_with_tokens_goes_ahead_and_one_without_knows_when",
    ),
    ("hook: skewed clocks", "test_hooks.py::test_a_client_whose_clock_is_wrong_gets_times_of_its_own_clock"),
    (
        "async: nothing is written until drained",
        "test_asynchronous.py::test_nothing_is_written_before_the_worker_has_run",
    ),
    (
        "async: four of three, then none",
        "test_asynchronous.py::test_a_burst_may_take_too_much_and_then_nobody_gets_any",
    ),
    ("async: reserve 5 of 3 is -2", "test_asynchronous.py::test_a_reservation_is_a_debt_after_draining"),
    ("async: reset is queued", "test_asynchronous.py::test_a_reset_is_queued_and_what_is_taken_behind_it_starts_fresh"),
    (
        "async: time does not go back",
        "test_asynchronous.py::test_an_update_from_before_a_reset_does_not_turn_time_back",
    ),
    ("async: keys; one write", "test_asynchronous.py::test_keys_are_separate_and_many_updates_of_one_are_one_write"),
    ("async: as of its time", "test_asynchronous.py::test_what_was_taken_counts_as_of_then"),
    ("async: bounded batches", "test_asynchronous.py::test_a_batch_is_bounded_by_what_may_be_read"),
    (
        "async: inline configs, and errors of modes",
        "test_asynchronous.py::test_a_config_for_the_other_mode_is_a_mistake",
    ),
    ("async: throws", "test_asynchronous.py::test_throwing_queues_nothing"),
]


@pytest.mark.parametrize(("statement", "test"), STATEMENTS, ids=[statement for statement, _ in STATEMENTS])
def test_the_test_of_each_statement_is_there(statement: str, test: str) -> None:
    file, _, name = test.partition("::")
    source = (FOLDER / file).read_text(encoding="utf-8")
    assert re.search(rf"^(?:async )?def {name}\(", source, re.MULTILINE)
