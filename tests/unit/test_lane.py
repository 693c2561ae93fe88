"""Which suspect may start when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hopd.amqp.wire import Delivery
from hopd.engine.lane import ALONE, PATIENCE, Lane, Suspect
from hopd.engine.poison import JobKey, Record


def suspect(name: str = "a", topic: str = "emails", deaths: int = 0, crashes: int = 0) -> Suspect:
    return Suspect(JobKey(topic, name), Delivery(1, 1, True, b"", b"", b""), Record(crashes, deaths, 0.0))


def anywhere(_topic: str) -> bool:
    return True


def lane_with(*suspects: Suspect) -> Lane:
    lane = Lane()
    for one in suspects:
        lane.add(one)
    return lane


def test_they_run_one_at_a_time_in_the_order_in_which_they_came() -> None:
    first, second = suspect("a"), suspect("b")
    lane = lane_with(first, second)
    # Given the first under way
    assert lane.next(0.0, anywhere) is first
    assert lane.begun(first, 0.0)
    # Then the second has to wait until it has ended
    assert lane.next(0.01, anywhere) is None
    lane.ended(first)
    assert lane.next(0.01, anywhere) is second


def test_a_long_one_lets_others_start_beside_it() -> None:
    long, second = suspect("a"), suspect("b")
    lane = lane_with(long, second)
    lane.next(0.0, anywhere)
    lane.begun(long, 1.0)
    assert lane.next(0.99 + PATIENCE, anywhere) is None
    assert lane.next(1.01 + PATIENCE, anywhere) is second
    # And then the one that started beside it is not to blame alone
    assert not lane.begun(second, 1.01 + PATIENCE)


def test_each_death_that_a_job_was_at_makes_it_wait_longer_for_others_and_others_for_it() -> None:
    for known, new in ((suspect("a", deaths=1), suspect("b")), (suspect("a"), suspect("b", deaths=1))):
        lane = lane_with(known)
        lane.next(0.0, anywhere)
        lane.begun(known, 0.0)
        lane.add(new)
        assert lane.next(PATIENCE * 9.9, anywhere) is None
        assert lane.next(PATIENCE * 10.1, anywhere) is new


def test_one_that_hangs_does_not_hold_up_the_others_for_ever_and_is_not_blamed_for_them() -> None:
    hanging, killer = suspect("a", deaths=20), suspect("b", deaths=20)
    lane = lane_with(hanging, killer)
    lane.next(0.0, anywhere)
    lane.begun(hanging, 0.0)
    assert lane.next(ALONE - 0.1, anywhere) is None
    assert lane.next(ALONE + 0.1, anywhere) is killer
    assert lane.begun(killer, ALONE + 0.1)


def test_those_that_were_at_the_fewest_deaths_go_first() -> None:
    twice, never, once = suspect("a", deaths=2), suspect("b"), suspect("c", deaths=1)
    lane = lane_with(twice, never, once)
    order = []
    while (following := lane.next(0.0, anywhere)) is not None:
        order.append(following)
        lane.ended(following)
    assert order == [never, once, twice]


def test_there_is_one_lane_for_all_topics() -> None:
    lane = lane_with(suspect("a", "emails"), suspect("b", "invoices"))
    assert lane.next(0.0, anywhere) is not None
    assert lane.next(0.0, anywhere) is None


def test_a_topic_whose_workers_are_all_busy_holds_up_nobody() -> None:
    busy, free = suspect("a", "emails"), suspect("b", "invoices")
    lane = lane_with(busy, free)
    assert lane.next(0.0, lambda topic: topic == "invoices") is free
    lane.ended(free)
    assert lane.next(0.0, lambda topic: topic == "invoices") is None
    assert lane.next(0.0, anywhere) is busy


def test_a_topic_that_is_cleared_keeps_only_what_runs() -> None:
    running, handed, waiting, other = suspect("a"), suspect("b"), suspect("c"), suspect("d", "invoices")
    lane = lane_with(running)
    lane.next(0.0, anywhere)
    lane.begun(running, 0.0)
    lane.add(handed)
    assert lane.next(PATIENCE, anywhere) is handed
    lane.add(waiting)
    lane.add(other)
    assert lane.clear("emails") == [waiting]
    assert lane.under_way("emails")
    assert lane.waiting("emails") == 0
    assert lane.waiting("invoices") == 1
    # And what was handed over and did not begin holds up nobody
    assert lane.next(PATIENCE, anywhere) is other


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 100), st.floats(0, 0.05)), min_size=1, max_size=30))
def test_every_suspect_runs_however_long_each_takes(runs: list[tuple[int, float, float]]) -> None:
    """And as long as each is quicker than anybody's patience, always alone."""
    durations = {suspect(str(number), deaths=deaths): (long, short) for number, (deaths, long, short) in enumerate(runs)}
    for kind in (0, 1):
        lane, now, ends, ran = lane_with(*durations), 0.0, dict[Suspect, float](), 0
        while ran < len(durations):
            for one in [one for one, end in ends.items() if end <= now]:
                lane.ended(one)
                del ends[one]
            following = lane.next(now, anywhere)
            if following is None:
                now += 0.05
                continue
            assert kind == 0 or not ends
            lane.begun(following, now)
            ends[following] = now + durations[following][kind]
            ran += 1
        assert lane.idle
