"""Arguments come back from the wire as they went in, or are refused by name before they travel."""

import dataclasses
import enum
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID, uuid4

import future_module
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.jobs.arguments import EMPTY_MAP, Arguments
from headrace.jobs.errors import ConfigError, InvalidArguments


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    ONE = "one"


@dataclasses.dataclass
class Row:
    id: int
    tags: list[str] = dataclasses.field(default_factory=list)
    weight: float | None = None


@dataclasses.dataclass(eq=False)
class Unequal:
    weight: float


class Point(NamedTuple):
    x: int
    y: int


class Movie(TypedDict):
    title: str
    year: int


class Tree(msgspec.Struct):
    name: str
    kids: "list[Tree]" = []


class Plain:
    pass


class Picky(msgspec.Struct):
    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise KeyError("below zero")


class Text(str):
    __slots__ = ()


class Real(float):
    pass


class BrokenRepr(list[int]):
    def __repr__(self) -> str:
        raise RuntimeError("from __repr__")


def arguments_of(function: Callable[..., Any], *, skip_first: bool = False) -> Arguments:
    return Arguments(function, name=getattr(function, "__name__", "handler"), skip_first=skip_first)


def taking(hint: Any) -> Arguments:
    """Return the Arguments of a handler with one parameter `value` of this type."""

    def handler(value: Any) -> None: ...

    handler.__annotations__["value"] = hint
    return arguments_of(handler)


def back(arguments: Arguments, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return arguments.unpack(*arguments.pack(args, kwargs))


INTS = st.integers(-(2**63), 2**64 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
AWARE = st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(fold=0))
#: hint -> what it is given.
TYPED: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "int": (int, INTS),
    "float": (float, st.floats(allow_nan=False)),
    "str": (str, TEXTS),
    "bytes": (bytes, st.binary()),
    "bool": (bool, st.booleans()),
    "none": (None, st.none()),
    "list": (list[int], st.lists(INTS)),
    "dict": (dict[str, int], st.dictionaries(TEXTS, INTS)),
    "dict by int": (dict[int, str], st.dictionaries(INTS, TEXTS)),
    "dict by uuid": (dict[UUID, Any], st.dictionaries(st.uuids(), INTS)),
    "tuple": (tuple[int, str], st.tuples(INTS, TEXTS)),
    "long tuple": (tuple[int, ...], st.lists(INTS).map(tuple)),
    "set": (set[int], st.sets(INTS)),
    "frozenset": (frozenset[str], st.frozensets(TEXTS)),
    "aware datetime": (datetime, AWARE),
    "naive datetime": (datetime, st.datetimes()),
    "date": (date, st.dates()),
    "time": (time, st.times()),
    "timedelta": (timedelta, st.timedeltas()),
    "uuid": (UUID, st.uuids()),
    "decimal": (Decimal, st.decimals(allow_nan=False)),
    "enum": (Colour, st.sampled_from(Colour)),
    "int enum": (Level, st.sampled_from(Level)),
    "str enum": (Word, st.sampled_from(Word)),
    "dataclass": (Row, st.builds(Row, INTS, st.lists(TEXTS), st.none() | st.floats(allow_nan=False))),
    "struct": (Tree, st.recursive(st.builds(Tree, TEXTS), lambda kid: st.builds(Tree, TEXTS, st.lists(kid)))),
    "typed dict": (Movie, st.fixed_dictionaries({"title": TEXTS, "year": INTS})),
    "named tuple": (Point, st.builds(Point, INTS, INTS)),
    "optional": (int | None, st.none() | INTS),
    "union": (int | str | None, st.none() | INTS | TEXTS),
    "literal": (Literal["a", "b"], st.sampled_from(["a", "b"])),
    "annotated": (Annotated[int, msgspec.Meta(ge=0)], st.integers(0, 100)),
    "sequence": (Sequence[int], st.lists(INTS)),
    "nested": (
        dict[str, list[tuple[Row, set[UUID]] | None]],
        st.dictionaries(
            TEXTS, st.lists(st.none() | st.tuples(st.builds(Row, INTS), st.sets(st.uuids(), max_size=2))), max_size=3
        ),
    ),
}


@pytest.mark.parametrize("kind", TYPED)
def test_what_a_type_describes_comes_back(kind: str) -> None:
    """A value of each promised type comes back equal and of its class, from position, by name and among *args."""
    hint, values = TYPED[kind]
    one = taking(hint)

    def many(*args: Any, **kwargs: Any) -> None: ...

    many.__annotations__.update(args=hint, kwargs=hint)
    several = arguments_of(many)

    @given(values)
    def check(value: Any) -> None:
        assert ((value,), {}) == back(one, value) == back(one, value=value)
        assert type(value) is type(back(one, value)[0][0])
        assert ((value, value), {"key": value}) == back(several, value, value, key=value)

    check()


PLAIN = st.recursive(
    st.none() | st.booleans() | INTS | st.floats() | TEXTS | st.binary() | AWARE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS | INTS, inner, max_size=4),
)


@given(PLAIN)
def test_plain_data_needs_no_type(value: Any) -> None:
    """Numbers, text, bytes, lists, dicts and aware datetimes come back under Any, NaN included."""
    assert repr(((value,), {})) == repr(back(taking(Any), value))


def test_nan_comes_back_wherever_it_is() -> None:
    """NaN, which is not equal to itself, survives alone, in lists, in dataclasses without __eq__ and as Decimal."""
    assert math.isnan(back(taking(float), math.nan)[0][0])
    assert math.isnan(back(taking(list[float]), [math.nan])[0][0][0])
    assert math.isnan(back(taking(Unequal), Unequal(math.nan))[0][0].weight)
    assert back(taking(Decimal), Decimal("NaN"))[0][0].is_nan()
    assert back(taking(Decimal), Decimal("sNaN"))[0][0].is_snan()


def test_an_int_may_be_given_for_a_float() -> None:
    """An int for a float arrives as a float, as type checkers allow; one that a float cannot hold is refused."""
    assert "((1.0,), {})" == repr(back(taking(float), 1))
    with pytest.raises(InvalidArguments, match="would arrive as float"):
        taking(float).pack((2**53 + 1,), {})


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


ITSELF: list[Any] = []
ITSELF.append(ITSELF)

REFUSED = {
    "custom class": (Any, Plain()),
    "custom class, named": (Plain, Plain()),
    "tuple without type": (Any, (1, 2)),
    "tuple deep inside": (Any, {"a": [{"b": (1,)}]}),
    "tuple in bare list": (list, [(1, 2)]),
    "tuple in typed dict of bare lists": (dict[str, list], {"a": [(1,)]}),
    "tuple for list": (list[int], (1, 2)),
    "set without type": (Any, {1}),
    "set for list": (list[int], {1}),
    "uuid without type": (Any, uuid4()),
    "decimal without type": (Any, Decimal("1.5")),
    "naive datetime without type": (Any, datetime(2026, 1, 1)),  # noqa: DTZ001 - that is the point
    "date without type": (object, date(2026, 1, 1)),
    "enum without type": (Any, Colour.RED),
    "int enum without type": (Any, Level.LOW),
    "int enum in a bare list inside": (dict[str, list], {"a": [Level.LOW]}),
    "int enum as a key": (Any, {Level.LOW: 1}),
    "dataclass without type": (Any, Row(1)),
    "int of 65 bits": (int, 2**64),
    "int of 65 bits below": (int, -(2**63) - 1),
    "int of 65 bits inside": (list[int], [2**64]),
    "lone surrogate": (str, "\udc80"),
    "lone surrogate inside": (Any, ["\udc80"]),
    "contains itself": (Any, ITSELF),
    "contains itself, typed": (list[Any], ITSELF),
    "nested too deeply": (Any, nested(102)),
    "nested beyond the stack": (Any, nested(100_000)),
    "float subclass": (float, Real(1.5)),
    "str subclass": (str, Text("a")),
    "list subclass without type": (Any, BrokenRepr([1])),
    "bool for int": (int, True),
    "int for bool": (bool, 1),
    "float for int": (int, 1.0),
    "str for int": (int, "1"),
    "text for an enum": (Colour, "red"),
    "text for a uuid": (UUID, str(UUID(int=1))),
    "dict for a dataclass": (Row, {"id": 1}),
    "unknown key of a typed dict": (Movie, {"title": "a", "year": 1, "more": 2}),
    "wrong literal": (Literal["a"], "b"),
    "out of its bounds": (Annotated[int, msgspec.Meta(ge=0)], -1),
    "function": (Any, len),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_not_survive_is_refused_by_name(kind: str) -> None:
    """What would arrive as something else, or not at all, is refused by `pack`, which names the parameter."""
    hint, value = REFUSED[kind]
    with pytest.raises(InvalidArguments, match=r"handler\(\): argument 'value'") as refused:
        taking(hint).pack((value,), {})
    assert isinstance(refused.value, TypeError)
    assert len(str(refused.value)) < 1000


def test_a_hundred_levels_are_enough() -> None:
    """A hundred levels of untyped lists pass, and so do a hundred of a type that contains itself."""
    tree = Tree("leaf")
    for _ in range(99):
        tree = Tree("inner", [tree])
    assert ((nested(100),), {}) == back(taking(Any), nested(100))
    assert ((tree,), {}) == back(taking(Tree), tree)


def test_an_unannotated_parameter_is_any() -> None:
    """A parameter without annotation takes plain data, and refuses a tuple."""

    def handler(value): ...  # type: ignore[no-untyped-def]

    assert (([1],), {}) == back(arguments_of(handler), [1])
    with pytest.raises(InvalidArguments, match="would arrive as list"):
        arguments_of(handler).pack(((1,),), {})


def test_ints_beyond_the_bounds_are_named_among_others() -> None:
    """The fast way of int and str parameters names the one that cannot be packed, *args too."""

    def handler(a: int, b: str, *rest: int) -> None: ...

    arguments = arguments_of(handler)
    arguments.compile()
    with pytest.raises(InvalidArguments, match="argument 'a'"):
        arguments.pack((2**64, "x"), {})
    with pytest.raises(InvalidArguments, match="argument 'b'"):
        arguments.pack((1, "\ud800"), {})
    with pytest.raises(InvalidArguments, match="argument 'rest'"):
        arguments.pack((1, "x", 2, 2**64), {})


def test_a_name_that_is_no_text_is_refused() -> None:
    """A lone surrogate in the name of one of **kwargs is refused, too."""
    with pytest.raises(InvalidArguments, match=r"mixed\(\)"):
        arguments_of(mixed).pack((1,), {"d": True, "\ud800": 1})


def mixed(a: int, b: str = "b", /, c: float = 1.5, *rest: int, d: bool, e: Row | None = None, **more: int) -> None: ...


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((1,), {"d": True}),
        ((1, "x"), {"d": False, "e": Row(3)}),
        ((1, "x", 2.5, 7, 8), {"d": True, "z": 3}),
        ((1,), {"c": 2.5, "d": True, "a": 5}),  # `a` is positional-only, so this one belongs to **more
    ],
)
def test_every_kind_of_parameter_arrives(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Positional-only, keyword-only, *args, **kwargs and defaults bind in the worker as they did in the caller."""
    signature = inspect.signature(mixed)
    got_args, got_kwargs = back(arguments_of(mixed), *args, **kwargs)
    assert signature.bind(*args, **kwargs).arguments == signature.bind(*got_args, **got_kwargs).arguments


def test_a_gap_before_a_keyword_stays_a_gap() -> None:
    """A default between two given arguments is left to the handler."""

    def handler(a: int, b: int = 2, c: int = 3) -> None: ...

    assert ((1,), {"c": 5}) == back(arguments_of(handler), 1, c=5)


def test_more_than_fifteen_parameters() -> None:
    """Twenty positional arguments, more than a short msgpack array holds, arrive."""
    names = [f"p{n}" for n in range(20)]
    namespace: dict[str, Any] = {}
    exec(f"def wide({', '.join(f'{name}: int' for name in names)}): ...", namespace)
    arguments = arguments_of(namespace["wide"])
    assert (tuple(range(20)), {}) == back(arguments, *range(20)) == back(arguments, *range(20))


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "missing a required argument: 'a'"),
        ((1, 2, 3), {}, "too many positional"),
        ((1,), {"z": 1}, "unexpected keyword argument 'z'"),
        ((1,), {"a": 2}, "multiple values for argument 'a'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_on_both_sides(
    args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    """Too many, too few, unknown and doubled arguments are refused by `pack` and by `unpack`, with what it takes."""

    def handler(a: int, b: int = 2) -> None: ...

    arguments = arguments_of(handler)
    with pytest.raises(InvalidArguments, match=message) as packing:
        arguments.pack(args, kwargs)
    with pytest.raises(InvalidArguments, match=message):
        arguments.unpack(msgspec.msgpack.encode(args), msgspec.msgpack.encode(kwargs))
    assert "it takes (a: int, b: int = 2)" in str(packing.value)


class Callable1:
    x: str = "an attribute with an annotation of its own"

    def __call__(self, count: int, ids: set[UUID]) -> tuple[int, ...]:
        return (count,)

    def method(self, count: int, ids: set[UUID]) -> tuple[int, ...]:
        return (count,)

    @classmethod
    def of_class(cls, count: int, ids: set[UUID]) -> tuple[int, ...]:
        return (count,)

    @staticmethod
    def static(count: int, ids: set[UUID]) -> tuple[int, ...]:
        return (count,)


def wrapped(count: int, ids: set[UUID]) -> tuple[int, ...]:
    return (count,)


def three(prefix: str, count: int, ids: set[UUID]) -> tuple[int, ...]:
    return (count,)


@functools.wraps(wrapped)
def decorated(*args: Any, **kwargs: Any) -> Any:
    return wrapped(*args, **kwargs)


CALLABLES: dict[str, Callable[..., Any]] = {
    "object": Callable1(),
    "method": Callable1().method,
    "classmethod": Callable1.of_class,
    "staticmethod": Callable1.static,
    "partial": functools.partial(three, "p"),
    "partial of partial": functools.partial(functools.partial(three), "p"),
    "decorated": decorated,
    "cached": functools.cache(wrapped),
}


@pytest.mark.parametrize("kind", CALLABLES)
def test_every_kind_of_callable_has_typed_arguments(kind: str) -> None:
    """Objects with __call__, methods, partials and decorated functions have the types of what they call."""
    arguments = arguments_of(CALLABLES[kind])
    ids = {uuid4(), uuid4()}
    assert ((1, ids), {}) == back(arguments, 1, ids)
    assert (1, 2) == arguments.decode_result(msgspec.msgpack.encode((1, 2)))
    with pytest.raises(InvalidArguments, match="argument 'count'"):
        arguments.pack(("x", ids), {})


def test_a_partial_may_bind_by_name() -> None:
    """A partial that binds an argument by name leaves it as a default that may be given anew."""
    arguments = arguments_of(functools.partial(three, count=5))
    assert (("p",), {"ids": set()}) == back(arguments, "p", ids=set())
    assert (("p",), {"count": 6, "ids": set()}) == back(arguments, "p", count=6, ids=set())


def test_annotations_may_be_strings() -> None:
    """In a module with postponed annotations a type may be defined below its handler."""
    row = future_module.Row(1, "x")
    assert ((row, 2), {}) == back(arguments_of(future_module.below), row, 2)
    assert row == arguments_of(future_module.below).decode_result(msgspec.msgpack.encode(row))


def test_the_context_may_be_imported_for_type_checkers_only() -> None:
    """A Context under `if TYPE_CHECKING` is left out without being looked up."""
    assert ((3,), {}) == back(arguments_of(future_module.with_context, skip_first=True), 3)


def test_a_hint_that_cannot_be_resolved_is_a_config_error() -> None:
    """A name that does not exist is the declaration's fault, and the message says which."""
    with pytest.raises(ConfigError, match=r"'unresolvable'.*Missing"):
        arguments_of(future_module.unresolvable).pack((1,), {})


def test_a_type_that_no_message_can_carry_is_a_config_error() -> None:
    """A union that could not be told apart on the wire is refused before anything is submitted."""
    with pytest.raises(ConfigError, match=r"'value'.*cannot cross the wire"):
        taking(UUID | str).compile()


def test_a_function_without_signature_is_a_config_error() -> None:
    """What Python can tell no signature of is refused with a way out."""
    with pytest.raises(ConfigError, match="wrap it"):
        Arguments(type, name="type", skip_first=False).compile()


def test_aware_times_arrive_in_utc() -> None:
    """An aware datetime comes back as the same moment; its zone becomes UTC."""
    sent = datetime(2026, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    ((received,), _) = back(taking(datetime), sent)
    assert (sent, UTC) == (received, received.tzinfo)


# What others send ------------------------------------------------------------------------------------


def test_json_stands_for_what_it_cannot_say() -> None:
    """Dates, UUIDs, decimals, enums, sets, bytes in base64 and maps with number keys may come as JSON has them."""

    def handler(
        a: date, b: UUID, c: Decimal, d: Colour, e: set[int], f: bytes, g: dict[int, str], h: Row, i: float
    ) -> None: ...

    sent = ["2026-05-01", str(UUID(int=1)), "1.5", "red", [1, 2], "aGk=", {"7": "x"}, {"id": 1}, 2]
    wanted = (
        date(2026, 5, 1), UUID(int=1), Decimal("1.5"), Colour.RED, {1, 2}, b"hi", {7: "x"}, Row(1), 2.0,
    )  # fmt: skip
    arguments = arguments_of(handler)
    assert (wanted, {}) == arguments.unpack(msgspec.msgpack.encode(sent), EMPTY_MAP)
    by_name = dict(zip("abcdefghi", sent, strict=True))
    assert (wanted, {}) == arguments.unpack(b"\x90", msgspec.msgpack.encode(by_name))
    arguments.check(tuple(sent), {})


def test_other_forms_of_a_value_are_read() -> None:
    """A UUID may come as sixteen bytes, a Decimal as a number, a float as an integer."""

    def handler(a: UUID, b: Decimal, c: Decimal, d: float) -> None: ...

    sent = msgspec.msgpack.encode([b"x" * 16, 2, 2.5, 3])
    wanted = (UUID(bytes=b"x" * 16), Decimal(2), Decimal("2.5"), 3.0)
    assert (wanted, {}) == arguments_of(handler).unpack(sent, EMPTY_MAP)


def test_plain_data_is_checked_without_packing() -> None:
    """`check` names the argument that does not fit, and refuses what no message can hold."""
    arguments = taking(int)
    with pytest.raises(InvalidArguments, match="'value'"):
        arguments.check(("x",), {})
    for odd in (2**64, "\ud800", Plain(), ITSELF):
        with pytest.raises(InvalidArguments):
            arguments.check((odd,), {})


def test_a_class_that_raises_anything_refuses_its_argument() -> None:
    """Where a parameter's own class raises, of whatever kind, the argument is refused by name on both sides."""
    arguments = taking(Picky)
    with pytest.raises(InvalidArguments, match=r"'value'.*below zero"):
        arguments.unpack(b"\x91\x81\xa6number\xff", EMPTY_MAP)
    picky = Picky(1)
    picky.number = -1
    with pytest.raises(InvalidArguments, match=r"'value'.*below zero"):
        arguments.pack((picky,), {})


def everything(
    a: int = 0, b: Row | None = None, c: dict[str, list[Any]] | None = None, *rest: Tree, d: Decimal | None = None,
    e: datetime | None = None, f: timedelta | None = None, g: set[UUID] | None = None, h: Picky | None = None,
    **more: Any,
) -> None: ...  # fmt: skip


EVERYTHING = arguments_of(everything)
HOSTILE_ITEMS = [
    b"\xdd\xff\xff\xff\xff",  # an array of four billion items
    b"\xdc\xff\xff\x01",
    b"\xdf\xff\xff\xff\xff",  # a map of as many
    b"\xc6\xff\xff\xff\xff",  # four gigabytes of bytes
    b"\xdb\xff\xff\xff\xff",  # and of text
    b"\xc9\xff\xff\xff\xff\x05",  # and of an extension
    b"\xc9\xff\xff\xff\xff\xff",
    b"\xd4\x05\x00",  # an extension that nobody knows
    b"\xc7\x00\x7f",
    b"\xd4\xff\x00",  # a timestamp of one byte
    b"\xd7\xff" + b"\xff" * 8,  # nanoseconds out of range
    b"\xc7\x0c\xff\x00\x00\x00\x00\x7f" + b"\xff" * 7,  # seconds out of range
    b"\xa1\xff",  # text that is no UTF-8
    b"\xa3\xed\xa0\x80",  # a surrogate
    b"\xc1",  # the byte that msgpack never uses
    b"\x81\x80\xc0",  # a map as the key of a map
    b"\x91" * 100_000 + b"\x90",
    b"\x81\xc0" * 100_000 + b"\xc0",
    b"",
]


@pytest.mark.parametrize("item", HOSTILE_ITEMS, ids=lambda item: item[:12].hex() or "nothing")
def test_hostile_bytes_are_invalid_arguments(item: bytes) -> None:
    """Lengths that lie, bad timestamps, bad text and endless nesting are InvalidArguments, wherever they stand."""
    for args, kwargs in [
        (item, EMPTY_MAP),
        (b"\x91" + item, EMPTY_MAP),
        (b"\x90", item),
        (b"\x90", b"\x81\xa1a" + item),
    ]:
        for arguments in (EVERYTHING, taking(int), taking(list[int]), taking(datetime)):
            with pytest.raises(InvalidArguments):
                arguments.unpack(args, kwargs)


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_random_bytes_never_do_worse(args: bytes, kwargs: bytes) -> None:
    """Any bytes are arguments or InvalidArguments, and nothing else."""
    for arguments in (EVERYTHING, taking(int)):
        for by_name in (kwargs, EMPTY_MAP):
            try:
                arguments.unpack(args, by_name)
            except InvalidArguments:
                continue


ODD = st.recursive(
    st.none() | st.booleans() | INTS | st.floats() | TEXTS | st.binary() | AWARE
    | st.builds(msgspec.msgpack.Ext, st.integers(-128, 127), st.binary(max_size=20))
    | st.sampled_from(["P9999999999999D", "1E999999999", "9" * 400, "-P1Y", "2026-02-30", "24:00"])
    | st.sampled_from(["0001-01-01T00:00:00+23:59"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(TEXTS | INTS | st.binary(max_size=3), inner, max_size=3),
)  # fmt: skip


@given(st.lists(ODD, max_size=5), st.dictionaries(st.sampled_from("abcdefghxyz"), ODD))
def test_well_formed_nonsense_never_does_worse(args: list[Any], kwargs: dict[str, Any]) -> None:
    """Well-formed msgpack that fits no parameter is InvalidArguments, and nothing else."""
    packed = msgspec.msgpack.encode(args), msgspec.msgpack.encode(kwargs)
    message = ""
    try:
        EVERYTHING.unpack(*packed)
    except InvalidArguments as error:
        message = str(error)
    assert len(message) < 3000


def test_bytes_cut_short_are_invalid_arguments() -> None:
    """Cut at any byte, packed arguments are refused."""
    args, kwargs = EVERYTHING.pack((7, Row(1, ["x"], 0.5), {"k": [1, "two"]}), {"d": Decimal("1.50"), "z": b"raw"})
    for end in range(len(args)):
        with pytest.raises(InvalidArguments):
            EVERYTHING.unpack(args[:end], EMPTY_MAP)
    for end in range(len(kwargs)):
        with pytest.raises(InvalidArguments):
            EVERYTHING.unpack(b"\x90", kwargs[:end])
    for more in (b"\xc0", b"\x90"):
        with pytest.raises(InvalidArguments):
            EVERYTHING.unpack(args + more, kwargs)


def test_positions_and_names_have_their_shapes() -> None:
    """A map for the positional arguments, an array for those by name, and names that are no text are refused."""
    arguments = taking(int)
    for args, kwargs in [
        (b"\x81\xa1a\x01", b"\x80"),
        (b"\x90", b"\x91\x01"),
        (b"\x01", b"\x80"),
        (b"\x90", b"\x81\x01\x01"),
    ]:
        with pytest.raises(InvalidArguments):
            arguments.unpack(args, kwargs)


# Results and schemas ---------------------------------------------------------------------------------


def test_a_result_comes_back_in_its_promised_type() -> None:
    """A result has the type of the return annotation, or is plain data where the handler broke its promise."""

    def handler() -> dict[UUID, Row]: ...

    arguments = arguments_of(handler)
    value = {UUID(int=1): Row(1)}
    assert value == arguments.decode_result(msgspec.msgpack.encode(value))
    assert [1] == arguments.decode_result(b"\x91\x01")


def test_a_promise_that_cannot_be_read_gives_plain_data() -> None:
    """Without an annotation, or with one that no message can carry, a result is plain data."""

    def nothing(): ...  # type: ignore[no-untyped-def]

    def either() -> UUID | str: ...

    def none() -> None: ...

    for function in (nothing, either, none):
        assert {"a": 1} == arguments_of(function).decode_result(b"\x81\xa1a\x01")
    assert arguments_of(none).decode_result(b"\xc0") is None


def test_the_schema_says_what_is_required() -> None:
    """The JSON schema has a property for each parameter, in order, and names those without default."""

    def handler(a: int, b: Row, *rest: int, c: str = "x") -> None: ...

    schema = arguments_of(handler).schema()
    assert (["a", "b", "c"], ["a", "b"]) == (list(schema["properties"]), schema["required"])
    assert {"type": "integer"} == schema["properties"]["a"]
    assert (3, False) == (len(schema["properties"]), schema["additionalProperties"])


def test_references_in_a_schema_lead_somewhere() -> None:
    """What a parameter's schema refers to is at the root of the document, where references are read from."""

    def handler(a: Row, b: list[Row] | None = None, c: Tree | None = None) -> None: ...

    schema = arguments_of(handler).schema()
    assert {"Row", "Tree"} == set(schema["$defs"])
    assert {"$ref": "#/$defs/Row"} == schema["properties"]["a"]
    assert "$defs" not in arguments_of(untyped_and_plain).schema()


def untyped_and_plain(a, b: int = 1): ...  # type: ignore[no-untyped-def]
