"""Confirms: every message once, in order, with its own fate, and none before its commit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hopd.broker.confirms import Confirm, Confirms

#: One thing that happens: a message (accepted, durable), the journal handed over, or a batch committed.
STEPS = st.lists(st.one_of(st.tuples(st.booleans(), st.booleans()), st.sampled_from(["submit", "commit"])), max_size=40)


def told(confirms: Confirms, committed: int, since: int) -> list[tuple[int, bool]]:
    """Each message of which something was said, with what."""
    said: list[tuple[int, bool]] = []
    for tag, multiple, accepted in confirms.take(committed):
        first = since + len(said) + 1 if multiple else tag
        said += [(number, accepted) for number in range(first, tag + 1)]
    return said


@given(STEPS)
def test_every_message_is_told_once_in_order_and_not_before_its_commit(steps: list[tuple[bool, bool] | str]) -> None:
    confirms = Confirms()
    fates: list[bool] = []
    durable_of_batch: list[tuple[int, int]] = []  # the last durable message of each batch
    last_durable = batch = committed = 0
    said: list[tuple[int, bool]] = []
    for step in [*steps, "submit", "commit"]:
        if step == "submit":
            batch += 1
            durable_of_batch.append((batch, last_durable))
        elif step == "commit":
            committed = batch
        elif not isinstance(step, str):
            accepted, durable = step
            fates.append(accepted)
            last_durable = len(fates) if durable else last_durable
            confirms.published(accepted=accepted, durable=durable)
            continue
        confirms.seal(batch)
        said += told(confirms, committed, len(said))
        may_be_told = next((tag for number, tag in durable_of_batch if number > committed and tag > len(said)), None)
        assert may_be_told is None or len(said) < may_be_told

    assert said == list(enumerate(fates, 1))
    assert not confirms.waiting


def test_a_run_is_told_as_one() -> None:
    confirms = Confirms()
    for accepted in (True, True, False, True):
        confirms.published(accepted=accepted, durable=False)

    assert list(confirms.take(0)) == [Confirm(2, True, True), Confirm(3, False, False), Confirm(4, False, True)]


def test_what_was_published_during_a_commit_waits_for_the_next() -> None:
    confirms = Confirms()
    confirms.published(accepted=True, durable=True)
    confirms.seal(1)
    confirms.published(accepted=True, durable=True)

    assert list(confirms.take(1)) == [Confirm(1, False, True)]
    confirms.seal(2)
    assert list(confirms.take(1)) == []
    assert list(confirms.take(2)) == [Confirm(2, False, True)]


def test_what_needs_no_disk_does_not_overtake_what_does() -> None:
    confirms = Confirms()
    confirms.published(accepted=True, durable=True)
    confirms.published(accepted=False, durable=False)
    confirms.seal(1)

    assert list(confirms.take(0)) == []
    assert list(confirms.take(1)) == [Confirm(1, False, True), Confirm(2, False, False)]
