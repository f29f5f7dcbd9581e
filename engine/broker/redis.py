"""The broker on a Redis or Valkey server: the whole port, by Streams and Lua scripts, a round trip for each batch.

It promises what port.py says, by the rules beside each script in redisio/lua/. Every verb is for
any thread, but one `fetch` at a time: `fetch` has a connection of its own, `settle`, `promote` and registering share
another, `renew` has a third, so that nothing delays it. No I/O before the first verb. A forked child may publish and
look, over connections of its own.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from redis.exceptions import OutOfMemoryError, ResponseError

from headrace.config import limits
from headrace.config.logs import logger
from headrace.jobs.disposition import Disposition
from headrace.jobs.errors import BrokerUnavailable
from headrace.jobs.events import pack_notice

from ..observe.seldom import Seldom
from ..redisio.address import parse_address
from ..redisio.connections import BLOCK_MAX_S, Command, Wire, Wires, raise_first
from ..redisio.faults import unavailable
from ..redisio.keys import GROUP, RETURNED, Keys
from ..redisio.scripts import run, script
from .events import tell
from .port import (
    NO_CAUTION,
    NO_PACE,
    NO_PACES,
    Bound,
    Caution,
    Lease,
    Pace,
    Registration,
    Source,
    Submission,
    tell_nobody,
)
from .redis_control import RedisControl
from .redis_entries import lease_of, leases_of
from .redis_events import RedisEvents
from .redis_policy import QUESTIONS, check_policy
from .redis_publishing import command_for, ids_in, refusal
from .redis_settling import calls_for, entries_of, exchanges_of
from .redis_standing import Hold, Standing, awake_s, is_before, last_delivered, sweep_of

seldom = Seldom(logger("headrace.redis"))

#: How often, and how long apart, `interrupt` asks the server while the reader is on its way there.
_INTERRUPT_TRIES, _INTERRUPT_PAUSE_S = 3, 0.0005
#: How long a `fetch` that may not fetch takes, until the worker is registered anew.
_REVOKED_PAUSE_S: Final = 0.05


class RedisBroker(RedisControl):
    """Broker and BrokerViews on a server.

    Args:
        url: redis://, rediss:// or unix://.
        namespace: What all keys begin with.
        revive: Called when the server cannot be reached, before a second try.
    """

    max_payload_bytes: int = limits.MAX_PAYLOAD_BYTES

    def __init__(self, url: str, *, namespace: str = "headrace", revive: Callable[[], None] | None = None) -> None:
        self._address = msgspec.structs.replace(parse_address(url), revive=revive)
        self.url = self._address.url
        self._keys = Keys(namespace)
        self._any = Wires(self._address, "any")
        super().__init__(self._any, self._address, self._keys)
        self.events = RedisEvents(self._any, self._address, self._keys)
        self._reader = Wire(self._address, "reader", blocks=True)
        self._writer = Wire(self._address, "writer")
        self._lease = Wire(self._address, "lease")
        self._epoch = 0
        self._standing: Standing | None = None
        self._claiming = threading.Lock()
        self._noting = threading.Lock()
        self._sweeping = False
        self._find_lost_at_s = 0.0
        self._waiting = False
        self._interrupted = False
        self.on_queues_lost: Callable[[Sequence[str]], None] = tell_nobody

    def publish(self, queue: str, jobs: Sequence[Submission], token: str, bound: Bound) -> list[str]:
        """Add a batch, all or none, and return the ids in order; see Broker."""
        if not jobs:
            return []
        commands = [command_for(self._keys, queue, jobs, token, bound), (b"SADD", self._keys.queues, queue)]
        try:
            answer, _ = run(self._any, commands)
        except BrokerUnavailable:
            if not token:
                raise
            answer, _ = run(self._any, commands)  # the token sees to it that nothing is added twice
        if isinstance(answer, bytes):
            return ids_in(answer.decode(), queue, len(jobs))
        raise refusal(answer, self._address, queue, jobs, bound)

    def register(self, registration: Registration) -> None:
        """Enter this worker as a reader; called again, it starts a new epoch and what the old one holds is orphaned.

        Raises:
            ConfigError: the server's settings would lose jobs; looked at the first time only.
        """
        before = self._standing.member if self._standing else ""
        self._epoch += 1
        member = f"{registration.worker}:{self._epoch}"
        queues = {queue: Hold(Source(queue, member)) for queue in registration.queues}
        standing = Standing(member, round(registration.lease_s * 1000), queues)
        # Connected and taught before the clock is read: over a slow network that takes longer than a short lease.
        teach: list[Command] = [(b"SCRIPT", b"LOAD", script(name).text) for name in ("register", "renew")]
        if self._standing is None:
            check_policy(self._lease.exchange([*QUESTIONS, *teach]), self.url)
        else:
            self._lease.exchange(teach)
        asked_s = awake_s()
        self._enter(self._lease, standing, before)
        standing.renewed(asked_s)
        self._find_lost_at_s = time.monotonic() + registration.lease_s / 3
        self._standing = standing

    def renew(self) -> bool:
        """Keep the registration; False when it was revoked meanwhile."""
        standing = self._stand("renew")
        if standing.term.lapsed:
            return False
        renew, asked_s = script("renew"), awake_s()
        replies = run(
            self._lease,
            [renew.call((self._keys.of(q).workers,), standing.member, standing.lease_ms) for q in standing.queues],
        )
        raise_first(replies, self._address)
        if all(replies):
            standing.renewed(asked_s)
        else:
            standing.term.lapsed = True
        # One that was replaced meanwhile is nobody's loss.
        return not standing.term.lapsed or standing is not self._standing

    def unregister(self) -> None:
        """Leave; jobs that are still held are orphaned, for others to recover."""
        standing = self._standing
        if standing is None:
            return
        leave = script("unregister")
        every = [self._keys.of(queue) for queue in standing.queues]
        self._standing = msgspec.structs.replace(standing, left=True)
        replies = run(self._writer, [leave.call((keys.workers, keys.jobs), standing.member, GROUP) for keys in every])
        raise_first(replies, self._address)

    def fetch(self, rooms: Mapping[str, int], wait_s: float) -> list[Lease]:
        """Return up to `rooms[queue]` jobs of each queue; see Broker."""
        standing = self._stand("fetch")
        if standing.left:
            return []
        if not self._stands(standing):
            time.sleep(min(wait_s, _REVOKED_PAUSE_S))
            return []
        self._interrupted = False
        self._waiting = wait_s > 0
        try:
            if time.monotonic() >= self._find_lost_at_s and (leases := self._find_lost(standing, rooms)):
                return self._unless_lapsed(standing, leases)
            return self._unless_lapsed(standing, self._fetch(standing, rooms, wait_s))
        except BrokerUnavailable:
            self._find_lost_at_s = 0.0  # the reply may have been lost with jobs in it
            raise
        finally:
            self._waiting = False

    def interrupt(self) -> None:
        """End a waiting `fetch` early, from any thread; harmless when none waits."""
        for _ in range(_INTERRUPT_TRIES):
            if not self._waiting:
                return
            self._interrupted = True
            with contextlib.suppress(BrokerUnavailable):  # then the reader's own connection fails too, and it returns
                if self._any.exchange([(b"CLIENT", b"UNBLOCK", self._reader.client_id)])[0] == 1:
                    return
            time.sleep(_INTERRUPT_PAUSE_S)

    def listen(self, wake: Callable[[], None]) -> None:
        """Do nothing: `fetch` waits at the server."""

    def recover(self, rooms: Mapping[str, int], caution: Caution = NO_CAUTION) -> list[Lease]:
        """Take over what dead workers left and what was given back; see Broker."""
        standing = self._stand("recover")
        if standing.left or not self._stands(standing):
            return []
        with self._claiming:
            self._sweeping = True
            sweeps = [
                sweep_of(self._keys.of(queue), standing, queue, min(room, limits.FETCH_BATCH_MAX_COUNT), caution)
                for queue, room in rooms.items()
            ]
            try:
                leases = self._take(standing, rooms, run(self._any, sweeps))
            finally:
                self._sweeping = False
            for queue in rooms:
                hold = standing.queues[queue]
                hold.sweep += 1
                hold.settled.clear()
        return self._unless_lapsed(standing, leases)

    def settle(self, dispositions: Sequence[Disposition]) -> int:
        """Carry out what was decided; return how many were refused as no longer ours."""
        calls = calls_for(self._keys, dispositions, round(self.dead_ttl_s * 1000))
        # Rare: something was taken over.
        holds = [hold for hold in self._standing.queues.values() if hold.taken] if self._standing else []
        going = [(hold, *entries_of(hold.source, dispositions)) for hold in holds]
        for hold, _, back in going:
            with self._noting:  # a sweep may bring it once more before this has its answer
                hold.returning.update([entry for entry in back if entry in hold.taken])
        replies: list[Any] = []
        for part in exchanges_of(calls):
            replies += run(self._writer, part)
        raise_first(replies, self._address)
        for hold, ended, back in going:
            with self._noting:
                if self._sweeping:  # it may bring what has ended here meanwhile; not what was given back
                    hold.settled.update(ended)
                hold.let_go(ended, back)
        return sum([count for (_, count), reply in zip(calls, replies, strict=True) if reply == -1])

    def promote(self, queues: Iterable[str], paces: Mapping[str, Pace] = NO_PACES) -> float | None:
        """Move jobs that are due to their queues; return when to call again; see Broker."""
        move, most = script("promote"), limits.PROMOTE_BATCH_MAX_COUNT
        every = [(self._keys.of(queue), paces.get(queue, NO_PACE)) for queue in queues]
        calls = [
            move.call(
                (of.jobs, of.delayed, of.bodies, of.index, of.meta), most, pace.ahead, pace.least, GROUP, RETURNED
            )
            for of, pace in every
        ]
        replies = run(self._writer, calls)
        raise_first(replies, self._address)
        waits_s = [
            pace.again_s if held else next_ms / 1000
            for (_, pace), (held, next_ms) in zip(every, replies, strict=True)
            if next_ms >= 0
        ]
        return min(waits_s, default=None)

    def close(self) -> None:
        """Let go of connections; safe to call twice."""
        self.events.close()
        for wire in (self._reader, self._writer, self._lease, self._any):
            wire.close()

    def _stand(self, verb: str) -> Standing:
        if self._standing is None:
            raise RuntimeError(f"{verb} was called before register; register this worker first")
        return self._standing

    def _stands(self, standing: Standing) -> bool:
        """Return whether a registration stands; where that is in doubt by the worker's own clock, the server says."""
        if standing is self._standing and not standing.is_current and not standing.term.lapsed:
            self.renew()
        return standing is self._standing and not standing.term.lapsed

    def _unless_lapsed(self, standing: Standing, leases: list[Lease]) -> list[Lease]:
        """Return leases, unless they came so late that others may have taken the jobs: after a suspended process, say.

        The server is asked whether they have. Where it cannot be, the registration has lapsed for good, and what it
        holds goes to whoever sweeps first.
        """
        if not leases:
            return leases
        try:
            stands = self._stands(standing)
        except BrokerUnavailable:
            stands = False
        standing.term.lapsed |= not stands
        return leases if stands else []

    def _find_lost(self, standing: Standing, rooms: Mapping[str, int]) -> list[Lease]:
        """Return jobs that were delivered to this worker by a fetch whose reply did not come; asked now and then."""
        look, commands = script("find_lost"), []
        for queue, room in rooms.items():
            keys, hold = self._keys.of(queue), standing.queues[queue]
            two = (keys.workers, keys.jobs)
            commands.append(look.call(two, standing.member, GROUP, hold.last, room, *hold.taken.copy()))
        leases = self._take(standing, rooms, run(self._reader, commands))
        if not leases:  # else there may be more than there was room for
            self._find_lost_at_s = time.monotonic() + standing.lease_ms / 3000
        return leases

    def _take(self, standing: Standing, queues: Iterable[str], replies: Sequence[Any]) -> list[Lease]:
        """Note entries that came otherwise than by a fetch, and return their leases."""
        raise_first(replies, self._address)
        leases: list[Lease] = []
        for queue, reply in zip(queues, replies, strict=True):
            hold, triples = standing.queues[queue], reply or ()
            with self._noting:  # what a sweep and a search bring both at the same time comes once
                news = hold.take(triples[::3])
            each = zip(news, triples[::3], triples[1::3], triples[2::3], strict=True)
            leases += [
                lease_of(hold.source, entry, fields, count, max_bytes=self.max_payload_bytes)
                for is_new, entry, count, fields in each
                if is_new
            ]
        return leases

    def _enter(self, wire: Wire, standing: Standing, before: str) -> list[str]:
        """Enter a registration in all its queues; return those whose group was not there and is made."""
        enter = script("register")
        commands: list[Command] = [(b"SADD", self._keys.queues, *standing.queues)] if standing.queues else []
        for queue in standing.queues:
            keys = self._keys.of(queue)
            commands.append(
                enter.call((keys.workers, keys.jobs, keys.meta), standing.member, standing.lease_ms, GROUP, before)
            )
        # At maxmemory the server adds no name to the list of queues; a worker must start all the same, since only
        # workers free the memory, and a queue that has jobs is in the list.
        replies = run(wire, commands)
        raise_first(replies[1:] if replies and isinstance(replies[0], OutOfMemoryError) else replies, self._address)
        made = [queue for queue, answer in zip(standing.queues, replies[1:], strict=False) if answer == 2]
        if self._standing is not None:  # they were there when this worker first came
            self._tell_lost(made)
        return made

    def _tell_lost(self, queues: Sequence[str]) -> None:
        """Be loud about queues whose group was gone; only the worker that made it anew comes here."""
        if not queues:
            return
        seldom.error(
            "queues lost",
            queues=list(queues),
            why="their groups were gone: the server was emptied, or failed over to one that lacks them",
            then="made anew; what waited there is gone unless it is in the stream still",
        )
        tell(self.events, queues, pack_notice("queue.lost"))  # whoever works here is told all the same
        self.on_queues_lost(queues)

    def _fetch(self, standing: Standing, rooms: Mapping[str, int], wait_s: float) -> list[Lease]:
        if len(rooms) > 1 or wait_s <= 0:
            for queue, room in rooms.items():
                if leases := self._read(standing, (queue,), min(room, limits.FETCH_BATCH_MAX_COUNT), 0):
                    return leases
        # COUNT is for each queue, and their rooms may be one and the same.
        room = max(1, min(*rooms.values(), limits.FETCH_BATCH_MAX_COUNT) // len(rooms)) if rooms else 0
        ends_s = time.monotonic() + wait_s
        leases = []
        while room and not leases and not self._interrupted and wait_s > 0:
            leases = self._read(standing, tuple(rooms), room, min(wait_s, BLOCK_MAX_S))
            wait_s = ends_s - time.monotonic()
        return leases

    def _read(self, standing: Standing, queues: tuple[str, ...], room: int, block_s: float) -> list[Lease]:
        """Read new entries of some queues with one command."""
        jobs = [self._keys.of(queue).jobs for queue in queues]
        block = (b"BLOCK", max(1, round(block_s * 1000))) if block_s > 0 else ()
        command: Command = (
            b"XREADGROUP", b"GROUP", GROUP, standing.member, b"COUNT", room, *block,
            b"STREAMS", *jobs, *[b">"] * len(jobs),
        )  # fmt: skip
        reply = self._reader.exchange([command], block_s)[0]
        if isinstance(reply, ResponseError):
            self._mend(reply, standing)
            reply = self._reader.exchange([command], block_s)[0]
            raise_first([reply], self._address)
        leases: list[Lease] = []
        for stream, entries in reply or ():
            hold = standing.queues[queues[jobs.index(stream)]]
            hold.last = entries[-1][0]
            leases += leases_of(hold.source, entries, self.max_payload_bytes)
        return leases

    def _mend(self, error: ResponseError, standing: Standing) -> None:
        """Make lost groups anew; raise any other error. A stream was deleted, or the server emptied."""
        if not str(error).startswith(("NOGROUP", "UNBLOCKED")):
            raise unavailable(error, self._address) from error
        # Whatever was pending in them went with them, so this registration can settle nothing that it should not. What
        # is in hand of the other queues stays known, or the search for lost replies would bring it once more.
        lost = set(self._enter(self._reader, standing, ""))
        ask: list[Command] = [(b"XINFO", b"GROUPS", self._keys.of(queue).jobs) for queue in standing.queues]
        for queue, groups in zip(standing.queues, self._reader.exchange(ask), strict=True):
            hold = standing.queues[queue]
            if queue in lost or is_before(last_delivered(groups), hold.last):  # another worker was first to make it
                hold.forget()


if TYPE_CHECKING:
    from .control import OpenBroker

    _fills_all_ports: type[OpenBroker] = RedisBroker
