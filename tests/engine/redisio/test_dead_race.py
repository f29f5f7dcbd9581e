"""What is promised where two operators handle one dead letter at the same time, on a server."""

from collections.abc import Sequence

import msgspec
import pytest
from redis_scenes import Open, dead, fetch, submit

from headrace.jobs import codec
from headrace.jobs.editing import edited

pytestmark = pytest.mark.redis_core


def test_a_letter_that_is_edited_while_it_is_retried_runs_as_edited(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit that was answered between a retry's look and its deed is not lost."""
    worker, other = opened("w1"), opened()
    (job_id,) = submit(worker)
    worker.settle([dead(lease) for lease in fetch(worker)])
    look = worker._letters

    def look_slowly(job_ids: Sequence[str]) -> list[tuple[str, bytes | None]]:
        found = look(job_ids)
        letter = other.dead_letter(job_id)
        assert letter is not None
        if letter.edited_at_ms is msgspec.UNSET:
            assert other.dead_edit(edited(letter, [41], {}, now_ms=5))
        return found

    monkeypatch.setattr(worker, "_letters", look_slowly)
    assert 1 == worker.dead_retry([job_id])
    assert [[41]] == [msgspec.msgpack.decode(codec.unpack_envelope(lease.body).args) for lease in fetch(worker)]
