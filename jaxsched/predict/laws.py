"""Laws of loss curves: a law is a frozen pytree of numbers that maps rates to losses."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable
from typing import Any, ClassVar, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import FieldError, FieldTypeError, format_value, is_traced
from ..fields import Domain, Number, shortest, validate
from ..schedules.shapes import floating
from .arguments import rates_of, refuse_unfinished_warmup, refuse_where
from .fitted import FittedLaw
from .fitting import Facts, fit

_NUMBER = Domain("a finite number, 0 or more", lambda x: x >= 0)
_DECAY = Domain("a number from 0 to below 1, such as 0.999", lambda x: (x >= 0) & (x < 1))

L = TypeVar("L", bound="Law")


@dataclass_transform(frozen_default=True, eq_default=False)
def law(cls: type[L]) -> type[L]:
    """Makes a class a frozen dataclass, and a pytree whose leaves are its numbers."""
    cls = dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
    names = [field.name for field in dataclasses.fields(cls)]

    def leaves(self: Any) -> tuple[list[tuple[Any, Any]], None]:
        return [(jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in names], None

    def unflatten(aux: None, children: Iterable[Any]) -> Any:
        del aux
        self: Any = object.__new__(cls)  # numbers that JAX rebuilds are not checked: tracers and gradients
        self.__dict__.update(zip(names, children, strict=True))
        return self

    jax.tree_util.register_pytree_with_keys(cls, leaves, unflatten)
    return cls


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Law(abc.ABC):
    """The loss after a warmup as a function of the rates: that of a constant rate, less the gain of its decay.

    A subclass adds its numbers, how it sums the rates, and what a fit needs: data of each point, whose size does not
    depend on the steps, and a distribution of starts.
    """

    L0: Number
    A: Number
    alpha: Number

    takes_zeros: ClassVar[bool] = True
    fitted: ClassVar[tuple[str, ...]]
    usual: ClassVar[dict[str, float]] = {}

    def __post_init__(self) -> None:
        for name, value in self.numbers().items():
            domain = _DECAY if name == "decay" else _NUMBER
            object.__setattr__(self, name, validate(type(self).__name__, name, value, domain))

    def numbers(self) -> dict[str, Any]:
        """The numbers by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def replace(self: L, **numbers: Any) -> L:
        """Returns the law with other numbers."""
        return dataclasses.replace(self, **numbers)

    def __repr__(self) -> str:
        texts = {
            name: f"<{x.dtype}{list(x.shape)}>" if is_traced(x) else format_value(shortest(x))
            for name, x in self.numbers().items()
        }
        return f"{type(self).__name__}({', '.join(f'{name}={text}' for name, text in texts.items())})"

    def predict(self, lrs: Any, at: Any = None, *, total_steps: int | None = None) -> jax.Array:
        """Returns the losses at the steps `at`, after the updates with the rates of steps 0 to `at`.

        It can be traced, vmapped (over laws too) and differentiated in the numbers of the law and in the rates.

        Args:
          lrs: the rates of steps 0 to T - 1, (T,); or a schedule, with `total_steps`.
          at: a step or an array of steps, integers from 0 to T - 1; None: every step.
          total_steps: T, if `lrs` is a schedule.

        Returns:
          Losses of the shape of `at`, or (T,); infinite where no rate was above 0 yet.

        Raises:
          FieldError: for rates that rise until their last step, and, for a MultiPowerLaw, that are 0 after the first.
        """
        owner = f"{type(self).__name__}.predict"
        rates = self._rates(owner, lrs, total_steps)
        at = _check_at(owner, at, rates.size)
        return _predict(self, rates, at.reshape(-1)).reshape(at.shape)

    def final(self, lrs: Any, *, total_steps: int | None = None) -> jax.Array:
        """Returns `predict(lrs, at=T - 1)`, a scalar: an objective for schedules."""
        return _final(self, self._rates(f"{type(self).__name__}.final", lrs, total_steps))

    @classmethod
    def fit(cls, curves: Any, **options: Any) -> FittedLaw:
        """Fits the law to curves.

        Args:
          curves: a list of `Curve`, with one loss more after their warmups than the law has numbers to fit; the rate of
            at least one decays. Losses in a warmup are left out.
          **options: the fields of `FitOptions`, such as `starts=16`; and numbers that are given and not fitted, such as
            `decay` of an AnnealingLaw (compare the `residual` of 0.99, 0.999 and 0.9995).

        Returns:
          A `FittedLaw`.

        Warns:
          RuntimeWarning: if the fit did not converge, or only one of the starts reached the result.
        """
        return fit(cls, curves, options)

    def _rates(self, owner: str, lrs: Any, total_steps: int | None) -> jax.Array:
        for name, value in self.numbers().items():
            if np.ndim(value):
                instead, note = "write jax.vmap(lambda law: ...)(laws)", " is that of several laws, stacked"
                raise FieldError(owner, name, value, instead, note=note)
        rates = rates_of(owner, lrs, total_steps)
        if not is_traced(rates):
            self.check_rates(owner, np.asarray(rates))
        return rates

    @classmethod
    def check_rates(cls, owner: str, rates: np.ndarray) -> None:
        """Raises FieldError for rates that this law does not hold for."""
        refuse_unfinished_warmup(owner, rates)
        if not cls.takes_zeros:
            zeros = rates == 0
            zeros[: int(np.argmax(~zeros))] = False
            instead = "only the first rates may be 0: write an end_value above 0, such as schedule.clip(1e-8)"
            refuse_where(owner, "lrs", rates, zeros, instead)

    @abc.abstractmethod
    def _losses(self, rates: jax.Array, at: jax.Array) -> jax.Array:
        """The losses at the steps `at`, (n,)."""

    def _last(self, rates: jax.Array) -> jax.Array:
        """The loss after the last step; a law overrides it where one pass over the rates is enough."""
        return self._losses(rates, jnp.array([rates.size - 1]))[0]

    @abc.abstractmethod
    def _data(self, rates: list[np.ndarray], at: list[np.ndarray]) -> dict[str, np.ndarray]:
        """The data of each point of all curves."""

    @abc.abstractmethod
    def _of_data(self, data: dict[str, jax.Array]) -> jax.Array:
        """The losses from the data, (n,)."""

    @abc.abstractmethod
    def _draw(self, rng: np.random.Generator, starts: int, facts: Facts) -> dict[str, np.ndarray]:
        """The fitted numbers of all starts."""

    def _settled(self, total: jax.Array) -> jax.Array:
        """`L0 + A S1^-alpha`, infinite where S1 is 0."""
        safe = jnp.where(total > 0, total, 1)
        return jnp.where(total > 0, self.L0 + self.A * safe**-self.alpha, jnp.inf)


@jax.jit
def _predict(law: Law, rates: jax.Array, at: jax.Array) -> jax.Array:
    return jax.tree.map(floating, law)._losses(rates, at)


@jax.jit
def _final(law: Law, rates: jax.Array) -> jax.Array:
    return jax.tree.map(floating, law)._last(rates)


def _check_at(owner: str, at: Any, steps: int) -> jax.Array:
    """`at` as an array of integers from 0 to `steps - 1`; all of them for None."""
    if at is None:
        return jnp.arange(steps)
    if np.dtype(at.dtype if hasattr(at, "dtype") else np.asarray(at).dtype).kind not in "iu":
        raise FieldTypeError(owner, "at", at, "at must be a step or an array of steps, integers")
    if not is_traced(at) and np.any((np.asarray(at) < 0) | (np.asarray(at) >= steps)):
        raise FieldError(owner, "at", at, f"there are {steps} rates, so at must be from 0 to {steps - 1}")
    return jnp.asarray(at)
