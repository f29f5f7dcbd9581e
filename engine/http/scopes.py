"""Which scope each route needs: one table, in the words of the routes, read by the gate before any route is found.

A route that is not in the table stops the application from being made, and what is no route at all needs `admin`: what
nobody thought of is closed. `admin` includes the other two; `submit` and `read` do not include each other, for ids of
jobs can be guessed, and who may add jobs need not see those of others. No state.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal

from headrace.config.tokens import Scope

#: "open": without any token, for those who look after the process and have none.
Need = Scope | Literal["open"]

#: A method and a path as the routes have them -> what it needs.
NEEDS: Final[Mapping[str, Need]] = {
    "POST /v1/jobs": "submit",
    "POST /v1/jobs/batch": "submit",
    "GET /v1/jobs": "read",
    "GET /v1/jobs/{job_id:str}": "read",
    "GET /v1/jobs/{job_id:str}/result": "read",
    "POST /v1/jobs/{job_id:str}/cancel": "admin",
    "POST /v1/jobs/{job_id:str}/retry": "admin",
    "POST /v1/results": "read",
    "GET /v1/queues": "read",
    "POST /v1/queues/{queue:str}/pause": "admin",
    "POST /v1/queues/{queue:str}/resume": "admin",
    "POST /v1/queues/{queue:str}/purge": "admin",
    "GET /v1/workers": "read",
    "GET /v1/dead": "read",
    "GET /v1/dead/{job_id:str}": "read",
    "PATCH /v1/dead/{job_id:str}": "admin",
    "DELETE /v1/dead/{job_id:str}": "admin",
    "POST /v1/dead/retry": "admin",
    "GET /v1/stats": "read",
    "GET /v1/events": "read",
    "GET /metrics": "read",
    "GET /healthz": "open",
    "GET /readyz": "open",
    "GET /openapi.json": "read",
    "GET /docs": "read",
}
#: What is no route, and any method that a route does not take.
ELSE: Final[Need] = "admin"

_SLASHES: Final = re.compile("//+")
_PARAMETER: Final = re.compile(r"\{\w+(?::\w+)?\}")


def needed(method: str, path: str) -> Need:
    """Return what a request needs.

    Args:
        method: The request's method.
        path: Its path, without what the application is mounted below.
    """
    if need := NEEDS.get(f"{method} {path}"):
        return need
    wanted = f"{method} {_plain(path)}"
    if need := NEEDS.get(wanted):
        return need
    return next((found for pattern, found in _PATTERNS if pattern.fullmatch(wanted)), ELSE)


def methods_of(path: str) -> list[str]:
    """Return the methods of the routes at a path, none where there is no route.

    Args:
        path: A request's path, without what the application is mounted below.
    """
    wanted = _plain(path)
    routes = [route.split(" ", 1) for route in NEEDS]
    own = [method for method, known in routes if known == wanted]  # as for the router, before those with parameters
    return own or [method for method, known in routes if _pattern(known).fullmatch(wanted)]


def missing(routes: Iterable[tuple[str, str]]) -> list[str]:
    """Return those methods and paths of routes that the table lacks."""
    return [route for method, path in routes if (route := f"{method} {path}") not in NEEDS]


def path_below(root_path: str, path: str) -> str:
    """Return a request's path without what the application is mounted below."""
    if root_path and path.startswith(root_path) and path[len(root_path) : len(root_path) + 1] in ("", "/"):
        return path[len(root_path) :] or "/"
    return path


def _plain(path: str) -> str:
    """Return a path as the router has it, which takes /v1//stats/ for /v1/stats."""
    return f"/{_SLASHES.sub('/', path.strip('/'))}"


def _pattern(route: str) -> re.Pattern[str]:
    fixed = (re.escape(part) for part in _PARAMETER.split(route))
    return re.compile("[^/]+".join(fixed), re.DOTALL)


_PATTERNS: Final = [(_pattern(route), need) for route, need in NEEDS.items() if "{" in route]
