"""Applications that the API is mounted in, for servers that run them as processes of their own.

HOST_APP names the one that a process serves. Each but `lone` mounts the API at /headrace; those that have a lifespan
have an answer of their own at /own, and work on the jobs themselves.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from headrace import Engine

engine = Engine(os.environ["HOST_BROKER"], drain_timeout=5)


@engine.job
async def add(a: int, b: int) -> int:
    """Sum."""
    return a + b


@engine.job
async def fail(row: str = "") -> str:
    """Fail, until it is told a row."""
    if not row:
        raise ValueError("no such row")
    return row


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[None]:
    """The host's lifespan: workers beside the requests."""
    async with engine.running():
        yield


def starlette() -> Any:
    """Starlette, whose mounted applications hear nothing of its life."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    async def own(request: Any) -> PlainTextResponse:
        return PlainTextResponse("own")

    return Starlette(routes=[Route("/own", own), Mount("/headrace", engine.asgi())], lifespan=running)


def fastapi() -> Any:
    """FastAPI."""
    from fastapi import FastAPI

    app = FastAPI(lifespan=running)

    @app.get("/own")
    async def own() -> str:
        return "own"

    app.mount("/headrace", engine.asgi())
    return app


def litestar() -> Any:
    """Litestar, in which the API is a Litestar application inside another."""
    from litestar import Litestar, asgi, get

    @get("/own")
    async def own() -> str:
        return "own"

    mounted = asgi("/headrace", is_mount=True, copy_scope=True)(_function(engine.asgi()))
    return Litestar([own, mounted], lifespan=[running])


def _function(app: Any) -> Any:
    async def headrace(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return headrace


def lone() -> Any:
    """The API alone, which the server itself tells of its life."""
    return engine.asgi()


def lazy() -> Any:
    """Starlette without a lifespan: the API opens at the first request and closes with the process."""
    from starlette.applications import Starlette
    from starlette.routing import Mount

    return Starlette(routes=[Mount("/headrace", engine.asgi())])


app = globals()[os.environ["HOST_APP"]]()
