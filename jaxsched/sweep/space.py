"""Where settings are drawn from: distributions of a field, and the points that fill their space."""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from ..schedules.base import Schedule
from ..schedules.fields import nearest_name, shown
from ..schedules.stacking import stack

METHODS = ("sobol", "halton", "random")

# The distributions are classes in lower case: they are written like functions and printed as they are written.


def _finite_ends(owner: str, lo: Any, hi: Any) -> None:
    for name, value in (("lo", lo), ("hi", hi)):
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
            raise TypeError(f"{owner}: {name}={shown(value)}; {name} must be a number.")
        if not math.isfinite(value):
            raise ValueError(f"{owner}: {name}={shown(value)}; {name} must be a finite number.")
    if not lo < hi:
        raise ValueError(
            f"{owner}: lo={shown(lo)} and hi={shown(hi)}; write lo < hi, and a fixed value as the value alone."
        )


class Distribution:
    """A map from the points of [0, 1) to the values of a field; see `choice`, `uniform` and the others."""

    def at(self, point: float) -> Any:
        """The value at `point`, a number from 0 to 1."""
        raise NotImplementedError(f"{type(self).__name__} has no `at`.")


@dataclasses.dataclass(frozen=True, init=False)
class choice(Distribution):
    """One of the listed values, each as likely as any other.

    Args:
      *values: the values, or one list of them. A value that comes twice is twice as likely.

    Errors: ValueError for no values.

    Example:
      >>> from jaxsched.sweep import choice
      >>> [choice(0, 100, 500).at(u) for u in (0.0, 0.4, 0.9)]
      [0, 100, 500]
    """

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        if len(values) == 1 and isinstance(values[0], (list, tuple, range, np.ndarray)):
            values = tuple(values[0].tolist() if isinstance(values[0], np.ndarray) else values[0])
        if not values:
            raise ValueError("choice: no values; write at least one, as in choice(0, 100, 500).")
        object.__setattr__(self, "values", values)

    def __repr__(self) -> str:
        return f"choice({', '.join(map(repr, self.values))})"

    def at(self, point: float) -> Any:
        return self.values[min(int(point * len(self.values)), len(self.values) - 1)]


@dataclasses.dataclass(frozen=True)
class uniform(Distribution):
    """A number from `lo` to `hi`, every part as likely as any other of its length.

    Args:
      lo, hi: finite numbers, `lo < hi`.

    Errors: ValueError unless `lo < hi`.

    Example:
      >>> from jaxsched.sweep import uniform
      >>> uniform(1.0, 3.0).at(0.25)
      1.5
    """

    lo: float
    hi: float

    def __post_init__(self) -> None:
        _finite_ends("uniform", self.lo, self.hi)

    def at(self, point: float) -> float:
        return float(self.lo * (1 - point) + self.hi * point)


@dataclasses.dataclass(frozen=True)
class log_uniform(Distribution):
    """A number from `lo` to `hi`, every factor as likely as any other: the usual choice for a learning rate.

    Args:
      lo, hi: finite numbers above 0, `lo < hi`.

    Errors: ValueError unless `0 < lo < hi`.

    Example:
      >>> from jaxsched.sweep import log_uniform
      >>> round(log_uniform(1e-4, 1e-2).at(0.5), 6)
      0.001
    """

    lo: float
    hi: float

    def __post_init__(self) -> None:
        _finite_ends("log_uniform", self.lo, self.hi)
        if self.lo <= 0:
            raise ValueError(f"log_uniform: lo={shown(self.lo)}; lo must be above 0: write uniform, or lo=1e-6.")

    def at(self, point: float) -> float:
        value = math.exp(math.log(self.lo) * (1 - point) + math.log(self.hi) * point)
        return float(min(max(value, self.lo), self.hi))


@dataclasses.dataclass(frozen=True)
class int_uniform(Distribution):
    """An integer from `lo` to `hi`, both of them too, each as likely as any other.

    Args:
      lo, hi: integers, `lo < hi`.

    Errors: TypeError for a number that is not an integer; ValueError unless `lo < hi`.

    Example:
      >>> from jaxsched.sweep import int_uniform
      >>> [int_uniform(1, 3).at(u) for u in (0.0, 0.5, 0.99)]
      [1, 2, 3]
    """

    lo: int
    hi: int

    def __post_init__(self) -> None:
        _finite_ends("int_uniform", self.lo, self.hi)
        for name in ("lo", "hi"):
            if not isinstance(getattr(self, name), (int, np.integer)):
                raise TypeError(f"int_uniform: {name}={shown(getattr(self, name))}; {name} must be an integer.")

    def at(self, point: float) -> int:
        return int(min(self.lo + math.floor(point * (self.hi - self.lo + 1)), self.hi))


def sample(
    schedule: Any,
    /,
    n: int,
    method: Literal["sobol", "halton", "random"] = "sobol",
    seed: int = 0,
    **spaces: Any,
) -> Any:
    """`n` settings drawn from a space of hyperparameters, stacked into one schedule as by `grid`.

    A combination that the class refuses (a warmup longer than the whole) is drawn again, and a warning says how many.

    Args:
      schedule: a schedule class, or a schedule whose other fields stay as they are.
      n: how many settings, 1 or more.
      method: `"sobol"` and `"halton"` fill the space evenly (they need scipy), `"random"` draws independently.
      seed: an integer, 0 or more; the same seed draws the same settings.
      **spaces: for each field a distribution (`choice`, `uniform`, `log_uniform`, `int_uniform`) or a single value.

    Errors: TypeError for a name that is not a field; ValueError for a list (write `choice`), for a distribution of
    structure (a `shape`, a flag), and if the class refuses almost every combination.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.sweep import choice, log_uniform, sample
      >>> s = js.WarmupCosine(peak_value=0.1, warmup_steps=0, total_steps=200)
      >>> S = sample(s, 8, peak_value=log_uniform(1e-4, 1e-1), warmup_steps=choice(0, 50))
      >>> sorted(S.warmup_steps.tolist())
      [0, 0, 0, 0, 50, 50, 50, 50]

    Source: scipy.stats.qmc (Owen's scrambling of Sobol's points).
    """
    cls = schedule if isinstance(schedule, type) else type(schedule)
    if not issubclass(cls, Schedule):
        raise TypeError(f"sample: {shown(schedule)} is not a schedule or a class of schedules.")
    cls._refuse_unknown(spaces)
    drawn, fixed = _split(cls, spaces)
    for name, value, least in (("n", n, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"sample: {name}={shown(value)}; {name} must be an integer, {least} or more.")
    if method not in METHODS:
        raise ValueError(f"sample: method={method!r}; {nearest_name(str(method), METHODS)}")
    make = cls if isinstance(schedule, type) else schedule.replace
    points = _POINTS[method](len(drawn), int(seed))
    settings, count, refusal = _draw(functools.partial(make, **fixed), drawn, points, int(n))
    if len(settings) < n:
        raise ValueError(
            f"sample: {cls.__name__} refuses {count - len(settings)} of {count} drawn settings; draw from a space in "
            f"which most are allowed. The last refusal was: {refusal}"
        )
    if refusal is not None:
        warnings.warn(
            f"sample: {cls.__name__} refused {count - n} of {count} drawn settings, and others were drawn instead. "
            f"The last refusal was: {refusal}",
            stacklevel=2,
        )
    return stack(*settings)


def _draw(
    make: Callable[..., Any], drawn: dict[str, Distribution], points: Callable[[int], np.ndarray], n: int
) -> tuple[list[Any], int, ValueError | None]:
    """Up to `n` settings that `make` accepts, how many were drawn for them, and the last refusal."""
    settings: list[Any] = []
    count, refusal = 0, None
    size = 1 << (n - 1).bit_length()
    while count < max(64 * size, 1024):
        # As many again as there are: Sobol's points are balanced at every power of two.
        for row in points(count or size):
            count += 1
            fields = {name: space.at(float(u)) for (name, space), u in zip(drawn.items(), row, strict=True)}
            try:
                settings.append(make(**fields))
            except ValueError as error:
                refusal = error
            if len(settings) == n:
                return settings, count, refusal
    return settings, count, refusal


def _split(cls: type[Schedule], spaces: dict[str, Any]) -> tuple[dict[str, Distribution], dict[str, Any]]:
    """The fields that are drawn, and those that are fixed."""
    fields = {f.name: f for f in cls._fields}
    drawn = {name: space for name, space in spaces.items() if isinstance(space, Distribution)}
    fixed = {name: space for name, space in spaces.items() if name not in drawn}
    for name, space in drawn.items():
        if fields[name].static:
            raise ValueError(
                f"{cls.__name__}: {name}={space!r}; {name} is structure, and every structure is a program of its own: "
                "sample each by itself."
            )
    for name, value in fixed.items():
        if not isinstance(value, Schedule) and _depth(value) > int(fields[name].table) and not fields[name].static:
            raise ValueError(f"{cls.__name__}: {name}={shown(value)} is a list; write choice(...) to draw from it.")
    if not drawn:
        raise ValueError(
            f"sample: no field of {cls.__name__} is drawn; write a distribution: peak_value=log_uniform(1e-4, 1e-1)."
        )
    return drawn, fixed


def _depth(value: Any) -> int:
    """How many axes a list or an array has; a list of schedules has none."""
    if isinstance(value, (list, tuple)):
        return 1 + max(map(_depth, value), default=0) if not any(isinstance(v, Schedule) for v in value) else 0
    return np.ndim(value) if hasattr(value, "ndim") else 0


def _sobol(dimensions: int, seed: int) -> Callable[[int], np.ndarray]:
    engine = _qmc().Sobol(dimensions, seed=np.random.default_rng(seed))
    return lambda size: engine.random_base2(size.bit_length() - 1)


def _halton(dimensions: int, seed: int) -> Callable[[int], np.ndarray]:
    return _qmc().Halton(dimensions, seed=np.random.default_rng(seed)).random


def _random(dimensions: int, seed: int) -> Callable[[int], np.ndarray]:
    rng = np.random.default_rng(seed)
    return lambda size: rng.random((size, dimensions))


def _qmc() -> Any:
    try:
        from scipy.stats import qmc
    except ImportError:
        raise ImportError('Sobol and Halton points need scipy: pip install "jaxsched[sweep]"') from None
    return qmc


_POINTS = dict(zip(METHODS, (_sobol, _halton, _random), strict=True))
