"""ProcessRunner: runs plain functions in warm child processes, one call a child at a time.

A cancelled slot ends its child (SIGTERM, then SIGKILL) and goes on only when the process is gone, so never more than
`slots` of them run handlers. A child that dies takes only its own job with it, as JobCrashed. Children are started when
needed, kept, and all ended when the runner is left: no process, socket or zombie stays behind. Arguments and results
cross as msgpack; nothing is pickled. The runner's own loop owns all state here.
"""

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
import msgspec

from headrace.config.limits import MESSAGE_MAX_BYTES
from headrace.jobs.errors import JobCrashed, PayloadTooLarge
from headrace.jobs.outcome import Failure
from headrace.workers.runner import Invocation, RemoteFailure

from .children import Child, ChildDied
from .frames import Call, FrameTooLarge, Reply, ReplyKind, UnpackableResult, pack_frame
from .targets import target_of

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from headrace.jobs.handler import HandlerPlan

_NIL: Final = msgspec.Raw(b"\xc0")
_encode = msgspec.msgpack.Encoder().encode


class ProcessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How children are kept.

    Attributes:
        kill_grace_s: Seconds between SIGTERM and SIGKILL: time for `finally` blocks, and short beside any timeout.
        warm_count: Children started when the runner is entered; the others start when needed.
        calls_max_count: Calls after which a child is replaced, against handlers that leak memory; 0 for never.
        frame_max_bytes: The most that a call's arguments or a result may take, packed.
    """

    kill_grace_s: float = 2.0
    warm_count: int = 0
    calls_max_count: int = 0
    frame_max_bytes: int = MESSAGE_MAX_BYTES


_DEFAULTS: Final = ProcessSettings()


class ProcessRunner:
    """Runs plain functions in at most `slots` child processes.

    Args:
        slots: Children at most; a call beyond that waits for a free one.
        settings: How children are kept.
    """

    name: str = "process"
    stops_on_cancel: bool = True

    def __init__(self, slots: int, settings: ProcessSettings = _DEFAULTS) -> None:
        self._slots: Final = slots
        self._settings: Final = settings
        self._children: Final[set[Child]] = set()
        self._idle: Final[list[Child]] = []
        self._free: anyio.Semaphore | None = None
        self._group: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._free = anyio.Semaphore(self._slots, fast_acquire=True)
        self._group = await anyio.create_task_group().__aenter__()
        try:
            for _ in range(min(self._settings.warm_count, self._slots)):
                self._idle.append(self._start())
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        group, self._group = self._group, None
        self._idle.clear()
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as ending:
                for child in self._children:
                    ending.start_soon(child.end, self._settings.kill_grace_s)
            for child in list(self._children):
                self._drop(child)
        if group is not None:
            # Without the error: it is not the group's, which would wrap it. The watches have ended with their children.
            await group.__aexit__(None, None, None)

    @property
    def pids(self) -> list[int]:
        """Process ids of the children there are, busy or idle."""
        return sorted(child.pid for child in self._children)

    @property
    def running(self) -> int:
        """Children that run a handler now."""
        return len(self._children) - len(self._idle)

    def bind(self, plan: "HandlerPlan") -> Invocation:
        """Return an async callable that runs the handler's function in a child.

        It returns the result as msgspec.Raw, packed. It raises RemoteFailure for what the handler raised, JobCrashed
        when the child died, UnpackableResult, InvalidArguments and PayloadTooLarge.

        Raises:
            ConfigError: a child could not find the function by module and name.
        """
        target = msgspec.Raw(_encode(target_of(plan)))
        wants_context = plan.wants_context
        arguments = plan.arguments
        name = plan.name

        async def invoke(*args: Any, **kwargs: Any) -> msgspec.Raw:
            info, note = _NIL, _ignore
            if wants_context:
                context, args = args[0], args[1:]
                info, note = msgspec.Raw(_encode(context.info)), context.progress
            packed_args, packed_kwargs = arguments.pack(args, kwargs)
            call = Call(target, msgspec.Raw(packed_args), msgspec.Raw(packed_kwargs), info)
            try:
                frame = pack_frame(call, self._settings.frame_max_bytes)
            except FrameTooLarge as error:
                raise PayloadTooLarge(f"{name}(): the arguments are too large: {error}; send a reference") from None
            return _value_of(await self._run(frame, name, note), name)

        return invoke

    async def _run(self, frame: bytes, name: str, note: Callable[[float, float | None], None]) -> Reply:
        if self._free is None:
            raise RuntimeError("the process runner is used before `async with`; a defect of its owner")
        async with self._free:
            child = self._take()
            try:
                reply = await child.call(frame, note)
            except ChildDied:
                await child.reap(self._settings.kill_grace_s)
                self._replace(child)
                raise JobCrashed(_crash_message(name, child)) from None
            except BaseException:
                await child.end(self._settings.kill_grace_s)
                self._replace(child)
                raise
            self._keep(child)
            return reply

    def _take(self) -> Child:
        while self._idle:
            child = self._idle.pop()
            if child.alive:
                return child
            self._drop(child)  # died while idle, and its watch has not seen it yet
        return self._start()

    def _keep(self, child: Child) -> None:
        bound = self._settings.calls_max_count
        if self._group is None or child not in self._children:
            return  # the runner is being left, and ends it
        if bound and child.calls_count >= bound:
            self._group.start_soon(self._retire, child)
        else:
            self._idle.append(child)

    async def _retire(self, child: Child) -> None:
        await child.end(self._settings.kill_grace_s)
        self._drop(child)

    def _start(self) -> Child:
        if self._group is None:
            raise RuntimeError("the process runner was left while a job was to start; a defect of its owner")
        child = Child(self._settings.frame_max_bytes)
        self._children.add(child)
        self._group.start_soon(self._watch, child)
        return child

    def _replace(self, child: Child) -> None:
        """Let go of a child that has ended; have the next one start while nobody waits for it."""
        self._drop(child)
        # Where one died before it was up, the next would as well: then only a job that needs one starts it.
        if self._group is None or not child.ready:
            return
        try:
            self._idle.append(self._start())
        except OSError:
            return  # out of memory or descriptors for now: the next job tries again, and says so if it fails

    async def _watch(self, child: Child) -> None:
        await child.watch()
        if child in self._idle:
            self._drop(child)  # busy ones are dropped by the slot that reads from them

    def _drop(self, child: Child) -> None:
        self._children.discard(child)
        if child in self._idle:
            self._idle.remove(child)
        child.close()


def _ignore(_done: float, _total: float | None) -> None:
    """Take note of nothing: a handler without a Context says nothing."""


def _value_of(reply: Reply, name: str) -> msgspec.Raw:
    if reply.kind is ReplyKind.VALUE:
        return reply.payload
    if reply.kind is ReplyKind.FAILURE:
        raise RemoteFailure(msgspec.msgpack.decode(reply.payload, type=Failure))
    reason = msgspec.msgpack.decode(reply.payload, type=str)
    raise UnpackableResult(f"what {name}() returned cannot be sent back: {reason}; return plain data, or a reference")


def _crash_message(name: str, child: Child) -> str:
    how = child.describe_exit()
    if not child.ready:
        return (
            f"the process that was to run {name}() {how} before it was ready; see what it printed, and whether "
            f"`python -m headrace.workers.runners.child` starts in this environment"
        )
    return f"the process that ran {name}() {how}; other jobs are not affected, and it was replaced"
