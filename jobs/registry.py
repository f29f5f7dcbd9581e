"""The registry: which handler answers to which name.

Filled when handlers are declared, read when a worker starts; owned by one engine.
"""

from collections.abc import Iterator

from .errors import ConfigError, UnknownHandler
from .handler import HandlerPlan


class Registry:
    """Handlers by name and alias."""

    __slots__ = ("_by_name", "_plans")

    def __init__(self) -> None:
        self._by_name: dict[str, HandlerPlan] = {}
        self._plans: list[HandlerPlan] = []

    def __iter__(self) -> Iterator[HandlerPlan]:
        return iter(self._plans)

    def __len__(self) -> int:
        return len(self._plans)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def add(self, plan: HandlerPlan) -> None:
        """Add a handler.

        Raises:
            ConfigError: one of its names is another's; names both places.
        """
        names = (plan.name, *plan.options.aliases)
        for name in names:
            other = self._by_name.get(name)
            if other is plan:
                return
            if other is not None:
                raise ConfigError(
                    f"two handlers are called {name!r}: {other.place} and {plan.place}; give one of them another name="
                )
        for name in names:
            self._by_name[name] = plan
        self._plans.append(plan)

    def get(self, name: str) -> HandlerPlan | None:
        """Return the handler of a name or alias; None where there is none."""
        return self._by_name.get(name)

    def find(self, name: str) -> HandlerPlan:
        """Return the handler of a name or alias.

        Raises:
            UnknownHandler: there is none; lists what there is.
        """
        plan = self._by_name.get(name)
        if plan is None:
            known = ", ".join(sorted(self._by_name)) or "none"
            raise UnknownHandler(f"no handler is called {name!r}; this engine has: {known}")
        return plan

    def queues(self) -> list[str]:
        """Return "default" and every queue that a handler names, in the order of registration."""
        names = dict.fromkeys(["default", *(plan.options.queue for plan in self._plans)])
        return list(names)
