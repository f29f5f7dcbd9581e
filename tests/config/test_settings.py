"""The settings' declarations agree with the record, with its defaults, and with the contract of names."""

import subprocess
import sys

import pytest

from headrace.config import Settings, cores, limits, places
from headrace.config.declaration import Value, read, write
from headrace.config.settings import SECTIONS, build

CONTRACT = {
    "url": "none", "namespace": "headrace", "slots": "100", "thread_slots": "32", "process_slots": "cores",
    "processes": "1", "loop": "asyncio", "lease": "30s", "max_deliveries": "5", "prefetch_ttl": "10s",
    "stall_limit": "5m", "timeout": "default", "drain_timeout": "25s", "result_ttl": "5m", "dead_ttl": "30d",
    "max_dead": "100000", "max_payload": "1MiB", "max_result": "1MiB", "max_queue_length": "1000000",
    "max_queue_bytes": "1GiB", "memory_high": "0.8", "on_full": "reject", "unknown_handler_grace": "1h",
    "require_url": "no", "log_outcomes": "off", "log_level": "info", "log_format": "console",
}  # fmt: skip
UNITS = {"duration": "_s", "size": "_bytes"}


def test_the_settings_outside_sections_are_the_promised_ones_with_the_promised_defaults() -> None:
    """Names and defaults of the record are the ones users were promised, no more and no fewer."""
    written = {
        name: write(place.setting, place.value(Settings())) for name, place in places().items() if not place.section
    }
    assert CONTRACT == written


def test_every_field_is_declared() -> None:
    """A field without a declaration could not be set, shown or documented; there is none."""
    fields = {("", field) for field in Settings.__struct_fields__ if field not in SECTIONS}
    fields |= {(section, field) for section, record in SECTIONS.items() for field in record.__struct_fields__}
    assert fields == {(place.section, place.field) for place in places().values()}


@pytest.mark.parametrize("name", places())
def test_a_field_is_named_as_its_setting_with_the_unit_behind(name: str) -> None:
    """`lease` is `lease_s` and `max_payload` is `max_payload_bytes`: the unit is in the field's name, once."""
    place = places()[name]
    section, _, plain = name.rpartition(".")
    unit = UNITS.get(place.setting.kind, "")
    assert (section, plain.removesuffix(unit) + unit if unit else plain) == (place.section, place.field)


@pytest.mark.parametrize("name", places())
def test_a_default_is_within_its_own_bounds_and_reads_back(name: str) -> None:
    """What `config show` prints for a default can be written into a file as it stands."""
    place = places()[name]
    default = place.value(Settings())
    written = [] if place.setting.kind == "tokens" else write(place.setting, default)
    assert default == read(place.setting, written)


@pytest.mark.parametrize("name", [name for name, place in places().items() if place.setting.maximum is not None])
def test_both_bounds_are_enforced(name: str) -> None:
    """The bounds themselves are taken; one step outside is refused, with the setting named."""
    setting = places()[name].setting
    assert setting.minimum is not None
    assert setting.maximum is not None
    step = 0.001 if setting.kind in ("fraction", "duration") else 1
    assert [setting.minimum, setting.maximum] == [read(setting, setting.minimum), read(setting, setting.maximum)]
    with pytest.raises(ValueError, match=f"^{name}: .* is too much; .*at most"):
        read(setting, setting.maximum + step)
    with pytest.raises(ValueError, match=f"^{name}: "):
        read(setting, setting.minimum - step)


def test_build_sets_what_is_named_and_nothing_else() -> None:
    """Values land in their fields, in sections too, and all others keep their defaults."""
    values: dict[str, Value] = {"lease": 3.0, "http.port": 1}
    changed = {name for name, place in places().items() if place.value(build(values)) != place.value(Settings())}
    assert ({"lease", "http.port"}, 3.0, 1) == (changed, build(values).lease_s, build(values).http.port)


def test_without_a_timeout_each_runner_has_its_own() -> None:
    """Thread handlers cannot be stopped and so have none; a timeout that is set holds for all, zero too."""
    runners = ("async", "thread", "process")
    assert [300.0, 0.0, 300.0] == [Settings().timeout_for(runner) for runner in runners]
    assert [0.0, 0.0, 0.0] == [Settings(timeout_s=0.0).timeout_for(runner) for runner in runners]


def test_process_slots_follow_the_cores_unless_set() -> None:
    """None stands for the cores that this process may use."""
    assert (cores(), 3) == (Settings().process_slots_resolved, Settings(process_slots=3).process_slots_resolved)


def test_the_lease_outlasts_two_lost_renewals() -> None:
    """Renewed at a third of its length, the shortest lease still leaves more than a slow round trip."""
    assert 0.1 < limits.LEASE_MIN_S / 3


def test_importing_the_settings_loads_nothing_that_is_slow() -> None:
    """structlog, rich, the TOML parser and difflib are loaded by the first use, not by the import."""
    slow = {"structlog", "rich", "tomllib", "difflib"}
    script = "import sys; before = set(sys.modules); import headrace.config.settings; print(*set(sys.modules) - before)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert set() == slow & set(loaded)
