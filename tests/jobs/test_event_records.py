"""What is promised of events as data: batches come back as they were packed, and cursors name a row."""

import pytest

from headrace.engine.broker.port import Lease, Source
from headrace.jobs.codec import Malformed
from headrace.jobs.cursor import TEXT_MAX_CHARS, Cursor
from headrace.jobs.disposition import Disposition, Kind
from headrace.jobs.errors import InvalidArguments
from headrace.jobs.events import (
    KINDS,
    ended_ids,
    event_of,
    events_of,
    pack,
    pack_jobs,
    pack_notice,
    pack_plain,
    pack_settled,
    pieces_of_jobs,
    unpack,
)
from headrace.jobs.states import ENDED, State

SOURCE = Source("mail", "w:1")


def settled(number: int, kind: Kind, **more: object) -> Disposition:
    """Make what settles the job mail:NUMBER-0."""
    return Disposition(Lease(SOURCE, f"{number}-0".encode(), b""), kind, name="send", **more)  # type: ignore[arg-type]


def test_a_settled_batch_comes_back_as_events() -> None:
    """Each settled job is one event with its id, handler, try and reason; what was given back is none."""
    moved = Disposition(Lease(SOURCE, b"9-9", b"", moved_id="mail:4-d0"), Kind.DEAD, name="post", reason="failed")
    batch = [
        settled(1, Kind.DONE),
        settled(2, Kind.DONE, ended_as=State.CANCELLED),
        settled(3, Kind.RETRY, attempt=2),
        moved,
        settled(5, Kind.RETURN),
    ]
    events = events_of("mail", "77-3", unpack(pack_settled("mail", "w:1", batch)), skip=0, cursor=None)
    assert [
        ("job.succeeded", "mail:1-0", "send", 1, ""),
        ("job.cancelled", "mail:2-0", "send", 1, ""),
        ("job.retrying", "mail:3-0", "send", 2, ""),
        ("job.dead", "mail:4-d0", "post", 1, "failed"),
    ] == [(each.kind, each.id, each.name, each.attempt, each.reason) for each in events]
    assert {("mail", 77, "w:1", "")} == {(each.queue, each.at_ms, each.worker, each.cursor) for each in events}
    assert event_of(moved, 77) == events[3]


def test_the_short_way_packs_the_same() -> None:
    """Jobs that are done under their first entries are packed the short way into the same bytes, alike or not."""
    for names in (["a", "a", "a"], ["a", "b", "a"]):
        batch = [Disposition(Lease(SOURCE, b"7-%d" % n, b""), Kind.DONE, name=name) for n, name in enumerate(names)]
        assert pack_settled("mail", "w:1", batch) == pack_plain("w:1", [each.lease.entry for each in batch], batch)


def test_a_batch_of_plain_successes_is_little_more_than_its_ids() -> None:
    """A thousand jobs of one handler take some twenty bytes each, as their entries do."""
    batch = [Disposition(Lease(SOURCE, b"1795406593154-%d" % n, b""), Kind.DONE, name="send") for n in range(1000)]
    assert 21_000 > len(pack_settled("mail", "w:1", batch))


def test_every_final_state_has_a_kind() -> None:
    """Whoever waits is told of every state in which a job can end, and of no other."""
    ids = [str(code).encode() for code in range(len(KINDS))]
    batch = unpack(pack("w", ids, [""] * len(KINDS), list(range(len(KINDS))), [0] * len(KINDS), [""] * len(KINDS)))
    assert {f"job.{state}" for state in ENDED} == {KINDS[int(each)] for each in ended_ids(batch)}
    assert [b"1-0", b"2-0"] == ended_ids(unpack(pack_jobs("job.cancelled", ["mail:1-0", "mail:2-0"])))
    assert [] == ended_ids(unpack(pack_notice("queue.paused")))


def test_a_notice_is_about_no_job() -> None:
    """What a worker or a queue does is an event without a job."""
    (event,) = events_of("mail", "5-0", unpack(pack_notice("worker.started", "w1")), skip=0, cursor=None)
    assert ("worker.started", "", "", 0, "w1") == (event.kind, event.id, event.name, event.attempt, event.worker)


def test_kinds_of_a_newer_version_are_left_out() -> None:
    """A code that this version does not know hides no other event."""
    data = pack("w", [b"1-0", b"2-0"], ["a", "a"], [len(KINDS), 0], [1, 1], ["", ""])
    assert ["mail:2-0"] == [each.id for each in events_of("mail", "5-0", unpack(data), skip=0, cursor=None)]


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93\x01\xa1w\x90", pack("w", [b"1-0"], ["a", "b"], [0], [1], [""])])
def test_what_is_no_batch_is_malformed(data: bytes) -> None:
    """Bytes that somebody else wrote raise Malformed, and nothing else."""
    with pytest.raises(Malformed):
        unpack(data)


def test_a_cursor_names_the_row_behind_which_to_go_on() -> None:
    """From each event's cursor on come exactly the events behind it, within a batch too, in all queues."""
    data = unpack(pack_jobs("job.cancelled", ["mail:1-0", "mail:2-0", "mail:3-0"]))
    start = Cursor({"mail": ("70-0", None), "other": ("9-1", None)})
    events = events_of("mail", "77-0", data, skip=0, cursor=start)
    for seen, event in enumerate(events, 1):
        cursor = Cursor.parse(event.cursor)
        assert "9-1" == cursor.read_from("other")
        if seen < 3:
            assert "76-18446744073709551615" == cursor.read_from("mail")
            rest = events_of("mail", "77-0", data, skip=cursor.skip("mail", "77-0"), cursor=start)
            assert events[seen:] == rest
        else:
            assert "77-0" == cursor.read_from("mail")


def test_the_beginning_is_before_all_entries() -> None:
    """The cursor "0" reads every queue from its start."""
    assert ("0-0", 0) == (Cursor.parse("0").read_from("mail"), Cursor.parse("0").skip("mail", "1-0"))


def test_a_cursors_text_is_bounded_and_leaves_nothing_out() -> None:
    """With many queues those that moved last are named, and the others are read from a time before what was read."""
    cursor = Cursor()
    for number in range(1_000):
        cursor.move(f"{number:04d}{'q' * 96}", f"{20_000 + number}-0")
        cursor.read_until(20_000 + number)
    cursor.move("busy", "30000-1", 4)
    assert len(cursor.text) <= TEXT_MAX_CHARS
    assert len(f"busy=30000-1.4{cursor.behind('busy')}") <= TEXT_MAX_CHARS
    for text in (cursor.text, f"busy=30000-1.4{cursor.behind('busy')}"):
        again = Cursor.parse(text)
        assert (5, f"{20_999}-0") == (again.skip("busy", "30000-1"), again.read_from(f"0999{'q' * 96}"))
        unnamed = again.read_from("new")
        assert (unnamed, unnamed) == ("10998-18446744073709551615", again.read_from(f"0000{'q' * 96}"))
        again.move("new", "40000-0")
        assert unnamed == Cursor.parse(again.text).read_from("other")
    timeless = Cursor({f"{number}{'q' * 96}": ("5-0", None) for number in range(200)})
    assert "0-0" == Cursor.parse(timeless.text).read_from("new")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "mail",
        "mail=",
        "mail=1",
        "mail=1-",
        "mail=1-2.",
        "mail=a-b",
        "=1-2",
        "a=1-2,",
        "ALL@",
        "ALL@x",
        "a=1-\u00b2",
    ],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    """A text that no event had as its cursor raises InvalidArguments that says what to use."""
    with pytest.raises(InvalidArguments, match="cursor"):
        Cursor.parse(text)


@pytest.mark.parametrize(("count", "header"), [
    (0, b"\x90"), (1, b"\x91"), (15, b"\x9f"), (16, b"\xdc\x00\x10"), (500, b"\xdc\x01\xf4"),
])  # fmt: skip
def test_the_pieces_of_a_batch_are_its_bytes(count: int, header: bytes) -> None:
    """What comes before the list of ids, the list's header, the packed ids and the rest are what pack_jobs makes."""
    job_ids = [f"mail:{number}-d{number}" for number in range(count)]
    pieces = pieces_of_jobs("job.cancelled", job_ids)
    assert pack_jobs("job.cancelled", job_ids) == pieces.head + header + b"".join(pieces.ids) + pieces.tail
