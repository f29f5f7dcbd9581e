"""Entries that are larger than this worker takes: by a plain XADD, or submitted when max_payload was larger."""

import pytest

from headrace.engine.broker.port import Lease, Source
from headrace.engine.broker.redis_entries import lease_of
from headrace.engine.loops.assigner import Assigner
from headrace.engine.loops.assignment import Unread
from headrace.jobs import codec
from headrace.jobs.codec import EnvelopeOptions, pack_envelope, unpack_envelope
from headrace.jobs.outcome import Outcome

SOURCE = Source("q", "w")
ENTRY = b"1700000000000-0"
MAX_BYTES = 1000


def unread(lease: Lease) -> Unread:
    """Return what an assigner without handlers, and without any grace, makes of a lease."""
    put: list[Outcome] = []
    assert {} == Assigner({}, 0, MAX_BYTES, put.append).assign([lease])
    (outcome,) = put
    assert isinstance(outcome.work, Unread)
    return outcome.work


def test_a_job_that_is_too_large_is_given_up_with_its_size() -> None:
    """What no submission here would have let in is a dead letter that says both sizes; it is not even looked up."""
    found = unread(Lease(SOURCE, ENTRY, pack_envelope("add", b"\x91\xc5\x10\x00" + b"x" * 4096), starts=2))
    assert ("too_large", "add", 0) == (found.reason, found.label, found.delay_ms)
    assert "takes 4,1" in found.error
    assert "max_payload is 1,000" in found.error


@pytest.mark.parametrize(
    "body", [b"\xc1" * 2000, b"\x95\x01\xdb\xff\xff\xff\xff" + b"x" * 2000], ids=["rubbish", "lie"]
)
def test_too_large_comes_before_unreadable(body: bytes) -> None:
    """Rubbish that is too large is told by its size, without a name."""
    found = unread(Lease(SOURCE, ENTRY, body))
    assert ("too_large", "") == (found.reason, found.label)


def test_counters_make_no_job_too_large() -> None:
    """A job that was let in at the bound is still run when the most that headrace adds to it has been added."""
    most = codec.COUNT_MAX
    counted = EnvelopeOptions(attempt=most, deliveries=most, interruptions=most, starts=most, unknown_since_ms=2**53)
    body = pack_envelope("add", b"\x91\xc5" + (980).to_bytes(2, "big") + b"x" * 980)
    assert 990 < len(body) <= MAX_BYTES
    again = codec.repack(unpack_envelope(body), counted)
    assert len(again) > MAX_BYTES
    assert "unknown_handler" == unread(Lease(SOURCE, ENTRY, again)).reason


def test_plain_fields_are_measured_before_they_are_read() -> None:
    """JSON that could not be as small as it must be when packed is kept as it came, and never parsed."""
    lease = lease_of(SOURCE, ENTRY, [b"name", b"add", b"args", b"[" + b"[]," * 3000 + b"[]]"], max_bytes=MAX_BYTES)
    assert "9,0" in (lease.problem or "")
    assert ("too_large", "") == (unread(lease).reason, unread(lease).label)
    assert lease_of(SOURCE, ENTRY, [b"name", b"add", b"args", b"[1]"], max_bytes=MAX_BYTES).problem is None


def test_a_letter_of_plain_fields_can_be_retried() -> None:
    """Raw plain fields become the job that they say once it may be read; what says none stays as it is."""
    lease = lease_of(SOURCE, ENTRY, [b"name", b"add", b"args", b"[1]"], max_bytes=1)
    assert lease.problem is not None
    assert pack_envelope("add", b"\x91\x01") == codec.as_new(lease.body)
    wrong = lease_of(SOURCE, ENTRY, [b"nmae", b"add"])
    assert wrong.body == codec.as_new(wrong.body)


def test_an_endless_first_id_is_no_id() -> None:
    """A field `i` that is longer than any job's id makes the entry malformed, under the entry's own id."""
    lease = lease_of(SOURCE, ENTRY, [b"m", pack_envelope("add"), b"i", b"q:" + b"1" * 300])
    assert f"q:{ENTRY.decode()}" == lease.job_id
    assert "malformed" == unread(lease).reason
