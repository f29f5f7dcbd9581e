"""Arguments of one handler: checked against its type hints, packed for the wire, and unpacked into its own types.

Made once for each handler, when its hints can be resolved. Packing refuses what would not come back as it went in, and
names the parameter. Unpacking costs one typed decode for the usual case: positional arguments, one decoder for each
possible count, found by the first byte of the packed array.
"""

import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, Final

import msgspec

from .errors import ConfigError, InvalidArguments
from .failures import message_of
from .survival import is_loose, short, survives

EMPTY_ARRAY: Final = b"\x90"
EMPTY_MAP: Final = b"\x80"
NO_KWARGS: Final = msgspec.Raw(EMPTY_MAP)  # compared with a Raw, which is six times as fast as making bytes of that
#: Exact classes that msgpack gives back as they were; what needs no look at its inside.
_PLAIN: Final = frozenset({str, bool, float, bytes, type(None)})
_FIXARRAY: Final = 0x90
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Arguments:
    """The parameters of one handler, the Context left out."""

    def __init__(self, function: Callable[..., Any], *, name: str, skip_first: bool) -> None:
        self._function = function
        self._name = name
        self._skip_first = skip_first
        self._decoders: dict[int, Callable[[Any], tuple[Any, ...]]] | None = None
        #: What unpacks positional arguments where their number is always the same, as for a handler without defaults;
        #: None otherwise, and before `compile`. Raises whatever it likes; `unpack` then says what is wrong.
        self.unpack_all: Callable[[msgspec.Raw | bytes], tuple[Any, ...]] | None = None
        self._exact: dict[int, tuple[type, ...]] = {}
        self._loose: dict[str, bool] = {}

    # The hints are resolved at first use, not at registration: a module may define a type below its handler.
    @functools.cached_property
    def signature(self) -> inspect.Signature:
        """The handler's signature without the Context.

        Raises:
            ConfigError: it has none that Python can tell, as some functions written in C.
        """
        try:
            signature = inspect.signature(self._function)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"handler {self._name!r}: {error}; wrap it in a function of your own") from error
        parameters = list(signature.parameters.values())[1 if self._skip_first else 0 :]
        return signature.replace(parameters=parameters)

    @functools.cached_property
    def hints(self) -> dict[str, Any]:
        """Type of each parameter and of "return"; Any where there is none.

        Raises:
            ConfigError: a hint names something that cannot be found.
        """
        target = _annotated(self._function)
        absent = {}
        if self._skip_first:  # the Context may be imported for type checkers only, and is not needed here
            first = next(iter(inspect.signature(self._function).parameters.values())).annotation
            if isinstance(first, str) and first not in getattr(inspect.unwrap(target), "__globals__", {}):
                absent[first.strip("'\"").partition(".")[0]] = types.SimpleNamespace(Context=object)
        try:
            found = typing.get_type_hints(target, localns=absent or None, include_extras=True)
        except Exception as error:  # an annotation is an expression, and may raise anything
            raise ConfigError(
                f"handler {self._name!r}: a type hint cannot be resolved ({error}); import the name at run time, "
                f"at the level of the module"
            ) from error
        hints = {parameter: found.get(parameter, Any) for parameter in self.signature.parameters}
        hints["return"] = found.get("return", Any)
        return hints

    @functools.cached_property
    def _decode_return(self) -> Callable[[Any], Any]:
        try:
            return msgspec.msgpack.Decoder(self.hints["return"]).decode
        except TypeError:  # a promise that msgspec cannot read, such as an iterator's
            return _decode

    @functools.cached_property
    def _positional(self) -> list[inspect.Parameter]:
        return [p for p in self.signature.parameters.values() if p.kind in _POSITIONAL]

    def compile(self) -> None:
        """Resolve the hints and make the decoders now; raises ConfigError as they would at first use."""
        if self._decoders is not None:
            return
        self._check_supported()
        required = sum(p.default is p.empty for p in self._positional)
        types = [self.hints[p.name] for p in self._positional]
        keyword_required = any(
            p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in self.signature.parameters.values()
        )
        decoders: dict[int, Callable[[Any], tuple[Any, ...]]] = {}
        for count in range(required, min(len(types), 15) + 1):
            if keyword_required:
                break
            shape = tuple[tuple(types[:count])] if count else tuple[()]  # type: ignore[misc]
            decoders[_FIXARRAY | count] = msgspec.msgpack.Decoder(shape).decode
            if all(hint in _PLAIN or hint is int for hint in types[:count]):
                self._exact[count] = tuple(types[:count])
        self.unpack_all = next(iter(decoders.values())) if len(decoders) == 1 else None
        self._decoders = decoders

    def pack(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bytes, bytes]:
        """Return the packed positional and keyword arguments.

        Raises:
            InvalidArguments: they do not fit the handler, or would not survive the wire; names the parameter.
        """
        if not kwargs and self._exact.get(len(args)) == tuple(map(type, args)):
            try:
                return _encode(args), EMPTY_MAP
            except (OverflowError, ValueError):
                pass  # an integer beyond 64 bits or a lone surrogate: the slow path below names its parameter
        self.compile()
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidArguments(f"{self._name}(): {error}; it takes {self._shown()}") from None
        for parameter, value in self._each(bound):
            self._check_survives(parameter, value)
        try:
            return _encode(bound.args), _encode(bound.kwargs)
        except (ValueError, OverflowError) as error:  # each passed alone: it is a name, or all of it is over 4 GiB
            raise InvalidArguments(f"{self._name}(): {error}") from None

    def unpack(self, args: msgspec.Raw | bytes, kwargs: msgspec.Raw | bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments in the handler's own types.

        Raises:
            InvalidArguments: they do not fit; the submitter's fault. Names the parameter.
        """
        if self._decoders is None:
            self.compile()
        if kwargs == NO_KWARGS or bytes(kwargs) == EMPTY_MAP:
            try:
                decode = self.unpack_all or self._decoders.get(memoryview(args)[0])  # type: ignore[union-attr]
                if decode is not None:
                    return decode(args), {}
            except Exception:  # noqa: BLE001 - a parameter's own class may raise anything while it is made
                # This way says which parameter it was, or converts what JSON could not express.
                return self._unpack_slowly(args, kwargs)
        return self._unpack_slowly(args, kwargs)

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Check plain data, as JSON gives it, without packing; raises InvalidArguments."""
        try:
            packed = _encode(args), _encode(kwargs)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidArguments(f"{self._name}(): arguments cannot be packed: {error}; send plain data") from None
        self.unpack(*packed)

    def decode_result(self, value: msgspec.Raw | bytes) -> Any:
        """Return a result in the type that the handler promises; as plain data where it broke its promise."""
        try:
            return self._decode_return(value)
        except Exception:  # noqa: BLE001 - a class of the handler's own may raise anything while it is made
            return _decode(value)

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the arguments, as one object with a property for each parameter, in order.

        Beside JSON schema's own words, `x-positional` says how many of them may be given by position; null for any
        number, where there is `*args`.
        """
        properties: dict[str, Any] = {}
        required = []
        parts: dict[str, Any] = {}
        kinds = {parameter.kind for parameter in self.signature.parameters.values()}
        for parameter in self.signature.parameters.values():
            if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                continue
            properties[parameter.name] = self._schema_of(parameter.name)
            # References are read from the whole document's root, so that is where what they name must be.
            parts |= properties[parameter.name].pop("$defs", {})
            if parameter.default is parameter.empty:
                required.append(parameter.name)
        return {
            "type": "object",
            **({"$defs": parts} if parts else {}),
            "properties": properties,
            "required": required,
            "additionalProperties": inspect.Parameter.VAR_KEYWORD in kinds,
            "x-positional": None if inspect.Parameter.VAR_POSITIONAL in kinds else len(self._positional),
        }

    def _schema_of(self, parameter: str) -> dict[str, Any]:
        try:
            return msgspec.json.schema(self.hints[parameter])
        except TypeError:
            return {}  # no JSON schema can say it; {} allows anything, and the worker still checks

    def _unpack_slowly(self, args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        try:
            plain_args, plain_kwargs = _decode(args), _decode(kwargs)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise InvalidArguments(f"{self._name}(): the arguments are not valid msgpack: {error}") from None
        if not isinstance(plain_args, list) or not isinstance(plain_kwargs, dict):
            raise InvalidArguments(f"{self._name}(): send the arguments as an array, and those by name as a map")
        try:
            bound = self.signature.bind(*plain_args, **plain_kwargs)
        except TypeError as error:
            raise InvalidArguments(f"{self._name}(): {error}; it takes {self._shown()}") from None
        arguments = bound.arguments
        for name, value in arguments.items():
            arguments[name] = self._convert(self.signature.parameters[name], value)
        return bound.args, bound.kwargs

    def _convert(self, parameter: inspect.Parameter, value: Any) -> Any:
        hint = self.hints[parameter.name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            hint = types.GenericAlias(tuple, (hint, ...))
        elif parameter.kind is parameter.VAR_KEYWORD:
            hint = types.GenericAlias(dict, (str, hint))
        try:
            return msgspec.msgpack.decode(_encode(value), type=hint)
        except Exception as error:  # noqa: BLE001 - a parameter's own class may raise anything while it is made
            try:  # data that came as JSON says bytes and map keys as text
                return msgspec.convert(value, hint, builtin_types=(), str_keys=True)
            except Exception:  # noqa: BLE001 - as above; the first error says more
                shown = message_of(error)
                raise InvalidArguments(f"{self._name}(): argument {parameter.name!r}: {shown}") from None

    def _each(self, bound: inspect.BoundArguments) -> list[tuple[inspect.Parameter, Any]]:
        pairs: list[tuple[inspect.Parameter, Any]] = []
        for name, value in bound.arguments.items():
            parameter = self.signature.parameters[name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                pairs += [(parameter, item) for item in value]
            elif parameter.kind is parameter.VAR_KEYWORD:
                pairs += [(parameter, item) for item in value.values()]
            else:
                pairs.append((parameter, value))
        return pairs

    def _check_survives(self, parameter: inspect.Parameter, value: Any) -> None:
        """Refuse a value that the handler would receive as another one."""
        hint = self.hints[parameter.name]
        if type(value) is hint and hint in _PLAIN and (hint is not str or value.isascii()):
            return  # text beyond ASCII may have lone surrogates, which cannot be packed
        if type(value) is int and hint is int and _INT_MIN <= value <= _INT_MAX:
            return
        place = f"{self._name}(): argument {parameter.name!r}"
        try:
            packed = _encode(value)
        except Exception as error:  # noqa: BLE001 - packing reads the attributes of the caller's objects
            raise InvalidArguments(
                f"{place} cannot be packed: {message_of(error)}; send plain data (numbers, text, bytes, lists, dicts, "
                f"dates, dataclasses), or an id by which the handler finds the object"
            ) from None
        loose = self._loose.get(parameter.name)
        if loose is None:
            loose = self._loose[parameter.name] = is_loose(hint)
        try:
            received = msgspec.msgpack.decode(packed, type=hint)
            if survives(value, received, loose=loose):
                return
        except Exception as error:  # noqa: BLE001 - a parameter's own class may raise anything while it is made
            raise InvalidArguments(f"{place}: {message_of(error)}") from None
        raise InvalidArguments(
            f"{place}: {short(value)} would arrive as {short(received)}; annotate the parameter with its exact type "
            f"({type(value).__name__}), or send what msgpack knows"
        )

    def _check_supported(self) -> None:
        for parameter in self.signature.parameters.values():
            try:
                msgspec.msgpack.Decoder(self.hints[parameter.name])
            except TypeError as error:
                raise ConfigError(
                    f"handler {self._name!r}: parameter {parameter.name!r} has a type that cannot cross the wire: "
                    f"{error}"
                ) from error

    def _shown(self) -> str:
        return str(self.signature.replace(return_annotation=inspect.Signature.empty))


def _annotated(function: Callable[..., Any]) -> Any:
    """Return what holds the annotations of a callable: seen through partial, callable objects and classes."""
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, type):
        return vars(function).get("__init__", function)
    if inspect.isroutine(function) or hasattr(function, "__wrapped__"):
        return function
    return type(function).__call__
