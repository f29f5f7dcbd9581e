"""Binding: the pools that a worker's handlers need, and each handler with what runs it and what holds for its jobs.

Made once at the start: whatever the settings say for handlers that do not say it themselves is worked out here, and the
decoders of their arguments are compiled. No state.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from headrace.config import limits
from headrace.config.settings import Settings
from headrace.jobs.handler import HandlerPlan
from headrace.workers.context import NoteProgress
from headrace.workers.runner import Invocation
from headrace.workers.runners.process import ProcessRunner

from ..sinks.port import Sink
from .assignment import BoundHandler, Middleware, Terms
from .dispatcher import Dispatcher
from .gatherer import Gathering, GatheringDispatcher


def dispatcher_for(plans: Iterable[HandlerPlan], settings: Settings, sinks: Sequence[Sink]) -> Dispatcher:
    """Return a dispatcher with the pools that the handlers need."""
    every = tuple(plans)
    kind = GatheringDispatcher if any(plan.options.batch for plan in every) else Dispatcher
    dispatcher = kind(
        settings.slots, backlog=limits.SETTLE_BACKLOG_MAX_COUNT, sinks=sinks, thread_slots=settings.thread_slots
    )
    if any(plan.runner == "process" for plan in every):
        slots = settings.process_slots_resolved
        dispatcher.add_runner(ProcessRunner(slots), slots)
    return dispatcher


def gathering_of(handlers: Mapping[str, BoundHandler], dispatcher: Dispatcher, ttl_s: float) -> Gathering | None:
    """Return what gathers jobs for calls that take several, for `ttl_s` at most; None where no handler does."""
    if not any(bound.batch for bound in handlers.values()):
        return None
    return Gathering(handlers.values(), dispatcher.pools, ttl_s)


def bound_handlers(
    plans: Iterable[HandlerPlan],
    settings: Settings,
    invocation_of: Callable[[HandlerPlan], Invocation],
    *,
    middleware: tuple[Middleware, ...],
    get_state: Callable[[], Any],
    note_progress: NoteProgress,
) -> Iterator[tuple[str, BoundHandler]]:
    """Yield each handler's names and what they stand for.

    Args:
        plans: The handlers.
        settings: Says what they do not.
        invocation_of: Returns what runs a handler.
        middleware: What wraps each job, the outermost first.
        get_state: Returns what the lifespan yielded.
        note_progress: Takes what jobs say of how far they are.
    """
    for plan in plans:
        plan.arguments.compile()
        options = plan.options
        timeout_s = options.timeout_s if options.timeout_s is not None else settings.timeout_for(plan.runner)
        ttl_s = options.result_ttl_s if options.result_ttl_s is not None else settings.result_ttl_s
        bound = BoundHandler(
            plan,
            invocation_of(plan),
            terms=Terms(
                timeout_s=timeout_s,
                ttl_ms=round(ttl_s * 1000),
                max_deliveries=options.max_deliveries or settings.max_deliveries,
            ),
            middleware=middleware,
            get_state=get_state,
            note_progress=note_progress,
        )
        for name in (plan.name, *options.aliases):
            yield name, bound
