"""What every broker promises of editing dead letters, and of how long they stay; with each adapter of conftest.py."""

import msgspec
from making import QUEUE, Advance, Join, bury, fetch, number_of
from places import FullBroker

from headrace.jobs.editing import edited


def test_an_edited_letter_takes_the_place_of_the_old_one(broker: FullBroker, join: Join) -> None:
    """The letter has the new job and the old one, is at its place in the list, and is what runs when it is retried."""
    worker = join("w1")
    first, second, third = bury(broker, worker, 3)
    before = broker.dead_letter(second)
    assert before is not None
    changed = edited(before, [41], {}, now_ms=5)
    assert broker.dead_edit(changed)
    assert [third, second, first] == [letter.id for letter in broker.dead(QUEUE, "", 10)[0]]
    assert changed == broker.dead_letter(second)
    assert (before.body, 5, 41) == (changed.original, changed.edited_at_ms, number_of(changed.body))
    assert 1 == broker.dead_retry([second])
    assert [(second, 41)] == [(lease.job_id, number_of(lease.body)) for lease in fetch(worker)]


def test_a_letter_that_is_gone_is_not_edited(broker: FullBroker, join: Join) -> None:
    """What was retried or dropped meanwhile stays so, and a later death of the same job keeps its own letter."""
    worker = join("w1")
    (job_id,) = bury(broker, worker)
    letter = broker.dead_letter(job_id)
    assert letter is not None
    changed = edited(letter, [41], {}, now_ms=5)
    other = msgspec.structs.replace(changed, died_at_ms=letter.died_at_ms - 1)
    assert not broker.dead_edit(other)
    assert letter == broker.dead_letter(job_id)
    broker.dead_retry([job_id])
    assert not broker.dead_edit(changed)
    assert broker.dead_letter(job_id) is None
    assert not broker.dead_edit(msgspec.structs.replace(changed, id="nonsense"))


def test_editing_twice_keeps_what_died(broker: FullBroker, join: Join, advance: Advance) -> None:
    """However often a letter is edited, the job that died stays in it."""
    (job_id,) = bury(broker, join("w1"))
    for number in (1, 2):
        letter = broker.dead_letter(job_id)
        assert letter is not None
        assert broker.dead_edit(edited(letter, [number * 100], {}, now_ms=number))
    found = broker.dead_letter(job_id)
    assert found is not None
    assert isinstance(found.original, bytes)
    assert (0, 200, 2) == (number_of(found.original), number_of(found.body), found.edited_at_ms)


def test_letters_are_kept_for_the_setting(broker: FullBroker, join: Join, advance: Advance) -> None:
    """A letter is there for dead_ttl after the death, edited or not; then it is neither listed, counted nor found."""
    worker = join("w1")
    for each in (broker, worker):
        each.dead_ttl_s = 0.1
    first, second = bury(broker, worker, 2)
    letter = broker.dead_letter(first)
    assert letter is not None
    assert broker.dead_edit(edited(letter, [41], {}, now_ms=5))
    assert 2 == broker.queues([QUEUE])[0].dead
    advance(0.15)
    assert [None, None] == [broker.dead_letter(job_id) for job_id in (first, second)]
    assert ([], "") == broker.dead(QUEUE, "", 10)
    assert 0 == broker.queues([QUEUE])[0].dead
