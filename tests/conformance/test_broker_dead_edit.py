"""What every broker promises of editing dead letters, and of how long they stay; with each adapter of conftest.py."""

import msgspec
from making import FREE, QUEUE, Advance, Join, body, bury, dead, fetch, number_of, submit
from places import FullBroker

from headrace.engine.broker.port import Submission
from headrace.jobs.codec import EnvelopeOptions
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


def test_a_letter_is_found_under_its_callers_id(broker: FullBroker, join: Join) -> None:
    """While the record of a dead job is kept, its caller's own id stands for it wherever its letter is asked for."""
    worker = join("w1")
    for number, caller_id in enumerate(("mine", "other", "third")):
        packed = body(number, EnvelopeOptions(id=caller_id))
        broker.publish(QUEUE, [Submission(packed, caller_id=caller_id)], "", FREE)
    leases = fetch(worker)
    ids = [lease.job_id for lease in leases]
    worker.settle([
        msgspec.structs.replace(dead(lease), caller_id=name)
        for lease, name in zip(leases, ("mine", "other", "third"), strict=True)
    ])  # fmt: skip
    found = broker.dead_letter(f"{QUEUE}:mine")
    assert found is not None
    assert ids[0] == found.id
    assert 2 == broker.dead_retry(["mine", ids[0], f"{QUEUE}:other", "nobody"])
    assert 1 == broker.dead_drop(["third", "mine", "nobody"])
    assert [] == broker.dead(QUEUE, "", 10)[0]


def test_letters_that_cannot_be_read_stand_in_nobodys_way(broker: FullBroker, join: Join) -> None:
    """A letter of another version is listed and shown with its bytes; retrying leaves it, and takes the others."""
    worker, job_ids = join("w1"), submit(broker, 3)
    for lease in fetch(worker):
        odd = lease.job_id == job_ids[1]
        worker.settle([msgspec.structs.replace(dead(lease), letter=b"\x00") if odd else dead(lease)])
    assert job_ids[::-1] == [letter.id for letter in broker.dead(QUEUE, "", 10)[0]]
    found = broker.dead_letter(job_ids[1])
    assert found is not None
    assert (b"\x00", QUEUE, True) == (found.body, found.queue, "unreadable" in found.error)
    assert not broker.dead_edit(found)
    assert 2 == broker.dead_retry(job_ids)
    assert 1 == broker.dead_drop(job_ids)
