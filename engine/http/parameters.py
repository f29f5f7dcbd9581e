"""Parameters of the query: one that a route does not take is refused, for whoever misspelt it believes that it holds.

What a route takes is read off its own signature, as it is for the OpenAPI document; no list is kept beside it. That is
for /v1 alone: what scrapers, probes and browsers ask may carry parameters of theirs. No state.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from litestar import Request
from litestar.routes import BaseRoute, HTTPRoute

from .problems import Refused

#: Below it a name that no route knows is a mistake.
OURS: Final = "/v1/"
#: What is said of names that somebody made up is bounded, however long they are and however many.
_NAMED_MAX_COUNT: Final = 3
_SHOWN_MAX_CHARS: Final = 60

#: A route handler -> the names of the query's parameters that it takes.
Taken = Mapping[object, frozenset[str]]


def taken_by(routes: Iterable[BaseRoute]) -> Taken:
    """Return what each route handler under OURS takes."""
    return {
        handler: frozenset(parameter.field_alias for parameter in model.expected_query_params)
        for route in routes
        if isinstance(route, HTTPRoute) and route.path.startswith(OURS)
        for handler, model in route.route_handler_map.values()
    }


async def known_only(request: Request[Any, Any, Any]) -> None:
    """Go on where the route takes each parameter of the query; asked before anything of the request is read.

    Raises:
        Refused: 400: it does not take one; names it, the nearest, and those that it takes.
    """
    query: bytes = request.scope.get("query_string", b"")
    if not query:
        return
    taken: Taken = request.app.state.taken
    allowed = taken.get(request.scope["route_handler"])
    if allowed is None:
        return
    # Also those without a value, which the framework leaves out.
    asked = parse_qsl(query.decode("latin-1"), keep_blank_values=True, errors="replace")
    unknown = list(dict.fromkeys(name for name, _ in asked if name not in allowed))
    if unknown:
        raise Refused(400, refusal(unknown, allowed))


def refusal(unknown: list[str], allowed: frozenset[str]) -> str:
    """Say which parameters a route does not take, and which it does."""
    named = ", ".join(_shown(name, allowed) for name in unknown[:_NAMED_MAX_COUNT])
    more = len(unknown) - _NAMED_MAX_COUNT
    rest = f" and {more} more" if more > 0 else ""
    takes = f"it takes {', '.join(sorted(allowed))}" if allowed else "it takes none"
    return f"this route has no parameter {named}{rest}; {takes}"


def _shown(name: str, allowed: frozenset[str]) -> str:
    short = name if len(name) <= _SHOWN_MAX_CHARS else f"{name[:_SHOWN_MAX_CHARS]}..."
    near = difflib.get_close_matches(short, sorted(allowed), n=1)
    return f"{short!r} (did you mean {near[0]!r}?)" if near else repr(short)
