"""What every broker promises to whoever exports the oldest dead letters; with each adapter of conftest.py."""

import pytest
from making import FREE, QUEUE, Advance, Join, body, bury, dead, fetch, letter, take
from places import FullBroker

from headrace.config import limits
from headrace.engine.broker.port import Submission
from headrace.jobs.disposition import pack_letter, unpack_letter
from headrace.jobs.editing import edited


def beyond(broker: FullBroker, keep: int, who: str = "w1") -> list[str]:
    """Return the ids of the letters beyond `keep`."""
    return [found.id for found in broker.dead_beyond([QUEUE], keep, who)]


def test_the_oldest_beyond_the_bound_come_first(broker: FullBroker, join: Join, advance: Advance) -> None:
    """Of five letters where two may stay the three oldest come, in the order of their deaths, byte by byte."""
    worker = join("w1")
    ids: list[str] = []
    for count in (3, 2):
        ids += bury(broker, worker, count)
        advance(0.01)
    found = broker.dead_beyond(["empty", QUEUE], 2, "w1")
    assert [(QUEUE, job_id) for job_id in ids[:3]] == [(each.queue, each.id) for each in found]
    assert [broker.dead_letter(job_id) for job_id in ids[:3]] == [unpack_letter(each.data) for each in found]
    assert [] == broker.dead_beyond([QUEUE], 5, "w1")
    assert 5 == broker.queues([QUEUE])[0].dead


def test_what_is_removed_is_gone_and_the_rest_stays(broker: FullBroker, join: Join) -> None:
    """Removed letters are neither listed, counted nor found, and cannot be retried; a second removal finds none."""
    ids = bury(broker, join("w1"), 5)
    found = broker.dead_beyond([QUEUE], 2, "w1")
    assert [True] * 3 == broker.dead_remove(found)
    assert [False] * 3 == broker.dead_remove(found)
    assert ids[:2:-1] == [each.id for each in broker.dead(QUEUE, "", 10)[0]]
    assert (2, None, 0) == (broker.queues([QUEUE])[0].dead, broker.dead_letter(ids[0]), broker.dead_retry(ids[:3]))
    assert [] == broker.dead_remove([])


def test_only_what_was_read_is_removed(broker: FullBroker, join: Join) -> None:
    """What was edited, retried, or died again since it was read, is not removed."""
    worker = join("w1")
    changed, again, retried, same = bury(broker, worker, 4)
    found = broker.dead_beyond([QUEUE], 0, "w1")
    before = broker.dead_letter(changed)
    assert before is not None
    assert broker.dead_edit(edited(before, [41], {}, now_ms=5))
    assert 2 == broker.dead_retry([again, retried])
    for lease in take(worker, 2):
        if lease.job_id == again:
            worker.settle([dead(lease, packed=body(2))])
    assert [False, False, False, True] == broker.dead_remove(found)
    assert {changed, again} == {each.id for each in broker.dead(QUEUE, "", 10)[0]}
    assert broker.dead_letter(same) is None


def test_one_exports_at_a_time(
    broker: FullBroker, join: Join, monkeypatch: pytest.MonkeyPatch, advance: Advance
) -> None:
    """While one worker exports, others are told of no letters; of all again once it has not asked for a while."""
    monkeypatch.setattr(limits, "DEAD_CLAIM_S", 0.15)
    ids = bury(broker, join("w1"), 3)
    assert ids == beyond(broker, 0)
    assert [] == beyond(broker, 0, "w2")
    assert ids == beyond(broker, 0)
    advance(0.2)
    assert ids == beyond(broker, 0, "w2")
    assert [] == beyond(broker, 0)


def test_letters_come_in_bounded_batches(broker: FullBroker, join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than so many letters come at a time, and no more than so many bytes, but always one."""
    ids = bury(broker, join("w1"), 5)
    monkeypatch.setattr(limits, "DEAD_EXPORT_COUNT", 3)
    assert ids[:3] == beyond(broker, 0)
    size_bytes = len(pack_letter(letter(ids[0], body(0))))
    monkeypatch.setattr(limits, "DEAD_EXPORT_BYTES", 2 * size_bytes + 5)
    assert ids[:2] == beyond(broker, 0)
    monkeypatch.setattr(limits, "DEAD_EXPORT_BYTES", 1)
    assert ids[:1] == beyond(broker, 0)


def test_letters_whose_time_is_over_are_no_letters(broker: FullBroker, join: Join, advance: Advance) -> None:
    """What has expired is not exported, and does not count."""
    worker = join("w1")
    for each in (broker, worker):
        each.dead_ttl_s = 0.1
    bury(broker, worker, 3)
    advance(0.15)
    (job_id,) = bury(broker, worker)
    assert [] == beyond(broker, 1)
    assert [job_id] == beyond(broker, 0)


def test_letters_that_cannot_be_read_are_exported_too(broker: FullBroker, join: Join) -> None:
    """The bytes of a letter of another version come as they are, and are removed by them."""
    worker = join("w1")
    broker.publish(QUEUE, [Submission(body(1))], "", FREE)
    (lease,) = fetch(worker)
    settled = dead(lease)
    worker.settle([type(settled)(lease, settled.kind, letter=b"from another time")])
    found = broker.dead_beyond([QUEUE], 0, "w1")
    assert [(lease.job_id, b"from another time")] == [(each.id, each.data) for each in found]
    assert [True] == broker.dead_remove(found)
    assert 0 == broker.queues([QUEUE])[0].dead
