"""Values as JSON can say them: what a handler returned may hold what msgpack knows and JSON does not.

Only what the encoder would refuse is changed: extension types become their code and their bytes, and keys that are
neither text nor numbers become text. No state.
"""

import base64
from typing import Any

import msgspec

_TEXT_KEYS = (str, bytes, int, float)


def plain(value: Any) -> Any:
    """Return the value in a form that `msgspec.json.encode` takes, unchanged where it does already."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, msgspec.msgpack.Ext):
        return {"ext": value.code, "base64": base64.b64encode(bytes(value.data)).decode()}
    return value


def _key(key: Any) -> Any:
    return key if isinstance(key, _TEXT_KEYS) and not isinstance(key, bool) else str(key)
