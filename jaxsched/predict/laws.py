"""What the laws of loss curves share: a law is a frozen pytree of numbers that turns rates into losses."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable
from typing import Any, ClassVar, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import format_value, is_traced
from ..fields import Domain, Number, shortest, validate
from ..schedules.shapes import floating
from .curves import refuse_unfinished_warmup, refuse_zeros
from .rates import rates_of

_NUMBER = Domain("a finite number, 0 or more", lambda x: x >= 0)
_DECAY = Domain("a number from 0 to below 1, such as 0.999", lambda x: (x >= 0) & (x < 1))

L = TypeVar("L", bound="Law")


@dataclass_transform(frozen_default=True, eq_default=False)
def law(cls: type[L]) -> type[L]:
    """Make a class of laws: a frozen dataclass, and a pytree whose leaves are its numbers."""
    cls = dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
    declared: Any = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
    names = tuple(f.name for f in declared)
    keys = tuple(jax.tree_util.GetAttrKey(name) for name in names)

    def leaves(self: Any) -> tuple[tuple[Any, ...], None]:
        return tuple(getattr(self, name) for name in names), None

    def leaves_with_keys(self: Any) -> tuple[tuple[tuple[Any, Any], ...], None]:
        return tuple(zip(keys, leaves(self)[0], strict=True)), None

    def unflatten(aux: None, children: Iterable[Any]) -> Any:
        del aux
        self: Any = object.__new__(cls)  # what JAX rebuilds from tracers and gradients is never checked
        self.__dict__.update(zip(names, children, strict=True))
        return self

    jax.tree_util.register_pytree_with_keys(cls, leaves_with_keys, unflatten, leaves)
    return cls


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Law(abc.ABC):
    """A loss after a warmup, as a function of the rates: what a constant rate would reach, less what its decay gains.

    A subclass adds its numbers, `_losses` and `_last`, and for its fit what `fitting.fit` asks for.
    """

    L0: Number
    A: Number
    alpha: Number

    takes_zeros: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, value in self.numbers().items():
            domain = _DECAY if name == "decay" else _NUMBER
            object.__setattr__(self, name, validate(type(self).__name__, name, value, domain))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of the numbers, in their order."""
        return tuple(f.name for f in dataclasses.fields(cls))

    def numbers(self) -> dict[str, Any]:
        """The numbers by name."""
        return {name: getattr(self, name) for name in self.names()}

    def replace(self: L, **numbers: Any) -> L:
        """The same law with other numbers, checked again."""
        return dataclasses.replace(self, **numbers)

    def __repr__(self) -> str:
        """The expression that makes this law."""
        return f"{type(self).__name__}({', '.join(f'{name}={_text(x)}' for name, x in self.numbers().items())})"

    def predict(self, lrs: Any, at: Any = None, *, total_steps: int | None = None) -> jax.Array:
        """The loss at the steps `at`: what the rates of steps 0 to `at`, that of `at` too, lead to.

        It can be traced, vmapped (over laws too) and differentiated in the numbers of the law and in the rates.

        Args:
          lrs: the rates of steps 0 to T - 1, (T,); or a schedule, with `total_steps`.
          at: a step or an array of steps, integers from 0 to T - 1; every step if it is left out.
          total_steps: T, if `lrs` is a schedule.

        Returns: losses of the shape of `at`, or (T,). Infinite at steps before which no rate was above 0.

        Errors: ValueError for rates that are negative or not finite, that still rise at their end, and, of a
        MultiPowerLaw, that are 0 after the first above 0: each says the step.
        """
        owner = f"{type(self).__name__}.predict"
        rates = self._admit(owner, lrs, total_steps)
        at = admit_at(owner, at, rates.size)
        return _predict(self, rates, at.reshape(-1)).reshape(at.shape)

    def final(self, lrs: Any, *, total_steps: int | None = None) -> jax.Array:
        """The loss after the last step, in one pass over the rates: an objective for schedules.

        Args: as those of `predict`.

        Returns: a scalar, that of `predict(lrs, at=T - 1)`.

        Errors: as those of `predict`.
        """
        return _final(self, self._admit(f"{type(self).__name__}.final", lrs, total_steps))

    def _admit(self, owner: str, lrs: Any, total_steps: int | None) -> jax.Array:
        if any(np.ndim(x) for x in self.numbers().values()):
            raise ValueError(
                f"{owner}: {format_value(self)} is several laws, stacked; write jax.vmap(lambda law: ...)(laws)."
            )
        rates = rates_of(owner, lrs, total_steps)
        if not is_traced(rates):
            self.check_rates(owner, np.asarray(rates))
        return rates

    @classmethod
    def check_rates(cls, owner: str, rates: np.ndarray) -> None:
        """Refuse rates of which this law says nothing."""
        refuse_unfinished_warmup(owner, rates)
        if not cls.takes_zeros:
            refuse_zeros(owner, rates)

    @abc.abstractmethod
    def _losses(self, rates: jax.Array, at: jax.Array) -> jax.Array:
        """The losses at the steps `at`, (n,)."""

    @abc.abstractmethod
    def _last(self, rates: jax.Array) -> jax.Array:
        """The loss after the last step."""


@jax.jit
def _predict(law: Law, rates: jax.Array, at: jax.Array) -> jax.Array:
    return jax.tree.map(floating, law)._losses(rates, at)


@jax.jit
def _final(law: Law, rates: jax.Array) -> jax.Array:
    return jax.tree.map(floating, law)._last(rates)


def settled(law: Law, total: jax.Array) -> jax.Array:
    """`L0 + A S1^-alpha`, infinite where S1 is 0."""
    safe = jnp.where(total > 0, total, 1)
    return jnp.where(total > 0, law.L0 + law.A * safe**-law.alpha, jnp.inf)


def admit_at(owner: str, at: Any, steps: int) -> jax.Array:
    """`at` as an array of integers from 0 to `steps - 1`; all of them for None."""
    if at is None:
        return jnp.arange(steps)
    if np.dtype(at.dtype if hasattr(at, "dtype") else np.asarray(at).dtype).kind not in "iu":
        raise TypeError(f"{owner}: at={format_value(at)}; at must be a step or an array of steps, integers.")
    if not is_traced(at):
        seen = np.asarray(at)
        if np.any(bad := (seen < 0) | (seen >= steps)):
            first = seen.reshape(-1)[int(np.argmax(bad))]
            raise ValueError(f"{owner}: at={first}; there are {steps} rates, so at must be from 0 to {steps - 1}.")
    return jnp.asarray(at)


def _text(value: Any) -> str:
    if is_traced(value):
        return f"<{value.dtype}{list(value.shape)}>"
    return format_value(shortest(value))
