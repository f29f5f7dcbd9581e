"""A task group whose single error is raised as itself, so that `except BrokerUnavailable` works for whoever called us.

Several errors at once still arrive as an ExceptionGroup: none is hidden.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.abc


@asynccontextmanager
async def plain_group() -> AsyncIterator[anyio.abc.TaskGroup]:
    """Open a task group; where only one exception leaves it, that one is raised, not a group of one."""
    try:
        async with anyio.create_task_group() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise single(errors) from None


def single(error: BaseException) -> BaseException:
    """Return the one exception that a group of one holds, however deep; anything else as it is."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
