"""Binding: each handler of a worker with what runs it and what holds for its jobs, by name and alias.

Made once at the start: whatever the settings say for handlers that do not say it themselves is worked out here, and the
decoders of their arguments are compiled. No state.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from headrace.config.settings import Settings
from headrace.jobs.handler import HandlerPlan
from headrace.workers.context import NoteProgress
from headrace.workers.runner import Invocation

from .assignment import BoundHandler, Middleware, Terms


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
