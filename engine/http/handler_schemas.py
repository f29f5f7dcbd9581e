"""Each handler's own schema in the OpenAPI document: what POST /v1/jobs takes for it, as its worker publishes it.

A job is one of the known handlers', told apart by `name`; while none is known, any. Arguments by position and by name
are both described; where some stand by position, which names then are still missing is left to the server's own check.
Pure functions.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ..observe.fleet import HandlerCard

Schema = dict[str, Any]

#: The schema of a job, whichever handler's.
JOB: Final = "Job"
_COMPONENTS: Final = "#/components/schemas/"


def job_schemas(cards: Mapping[str, HandlerCard], job_request: Schema) -> dict[str, Schema]:
    """Return the components that describe the jobs of handlers, and JOB, which is any of them.

    Args:
        cards: Handlers by name and alias.
        job_request: The schema of a job without regard to its handler.
    """
    found: dict[str, Schema] = {}
    mapping: dict[str, str] = {}
    for own, card in sorted(cards.items()):
        if own in card.aliases:
            continue
        called = [own, *[alias for alias in card.aliases if cards.get(alias) == card]]
        component = _component(own, found)
        arguments = msgspec.msgpack.decode(card.schema)
        for part, schema in arguments.pop("$defs", {}).items():
            found[f"{component}.{part}"] = _moved(schema, component)
        found[f"{component}.arguments"] = _moved(arguments, component)
        found[component] = _job(own, called, found[f"{component}.arguments"], f"{component}.arguments", job_request)
        mapping |= dict.fromkeys(called, _COMPONENTS + component)
    if not mapping:
        return {JOB: {"$ref": f"{_COMPONENTS}JobRequest"}}
    choices = [{"$ref": reference} for reference in dict.fromkeys(mapping.values())]
    return {**found, JOB: {"oneOf": choices, "discriminator": {"propertyName": "name", "mapping": mapping}}}


def _job(own: str, called: list[str], arguments: Schema, component: str, job_request: Schema) -> Schema:
    """Return the schema of one handler's jobs."""
    properties: Schema = arguments.get("properties", {})
    positional = arguments.get("x-positional", len(properties))
    items: Schema = {"type": "array", "prefixItems": list(properties.values())[:positional]}
    if not items["prefixItems"]:
        del items["prefixItems"]
    if positional is not None:
        items["maxItems"] = positional
    by_name: Schema = {"properties": {"args": {"maxItems": 0}, "kwargs": {"$ref": _COMPONENTS + component}}}
    if arguments.get("required"):
        by_name["required"] = ["kwargs"]
    loose = {key: value for key, value in arguments.items() if key != "required"}
    return {
        **job_request,
        "title": own,
        "description": f"A job of the handler {own}.",
        "properties": {
            **job_request["properties"],
            "name": {"type": "string", "enum": sorted(called)},
            "args": {**items, "default": []},
            "kwargs": {**loose, "default": {}},
        },
        "anyOf": [by_name, {"properties": {"args": {"minItems": 1}}, "required": ["args"]}],
    }


def _component(name: str, taken: Mapping[str, Schema]) -> str:
    """Return a component's name for a handler's: of the few characters that it may have, and of its own."""
    plain = f"Job.{re.sub(r'[^A-Za-z0-9_-]', '_', name)}"
    found, number = plain, 1
    while found in taken:
        number += 1
        found = f"{plain}-{number}"
    return found


def _moved(part: Any, component: str) -> Any:
    """Return a schema whose references lead to where its parts are in the document."""
    if isinstance(part, dict):
        return {
            key: f"{_COMPONENTS}{component}.{value.removeprefix('#/$defs/')}"
            if key == "$ref" and isinstance(value, str) and value.startswith("#/$defs/")
            else _moved(value, component)
            for key, value in part.items()
        }
    return [_moved(each, component) for each in part] if isinstance(part, list) else part
