"""The API's description of itself: /openapi.json with the schemas of the handlers that there are now, and /docs.

Both are made anew when the handlers change. While the server is away, they tell what was known last. The page needs no
file beside it: its style is in it, it has no script, and its policy lets a browser load nothing. Owns what was made
last.
"""

import base64
import contextlib
import hashlib
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import msgspec

from headrace.jobs.errors import BrokerUnavailable

from ..observe.fleet import HandlerCard
from ..version import VERSION
from .gateway import Gateway
from .handler_schemas import job_schemas

if TYPE_CHECKING:
    from jinja2 import Template


class Described(msgspec.Struct, frozen=True):
    """What is served of one set of handlers.

    Attributes:
        document: The OpenAPI document as JSON.
        page: The page for people.
    """

    document: bytes
    page: bytes


class Description:
    """Describes one application.

    Args:
        gateway: Knows the handlers.
        outline: Makes the document without them; called when it is first needed, for it takes some 10 ms.
    """

    def __init__(self, gateway: Gateway, outline: Callable[[], dict[str, Any]]) -> None:
        self._gateway = gateway
        self._outline = outline
        self._cards: dict[str, HandlerCard] = {}
        self._made_of: tuple[dict[str, HandlerCard], str] | None = None
        self._made: Described | None = None
        self._base: dict[str, Any] | None = None

    async def now(self, mounted_at: str = "") -> Described:
        """Return what is true now.

        Args:
            mounted_at: The path below which the API is, in an application of somebody else's; empty where in none.
        """
        with contextlib.suppress(BrokerUnavailable):  # then it tells what was known last
            self._cards = await self._gateway.handler_cards()
        made_of = (self._cards, mounted_at)
        if self._made is None or made_of != self._made_of:
            self._base = self._base or self._outline()
            self._made_of, self._made = made_of, describe(self._base, self._cards, mounted_at)
        return self._made


def describe(outline: dict[str, Any], cards: dict[str, HandlerCard], mounted_at: str = "") -> Described:
    """Return the document and the page of an outline with the schemas of handlers, and where the API is."""
    schemas = outline["components"]["schemas"]
    jobs = job_schemas(cards, schemas["JobRequest"])
    components = {**outline["components"], "schemas": {**schemas, **jobs}}
    shown = {**outline, "servers": [{"url": mounted_at or "/"}], "components": components}
    document = msgspec.json.encode(shown)
    page = _template().render(document=shown, handlers=_handlers(cards), version=VERSION).encode()
    return Described(document, page)


def page_policy() -> str:
    """Return the Content-Security-Policy of the page: its own style, and nothing else from anywhere."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _handlers(cards: dict[str, HandlerCard]) -> list[dict[str, Any]]:
    return [
        {"name": name, "card": card, "schema": msgspec.json.format(_json(card), indent=2).decode()}
        for name, card in sorted(cards.items())
        if name not in card.aliases
    ]


def _json(card: HandlerCard) -> bytes:
    return msgspec.json.encode(msgspec.msgpack.decode(card.schema))


@cache
def _style() -> str:
    return _FOLDER.joinpath("docs.css").read_text(encoding="utf-8")


@cache
def _template() -> "Template":
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["json"] = lambda value: msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    environment.globals["style"] = _style()
    return environment.from_string(_FOLDER.joinpath("docs.html").read_text(encoding="utf-8"))


_FOLDER: Final = resources.files(__package__).joinpath("pages")
