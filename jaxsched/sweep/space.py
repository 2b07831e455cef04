"""Where settings are drawn from: distributions of a field, the spaces of them, and the points that fill a space."""

from __future__ import annotations

import dataclasses
import math
import operator
import types
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import numpy as np

from .._errors import JaxschedWarning, format_value, nearest_name
from ..inspect.format import optional
from ..schedules.base import Schedule
from ..schedules.stacking import stack, unstack
from .settings import hyperparameters, path_text

METHODS = ("sobol", "halton", "random")

# --- fields that depend on others ------------------------------------------------------------------------------------
#
# What depends on other fields is written as arithmetic on their names, and not as a function of them: so a space is
# printed as it is written, a name that there is not is refused before anything is drawn, and the order in which the
# fields have to be drawn is known.


class Expression:
    """Arithmetic on fields; see `field`."""

    def of(self, get: Callable[[str], Any]) -> Any:
        """The number, where `get` tells the value of a field."""
        raise NotImplementedError(f"{type(self).__name__} has no `of`.")

    def names(self) -> set[str]:
        """The fields in it."""
        raise NotImplementedError(f"{type(self).__name__} has no `names`.")

    def __float__(self) -> float:
        raise TypeError(f"{self!r} has no value by itself; draw from a space that it stands in.")

    def __add__(self, other: Any) -> Expression:
        return _Arithmetic("+", self, other)

    def __radd__(self, other: Any) -> Expression:
        return _Arithmetic("+", other, self)

    def __sub__(self, other: Any) -> Expression:
        return _Arithmetic("-", self, other)

    def __rsub__(self, other: Any) -> Expression:
        return _Arithmetic("-", other, self)

    def __mul__(self, other: Any) -> Expression:
        return _Arithmetic("*", self, other)

    def __rmul__(self, other: Any) -> Expression:
        return _Arithmetic("*", other, self)

    def __truediv__(self, other: Any) -> Expression:
        return _Arithmetic("/", self, other)

    def __rtruediv__(self, other: Any) -> Expression:
        return _Arithmetic("/", other, self)

    def __floordiv__(self, other: Any) -> Expression:
        return _Arithmetic("//", self, other)


@dataclasses.dataclass(frozen=True)
class field(Expression):  # in lower case, as the distributions are
    """Another field of a space, as a bound of a distribution or as a value: what depends on it keeps to it.

    It may stand in arithmetic with numbers and other fields (`+ - * / //`). A bound of `int_uniform` that comes out
    between two integers is rounded inward.

    Args:
      name: a field of the same space, or a path such as `"learning_rate.total_steps"` into the pytree around it.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.sweep import choice, field, int_uniform, log_uniform, sample, space
      >>> warm = space(
      ...     js.WarmupStableDecay,
      ...     peak_value=log_uniform(1e-4, 1e-1),
      ...     total_steps=choice(100, 1_000),
      ...     warmup_steps=int_uniform(0, 0.1 * field("total_steps")),
      ...     decay_steps=field("total_steps") // 5,
      ... )
      >>> S = sample(warm, 16)
      >>> bool((S.warmup_steps <= S.total_steps / 10).all()), bool((5 * S.decay_steps == S.total_steps).all())
      (True, True)
    """

    name: str

    def __repr__(self) -> str:
        return f"field({self.name!r})"

    def of(self, get: Callable[[str], Any]) -> Any:
        return get(self.name)

    def names(self) -> set[str]:
        return {self.name}


_OPERATIONS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
}


@dataclasses.dataclass(frozen=True, repr=False)
class _Arithmetic(Expression):
    sign: str
    left: Any
    right: Any

    def __post_init__(self) -> None:
        for side in (self.left, self.right):
            if not isinstance(side, Expression) and (
                isinstance(side, bool) or not isinstance(side, (int, float, np.number))
            ):
                raise TypeError(f"field: {self!r}; write numbers and other fields beside a field.")

    def __repr__(self) -> str:
        sides = (f"({x!r})" if isinstance(x, _Arithmetic) else repr(x) for x in (self.left, self.right))
        return f" {self.sign} ".join(sides)

    def of(self, get: Callable[[str], Any]) -> Any:
        left, right = (x.of(get) if isinstance(x, Expression) else x for x in (self.left, self.right))
        return _OPERATIONS[self.sign](left, right)

    def names(self) -> set[str]:
        return {name for x in (self.left, self.right) if isinstance(x, Expression) for name in x.names()}


# --- distributions ---------------------------------------------------------------------------------------------------

# The distributions are classes in lower case: they are written like functions and printed as they are written.


def _finite_ends(owner: str, lo: Any, hi: Any) -> None:
    for name, value in (("lo", lo), ("hi", hi)):
        if isinstance(value, Expression):
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
            raise TypeError(f"{owner}: {name}={format_value(value)}; {name} must be a number.")
        if not math.isfinite(value):
            raise ValueError(f"{owner}: {name}={format_value(value)}; {name} must be a finite number.")
    if not any(isinstance(end, Expression) for end in (lo, hi)) and not lo < hi:
        raise ValueError(
            f"{owner}: lo={format_value(lo)} and hi={format_value(hi)}; write lo < hi, and a fixed value as the "
            f"value alone."
        )


def _inward(lo: Any, hi: Any) -> tuple[int, int]:
    """The integers between two bounds; a hair's breadth is what 0.29 * 100 lacks of 29."""
    return math.ceil(lo - 1e-9 * abs(lo)), math.floor(hi + 1e-9 * abs(hi))


class Distribution:
    """A map from the points of [0, 1) to the values of a field; see `choice`, `uniform` and the others."""

    def at(self, point: float) -> Any:
        """The value at `point`, a number from 0 to 1."""
        raise NotImplementedError(f"{type(self).__name__} has no `at`.")

    def names(self) -> set[str]:
        """The fields that its bounds depend on."""
        ends = (getattr(self, name, None) for name in ("lo", "hi"))
        return {name for end in ends if isinstance(end, Expression) for name in end.names()}

    def resolved(self, get: Callable[[str], Any]) -> Any:
        """It with numbers for bounds, or the only number that they leave; `get` tells the value of a field.

        Errors: ValueError if the bounds leave nothing.
        """
        if not self.names():
            return self
        this: Any = self
        ends = [end.of(get) if isinstance(end, Expression) else end for end in (this.lo, this.hi)]
        lo, hi = _inward(*ends) if isinstance(self, int_uniform) else ends
        if lo > hi:
            raise ValueError(
                f"{self!r} is from {format_value(ends[0])} to {format_value(ends[1])}, which leaves nothing."
            )
        return lo if lo == hi else dataclasses.replace(this, lo=lo, hi=hi)


@dataclasses.dataclass(frozen=True, init=False)
class choice(Distribution):
    """One of the listed values, each as likely as any other.

    What is no number (a `shape`, a flag, None, a space of another family) makes settings of several structures; a value
    that is a space is drawn from in its turn.

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

    @property
    def labels(self) -> list[Any]:
        """A number or a text for each value: for a space the name of its class, with a number if it comes again."""
        labels: list[Any] = []
        for value in self.values:
            value = value.item() if isinstance(value, np.generic) else value
            if value is not None and not isinstance(value, (bool, int, float, str)):
                text = _label(value)
                before = sum(label == text or str(label).startswith(f"{text} ") for label in labels)
                value = f"{text} {before + 1}" if before else text
            labels.append(value)
        return labels

    @property
    def structural(self) -> bool:
        """Whether the values are not numbers, or tables of numbers, of one shape."""
        if any(value is None or isinstance(value, (bool, np.bool_, str, Schedule)) for value in self.values):
            return True
        if any(drawn_from(value) or callable(value) for value in self.values):
            return True
        return len({np.shape(value) for value in self.values}) > 1


@dataclasses.dataclass(frozen=True)
class uniform(Distribution):
    """A number from `lo` to `hi`, every part as likely as any other of its length.

    Args:
      lo, hi: finite numbers, `lo < hi`, or arithmetic on other fields (`field`).

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
      lo, hi: finite numbers above 0, `lo < hi`, or arithmetic on other fields (`field`).

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
        if not isinstance(self.lo, Expression) and self.lo <= 0:
            raise ValueError(f"log_uniform: lo={format_value(self.lo)}; lo must be above 0: write uniform, or lo=1e-6.")

    def at(self, point: float) -> float:
        value = math.exp(math.log(self.lo) * (1 - point) + math.log(self.hi) * point)
        return float(min(max(value, self.lo), self.hi))


@dataclasses.dataclass(frozen=True)
class int_uniform(Distribution):
    """An integer from `lo` to `hi`, both of them too, each as likely as any other.

    Args:
      lo, hi: integers, `lo < hi`, or arithmetic on other fields (`field`), rounded inward.

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
            if not isinstance(getattr(self, name), (int, np.integer, Expression)):
                raise TypeError(f"int_uniform: {name}={format_value(getattr(self, name))}; {name} must be an integer.")

    def at(self, point: float) -> int:
        return int(min(self.lo + math.floor(point * (self.hi - self.lo + 1)), self.hi))


# --- spaces ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Space:
    """Where the settings of one class are drawn from; made by `space`.

    Fields:
      schedule: the class, or a schedule whose other fields stay as they are.
      fields: by name, what is drawn (distributions, other spaces), what follows from it (`field`), and what is fixed.
    """

    schedule: type[Schedule] | Schedule
    fields: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not (isinstance(self.schedule, Schedule) or _is_class(self.schedule)):
            raise TypeError(f"space: {format_value(self.schedule)} is not a schedule or a class of schedules.")
        object.__setattr__(self, "fields", types.MappingProxyType(dict(self.fields)))
        self.cls._reject_unknown(self.fields)
        known = {f.name: f for f in self.cls._fields}
        for name, value in self.fields.items():
            if known[name].static:
                if isinstance(value, (Distribution, Expression)) and not isinstance(value, choice):
                    raise ValueError(f"{self.name}: {name}={value!r}; {name} is structure: write choice(...).")
            elif not isinstance(value, Schedule) and _depth(value) > int(known[name].table):
                raise ValueError(
                    f"{self.name}: {name}={format_value(value)} is a list; write choice(...) to draw from it."
                )

    @property
    def cls(self) -> type[Schedule]:
        return self.schedule if isinstance(self.schedule, type) else type(self.schedule)

    @property
    def name(self) -> str:
        return self.cls.__name__

    def __repr__(self) -> str:
        first = self.name if isinstance(self.schedule, type) else repr(self.schedule)
        return f"space({', '.join([first, *(f'{name}={value!r}' for name, value in self.fields.items())])})"


def space(schedule: Any, /, **fields: Any) -> Space:
    """A space of settings: what of the hyperparameters of a schedule is drawn, what follows, and what is fixed.

    Args:
      schedule: a schedule class, or a schedule whose other fields stay as they are.
      **fields: for each field either of
        - a distribution: `choice`, `uniform`, `log_uniform`, `int_uniform`;
        - another space, where the field is a schedule;
        - arithmetic on other fields (`field`), which may also be the bounds of a distribution;
        - a single value.

    Errors: TypeError for what is not a schedule and for a name that is not a field; ValueError for a list (write
    `choice`) and for a distribution of structure that is not a `choice`.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.sweep import field, int_uniform, log_uniform, space
      >>> space(js.Linear, init_value=log_uniform(1e-4, 0.1), end_value=0.0, steps=100)
      space(Linear, init_value=log_uniform(lo=0.0001, hi=0.1), end_value=0.0, steps=100)
    """
    return Space(schedule, fields)


def drawn_from(x: Any) -> bool:
    """Whether something in a pytree is drawn, or follows from what is drawn."""
    leaves = jax.tree.leaves(x, is_leaf=_is_part)
    return any(isinstance(leaf, (Space, Distribution, Expression)) for leaf in leaves)


def _is_class(x: Any) -> bool:
    return isinstance(x, type) and issubclass(x, Schedule)


def _is_part(x: Any) -> bool:
    return isinstance(x, (Space, Distribution, Expression, Schedule))


def _label(x: Any) -> str:
    """What a value that is no number is called."""
    if isinstance(x, Space):
        return x.name
    return type(x).__name__ if drawn_from(x) else getattr(x, "__qualname__", None) or repr(x)


def _parts(x: Any) -> list[tuple[str, Any]] | None:
    """The parts of a pytree by path; None for a part."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(x, is_leaf=_is_part)
    return None if len(leaves) == 1 and not leaves[0][0] else [(path_text(path), leaf) for path, leaf in leaves]


def _join(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)


class Draws:
    """What has to be drawn for a setting of a space, by path, and how the setting is put together from it.

    Fields:
      space: a pytree of spaces, distributions, arithmetic on fields, schedules and numbers.
      drawn: the distributions by path, those of every value of a `choice` too.
      structural: whether the settings may have several structures.
    """

    def __init__(self, space: Any) -> None:
        self.space = space
        self.structural = False
        self._nodes: dict[str, Any] = {}
        self._add(space, "")
        self.drawn = {path: node for path, node in self._nodes.items() if isinstance(node, Distribution)}
        checked: set[str] = set()
        for path in self._nodes:
            self._check(path, (), checked)

    @property
    def name(self) -> str:
        return self.space.name if isinstance(self.space, Space) else "the space"

    def setting(self, suggest: Callable[[str, Distribution], Any]) -> Any:
        """A setting, for which `suggest` draws what is needed: a value of the distribution at a path.

        Errors: ValueError for a combination that a class refuses, and for bounds that leave nothing.
        """
        return self._built(self.space, "", self._reader(suggest))

    def together(self, points: Callable[[int], np.ndarray], n: int) -> Any | None:
        """`n` settings stacked, put together and checked as one: a hundred thousand take seconds, and not minutes.

        None where that might not be what `setting` makes of the first n points one by one: where a setting is refused,
        where something is drawn that is no number, where a field has both integers and floats, and where a number is
        an array of JAX.
        """
        moving = [path for path, node in self._nodes.items() if isinstance(node, (Distribution, Expression))]
        rows = []
        try:
            for row in points(1 << (n - 1).bit_length())[:n].tolist():
                point = dict(zip(self.drawn, row, strict=True))
                value = self._reader(lambda path, one, point=point: one.at(point[path]))
                rows.append([value(path) for path in moving])
            columns = dict(zip(moving, zip(*rows, strict=True), strict=True))
            if any(len(kinds := {type(x) for x in xs}) > 1 or not kinds <= {int, float} for xs in columns.values()):
                return None
            one = self._built(self.space, "", lambda path: columns[path][0])
            many = self._built(self.space, "", lambda path: np.array(columns[path]))
            if any(isinstance(x, jax.Array) for x in jax.tree.leaves(one)):
                return None
            same = lambda x: np.stack([np.asarray(x)] * n)  # noqa: E731
            return jax.tree.map(lambda x, xs: xs if np.ndim(xs) > np.ndim(x) else same(xs), one, many)
        except (TypeError, ValueError):  # also of trees that differ
            return None

    def _reader(self, suggest: Callable[[str, Distribution], Any]) -> Callable[[str], Any]:
        """A function that tells the value at a path, and draws it where it has to be drawn."""
        values: dict[str, Any] = {}

        def value(path: str) -> Any:
            if path not in values:
                node = self._nodes[path]
                if isinstance(node, (Distribution, Expression)):
                    get = lambda name: _number(name, value(self._found(path, name)))  # noqa: E731
                    node = node.of(get) if isinstance(node, Expression) else node.resolved(get)
                values[path] = suggest(path, node) if isinstance(node, Distribution) else node
            return values[path]

        return value

    def _add(self, x: Any, path: str) -> None:
        """Writes down what has a value: all that is drawn or follows, and what `field` may ask for."""
        if isinstance(x, Space):
            for known in x.cls._fields:
                if known.name in x.fields:
                    given = x.fields[known.name]
                    self.structural |= known.static and isinstance(given, Distribution)
                else:
                    given = known.default if isinstance(x.schedule, type) else getattr(x.schedule, known.name)
                if given is not dataclasses.MISSING:
                    self._add(given, _join(path, known.name))
        elif isinstance(x, Schedule):
            for name, value in hyperparameters(x).items():
                self._nodes[_join(path, name)] = value
        elif (parts := _parts(x)) is not None:
            for name, part in parts:
                self._add(part, _join(path, name))
        else:
            if path in self._nodes:
                raise ValueError(f"space: there are two things of the name {path!r}; write a key without a dot.")
            self._nodes[path] = x
            if isinstance(x, choice):
                self.structural |= x.structural
                for label, value in zip(x.labels, x.values, strict=True):
                    if drawn_from(value):
                        self._add(value, _join(path, label))

    def _built(self, x: Any, path: str, value: Callable[[str], Any]) -> Any:
        if isinstance(x, Space):
            fields = {name: self._built(given, _join(path, name), value) for name, given in x.fields.items()}
            return x.cls(**fields) if isinstance(x.schedule, type) else x.schedule.replace(**fields)
        if isinstance(x, (Distribution, Expression)):
            found = value(path)
            if isinstance(x, choice) and drawn_from(found):
                label = next(label for label, one in zip(x.labels, x.values, strict=True) if one is found)
                return self._built(found, _join(path, label), value)
            return found
        if (parts := _parts(x)) is None or not drawn_from(x):
            return x
        built = [self._built(part, _join(path, name), value) for name, part in parts]
        return jax.tree.structure(x, is_leaf=_is_part).unflatten(built)

    def _found(self, path: str, name: str) -> str:
        """The path of what `name` means for the field at `path`: beside it, or else further out."""
        while path:
            path = path.rpartition(".")[0]
            if (found := _join(path, name)) in self._nodes:
                return found
        raise KeyError(name)

    def _check(self, path: str, before: tuple[str, ...], checked: set[str]) -> None:
        """Refuses fields that there are not, and fields that depend on themselves."""
        node = self._nodes[path]
        if path in before:
            raise ValueError(f"space: {' -> '.join((*before, path))}: a field depends on itself.")
        if path in checked or not isinstance(node, (Distribution, Expression)):
            return
        for name in sorted(node.names()):
            try:
                found = self._found(path, name)
            except KeyError:
                beside = [other.removeprefix(_join(path.rpartition(".")[0], "")) for other in self._nodes]
                raise ValueError(
                    f"space: {path or 'the space'}={node!r} has no field {name!r} beside it: "
                    f"{nearest_name(name, [other for other in beside if other])}"
                ) from None
            self._check(found, (*before, path), checked)
        checked.add(path)


def _number(name: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"space: field({name!r}) is {format_value(value)}, and must be a number.")
    return value


# --- samples ---------------------------------------------------------------------------------------------------------


def sample(
    schedule: Any,
    /,
    n: int,
    method: Literal["sobol", "halton", "random"] = "sobol",
    seed: int = 0,
    where: Callable[[Any], Any] | None = None,
    **spaces: Any,
) -> Any:
    """`n` settings drawn from a space of hyperparameters: stacked as by `grid`, or a list where structures differ.

    The points are one design over all that is drawn, wherever it stands. A hundred thousand settings take a few seconds
    where only numbers are drawn and none is refused, and about a minute where there is a `where`, structure is drawn,
    or settings are refused: these are made one by one. A combination that a class or `where` refuses
    (a warmup longer than the whole) is drawn again, and a warning says how many; `field` keeps to it by construction.

    Args:
      schedule: either of
        - a schedule class, or a schedule whose other fields stay as they are, with `**spaces`;
        - a `space(...)`, or a pytree of spaces, distributions, schedules and numbers;
        - a list of these, the families: they share the `n` settings evenly (the first ones have those that are left
          over), each fills its own space, and they follow each other in the list that comes out.
      n: how many settings, 1 or more; of all families together.
      method: `"sobol"` and `"halton"` fill the space evenly (they need scipy), `"random"` draws independently.
      seed: an integer, 0 or more; the same seed draws the same settings.
      where: a condition, `where(setting) -> bool`, or None.
      **spaces: for each field what `space` takes. A field that is called like one of these arguments goes into a
        `space`.

    Returns: the settings stacked, and a list of them if there are families or if structure is drawn (a `choice` of a
    `shape`, a flag, None, spaces); `sweep` takes both.

    Errors: TypeError for a name that is not a field; ValueError for a list (write `choice`), for a space in which
    nothing is drawn, and if almost every combination is refused.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.sweep import choice, int_uniform, log_uniform, sample, space
      >>> s = js.WarmupCosine(peak_value=0.1, warmup_steps=0, total_steps=200)
      >>> S = sample(s, 8, peak_value=log_uniform(1e-4, 1e-1), warmup_steps=choice(0, 50))
      >>> sorted(S.warmup_steps.tolist())
      [0, 0, 0, 0, 50, 50, 50, 50]
      >>> rate = space(s, peak_value=log_uniform(1e-4, 1e-1))
      >>> both = sample({"learning_rate": rate, "patience": int_uniform(3, 10), "b1": 0.9}, 8)
      >>> both["learning_rate"].peak_value.shape, sorted(both["patience"].tolist())
      ((8,), [3, 4, 5, 6, 7, 8, 9, 10])

    Source: scipy.stats.qmc (Owen's scrambling of Sobol's points).
    """
    if isinstance(schedule, Schedule) or _is_class(schedule):
        schedule = Space(schedule, spaces)
    elif spaces:
        raise TypeError(
            f"sample: {', '.join(spaces)} beside {format_value(schedule)}; write the fields in its space(...)."
        )
    for name, value, least in (("n", n, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"sample: {name}={format_value(value)}; {name} must be an integer, {least} or more.")
    if method not in METHODS:
        raise ValueError(f"sample: method={method!r}; {nearest_name(str(method), METHODS)}")
    families = schedule if isinstance(schedule, list) else [schedule]
    if not 0 < len(families) <= n:
        raise ValueError(f"sample: n={n} for {len(families)} spaces; write one space or more, and n for all together.")
    plans = [_drawing(family) for family in families]
    settings: list[Any] = []
    for i, plan in enumerate(plans):
        share = int(n) // len(plans) + (i < int(n) % len(plans))
        points = lambda plan=plan: _POINTS[method](len(plan.drawn), int(seed))  # noqa: E731
        if where is None and not plan.structural and (many := plan.together(points(), share)) is not None:
            if not isinstance(schedule, list):
                return many
            settings += unstack(many)
            continue
        drawn, count, refusal = _draw(plan, points(), share, where)
        told = _told(plan, where, share, len(drawn), count, refusal)
        if told:
            warnings.warn(told, JaxschedWarning, stacklevel=2)
        settings += drawn
    return settings if isinstance(schedule, list) or plans[0].structural else stack(*settings)


def _drawing(space: Any) -> Draws:
    """The plan of a space in which something is drawn."""
    if isinstance(space, Schedule) or _is_class(space):
        space = Space(space, {})
    plan = Draws(space)
    if not plan.drawn:
        what = f"no field of {plan.name}" if isinstance(space, Space) else f"nothing in {format_value(space)}"
        raise ValueError(f"sample: {what} is drawn; write a distribution: peak_value=log_uniform(1e-4, 1e-1).")
    return plan


def _draw(
    plan: Draws, points: Callable[[int], np.ndarray], n: int, where: Callable[[Any], Any] | None
) -> tuple[list[Any], int, ValueError | None]:
    """Up to `n` settings that are accepted, how many were drawn for them, and the last refusal."""
    settings: list[Any] = []
    count, refusal = 0, None
    size = 1 << (n - 1).bit_length()
    while count < max(64 * size, 1024):
        # As many again as there are: Sobol's points are balanced at every power of two.
        for row in points(count or size):
            count += 1
            point = dict(zip(plan.drawn, map(float, row), strict=True))
            try:
                settings.append(accepted(plan.setting(lambda path, one, point=point: one.at(point[path])), where))
            except ValueError as error:
                refusal = error
            if len(settings) == n:
                return settings, count, refusal
    return settings, count, refusal


def accepted(setting: Any, where: Callable[[Any], Any] | None) -> Any:
    """The setting, or a ValueError if it does not meet the condition."""
    if where is not None and not where(setting):
        raise ValueError(f"where(...) is not True for {setting!r}.")
    return setting


def _told(plan: Draws, where: Any, n: int, found: int, count: int, refusal: ValueError | None) -> str | None:
    """What there is to tell of refusals, as an error if too few were accepted."""
    owner = plan.name if where is None else f"{plan.name} (or where)"
    if found < n:
        raise ValueError(
            f"sample: {owner} refuses {count - found} of {count} drawn settings; draw from a space in which most are "
            f"allowed. The last refusal was: {refusal}"
        )
    if refusal is None:
        return None
    return (
        f"sample: {owner} refused {count - n} of {count} drawn settings, and others were drawn instead. The last "
        f"refusal was: {refusal}"
    )


def _depth(value: Any) -> int:
    """How many axes a list or an array has; a list of schedules, or of what is drawn, has none."""
    if isinstance(value, (list, tuple)):
        return 0 if any(map(_is_part, value)) else 1 + max(map(_depth, value), default=0)
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
    return optional("scipy.stats.qmc", "Sobol and Halton points need", "sweep")


_POINTS = dict(zip(METHODS, (_sobol, _halton, _random), strict=True))
