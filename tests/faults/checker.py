"""The checker: compares what producers were told with what handlers did, as multisets over job ids.

    lost        acknowledged, and neither done nor given up:            must be empty once the queues are
    unexpected  ran, and nobody submitted them:                         must be empty
    recovered   ran, although the submission was never acknowledged:    allowed
    excess      started more often than once and than the faults allow: must be empty

A fault allows one more start of each job that it may have caught: those which its victim had started and not settled,
at most its slots and the outcomes that it had in hand. Done is what the journal says, never what the server says.
`leftovers` looks at what a scenario leaves in the server: keys, consumers, connections.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import redis
from journal import Journal

from headrace.engine.redisio.keys import TABLE

#: What PTTL says of a key that is not there: its time was over before it was asked about.
GONE = -2
#: States in which the server has given up on a job for a reason that it recorded.
GIVEN_UP = frozenset({"dead", "cancelled", "expired"})


class Fault(NamedTuple):
    """Something that was done to a process, or to all.

    Attributes:
        size: The journal's size when it was over: what happened later it did not catch.
        pid: Whom it hit; 0 for everybody, as when the server dies.
    """

    size: int
    pid: int = 0


class Report(NamedTuple):
    """What a scenario did to the jobs.

    Attributes:
        lost, unexpected, recovered, excess: Job ids; see above.
        duplicates: Starts beyond the first, by job id.
        faults: How many faults there were.
        bound: How many duplicates those allow in all.
        acknowledged: How many submissions were.
    """

    lost: tuple[str, ...]
    unexpected: tuple[str, ...]
    recovered: tuple[str, ...]
    excess: tuple[str, ...]
    duplicates: Mapping[str, int]
    faults: int
    bound: int
    acknowledged: int

    @property
    def duplicate_count(self) -> int:
        """Starts beyond the first, of all jobs."""
        return sum(self.duplicates.values())

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.unexpected or self.excess or self.duplicate_count > self.bound)

    def insist(self, seed: object) -> None:
        """Fail unless every promise was kept; name the seed and the jobs."""
        print(f"seed {seed}: {self}")
        assert self.is_clean, f"seed {seed}: {self}"
        assert self.acknowledged > 0

    def __str__(self) -> str:
        counts = f"{self.acknowledged} acknowledged, {self.faults} faults"
        named = {name: getattr(self, name) for name in ("lost", "unexpected", "excess", "recovered")}
        found = [f"{len(ids)} {name}: {', '.join(ids[:10])}" for name, ids in named.items() if ids]
        return "; ".join([counts, f"{self.duplicate_count} duplicates (<= {self.bound})", *found])


def check(journal: Journal, states: Mapping[str, str], faults: Sequence[Fault] = (), in_hand: int = 0) -> Report:
    """Compare.

    Args:
        journal: Where producers noted `try NUMBER` and `ok ID NUMBER`, and handlers `start ID NUMBER` and `end ID`.
        states: What the server says of jobs that are in no journal as done: given up, or still on their way.
        faults: What was done.
        in_hand: Slots of a worker and outcomes that it may hold unsettled.
    """
    acknowledged = {line.subject: line.words[0] for line in journal.lines("ok")}
    tried = {line.subject for line in journal.lines("try")}
    starts = Counter(line.subject for line in journal.lines("start"))
    number_of = {line.subject: line.words[0] for line in journal.lines("start")}
    done = {line.subject for line in journal.lines("end")}
    given_up = {job for job in acknowledged if states.get(job) in GIVEN_UP}
    strangers = [job for job in starts if job not in acknowledged]
    answered = set(acknowledged.values())
    recovered = {job for job in strangers if number_of[job] in tried - answered}
    allowed = Counter(job for fault in faults for job in caught(journal, fault, in_hand))
    duplicates = {job: count - 1 for job, count in starts.items() if count > 1}
    return Report(
        lost=_sorted(acknowledged.keys() - done - given_up),
        unexpected=_sorted(set(strangers) - recovered),
        recovered=_sorted(recovered),
        excess=_sorted(job for job, count in duplicates.items() if count > allowed[job]),
        duplicates=duplicates,
        faults=len(faults),
        bound=len(faults) * in_hand,
        acknowledged=len(acknowledged),
    )


def caught(journal: Journal, fault: Fault, in_hand: int) -> set[str]:
    """Return the jobs that a fault may have caught running or unsettled: the last ones that each victim started."""
    started: dict[int, list[str]] = {}
    for line in journal.lines("start", fault.pid, fault.size):
        started.setdefault(line.pid, []).append(line.subject)
    return {job for jobs in started.values() for job in jobs[-in_hand:]}


def leftovers(client: redis.Redis, *, workers: int) -> list[str]:
    """Return what should not be in the server any more, in words.

    Args:
        client: Of the server.
        workers: How many are registered now.
    """
    found = []
    patterns = [(_pattern(rule.name), rule) for rule in TABLE]
    for batch in batched(client.scan_iter(count=1_000), 1_000):
        with client.pipeline(transaction=False) as pipeline:
            for key in batch:
                pipeline.pttl(key)
            times_ms = pipeline.execute()
        for key, left_ms in zip(batch, times_ms, strict=True):
            rows = [rule for pattern, rule in patterns if pattern.fullmatch(key.decode())]
            if len(rows) != 1:
                found.append(f"{key.decode()} has {len(rows)} rows in the table of keys")
            elif left_ms != GONE and rows[0].expires != (left_ms >= 0):
                found.append(f"{key.decode()} should {'' if rows[0].expires else 'not '}expire")
    consumers = [entry["name"].decode() for entry in client.xinfo_consumers("headrace:{default}:jobs", "headrace")]
    registered = [member.decode() for member in client.zrange("headrace:{default}:workers", 0, -1)]
    if len(registered) != workers:
        found.append(f"{registered} are registered, which should be {workers}")
    found += [f"consumer {name} is nobody's" for name in consumers if name not in [*registered, "returned"]]
    return found


def connections(client: redis.Redis) -> int:
    """Return how many connections of ours come by TCP, as the processes' do and the test's own do not."""
    ours = [each for each in client.client_list() if each["name"].startswith("headrace:")]
    return sum(1 for each in ours if each["addr"].startswith("127.0.0.1:"))


def batched(keys: Iterable[bytes], count: int) -> Iterator[list[bytes]]:
    """Yield keys in lists of so many."""
    left = iter(keys)
    while batch := list(islice(left, count)):
        yield batch


def _pattern(name: str) -> re.Pattern[str]:
    text = re.escape(name.format(namespace="headrace"))
    return re.compile(re.sub(r"[A-Z]{2,}", ".+", text.replace(r"\{Q\}", r"\{[^{}]+\}")))


def _sorted(jobs: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(jobs))
