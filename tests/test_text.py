"""The language of schedules: what `repr` prints is read back, and nothing else is."""

from __future__ import annotations

import dataclasses
import json
import random
import tomllib

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import tomli_w
import tyro
import yaml

import jaxsched as js
from jaxsched.sweep import field
from jaxsched.text import evaluate
from jaxsched.text.names import MOST_DEPTH
from jaxsched.text.parsing import MOST_CHARACTERS

from . import mutations
from .cases import CASES, x64

ALL = [
    pytest.param(make, id=name)
    for name, make in mutations.makers()
    if name not in mutations.NO_SCHEDULE | mutations.NO_TEXT
]


def same(a, b):
    """One structure, and the same numbers in JAX's default type."""
    (xs, left), (ys, right) = jax.tree.flatten(a), jax.tree.flatten(b)
    assert left == right
    for x, y in zip(xs, ys, strict=True):
        assert jnp.result_type(x) == jnp.result_type(y)
        np.testing.assert_array_equal(jnp.asarray(x), jnp.asarray(y))


@pytest.mark.parametrize("make", ALL)
def test_every_schedule_comes_back(make):
    """From its expression, from JSON, YAML and TOML; and the function of a peer's arguments is what it builds."""
    schedule = make()
    same(js.parse(repr(schedule)), schedule)
    data = js.to_dict(schedule)
    assert data["jaxsched"] == 1
    same(js.from_dict(mutations.plain(data)), schedule)
    same(js.from_dict(yaml.safe_load(yaml.safe_dump(data))), schedule)
    same(js.from_dict(tomllib.loads(tomli_w.dumps(data))), schedule)


def test_few_schedules_have_no_text():
    assert len(ALL) >= 340
    made = dict(mutations.makers())
    for name in mutations.NO_TEXT:
        assert not mutations.has_text(made[name]()), name


def composed(rng, depth):
    """A composition of every operator and method, as deep as wanted."""
    if depth == 0:
        case = CASES[rng.integers(len(CASES))]
        return case.cls(**case.draw(rng, 100))
    a = composed(rng, depth - 1)
    number = round(float(rng.uniform(0.1, 3)), 3)
    ways = [
        lambda: a + composed(rng, depth - 1),
        lambda: a * number,
        lambda: number * a,
        lambda: number - a,
        lambda: a / number,
        lambda: -a,
        lambda: a.then(composed(rng, depth - 1), at=10 * int(rng.integers(20, 40)) + 400 * depth),
        lambda: js.join([a, number, composed(rng, 0)], [400 * depth, 400 * depth + 50]),
        lambda: a.clip(lo=0.0),
        lambda: a.clip(hi=number),
        lambda: a.shift(int(rng.integers(-9, 9))),
        lambda: a.hold(7),
        lambda: a.per_epoch(3.5),
        lambda: a.repeat(50, period_mult=2, value_mult=0.5, cycles=3),
        lambda: a.warmup(20, shape="cosine", init_factor=0.25),
        lambda: a.cooldown(at=60, steps=20, shape="1-sqrt"),
        lambda: a.noise(0.1, seed=3, relative=False),
        lambda: js.Constant(number) * a * 2 + (a + 1.0),
    ]
    return ways[rng.integers(len(ways))]()


def test_every_composition_comes_back():
    rng = np.random.default_rng(5)
    for i in range(150):
        schedule = composed(rng, 1 + i % 4)
        same(js.parse(repr(schedule)), schedule)
        same(js.from_dict(mutations.plain(js.to_dict(schedule))), schedule)


def test_in_64_bits():
    with x64():
        s = js.WarmupCosine(0.1 + 2**-40, warmup_steps=3, total_steps=2**40)
        same(js.parse(repr(s)), s)
        same(js.from_dict(mutations.plain(js.to_dict(s))), s)
        low = js.Constant(jnp.float32(0.1))
        assert js.from_dict(mutations.plain(js.to_dict(low)))(0).dtype == jnp.float32


def test_stacked_settings_come_back():
    S = js.grid(js.WarmupCosine, peak_value=[0.1, 0.2], warmup_steps=[0, 5], total_steps=10)
    same(js.parse(repr(S)), S)
    same(js.from_dict(mutations.plain(js.to_dict(S))), S)


def test_dicts_keep_types():
    s = js.Linear(jnp.bfloat16(0.1), jnp.float16(0.0), steps=np.int32(9))
    data = mutations.plain(js.to_dict(s))
    assert data["init_value"] == {"dtype": "bfloat16", "values": 0.100098}
    same(js.from_dict(data), s)


# --- what the language has -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("js.Linear(1, 0, 3)", "Linear(init_value=1.0, end_value=0.0, steps=3)"),
        ("jaxsched.Linear(1, 0, steps=3,)", "Linear(init_value=1.0, end_value=0.0, steps=3)"),
        ("  Linear(1,\n    0,  # down\n    3)\n", "Linear(init_value=1.0, end_value=0.0, steps=3)"),
        ("Constant(1/3*3)", "Constant(constant_value=1.0)"),
        ("Linear(1e-3, 0, 30 * 1_250)", "Linear(init_value=0.001, end_value=0.0, steps=37500)"),
        ("Linear(10**-3, 0, 2**16 // 2)", "Linear(init_value=0.001, end_value=0.0, steps=32768)"),
        ("-Constant(1) - 1.0", "(Constant(constant_value=-1.0) * 1.0) + (Constant(constant_value=-1.0) * 1.0)"),
        ("Linear(1, 0, 3).replace(steps=4)", "Linear(init_value=1.0, end_value=0.0, steps=4)"),
        ("compat.torch.StepLR(0.1, 30)", "compat.torch.StepLR(lr=0.1, step_size=30)"),
        (
            "compat.optax.piecewise_constant_schedule(1.0, {10: 0.5})",
            "PiecewiseConstant(boundaries=[10], values=[1.0, 0.5])",
        ),
    ],
)
def test_expressions(text, expected):
    assert repr(js.parse(text)) == expected


def test_functions_of_peers():
    text = "compat.transformers.get_scheduler('cosine', lr=0.5, num_warmup_steps=10, num_training_steps=20)"
    values = js.parse(text).table(21)
    np.testing.assert_allclose(values[jnp.array([0, 5, 10, 15, 20])], [0, 0.25, 0.5, 0.25, 0], atol=1e-7)


def test_lengths_have_units():
    timeline = js.Timeline(1_000, steps_per_epoch=50, tokens_per_step=2_000)
    text = "WarmupCosine(0.1, '2%', 100_000)"
    assert js.parse(text).warmup_steps == js.parse(text, timeline=timeline).warmup_steps == 2_000  # of its own horizon
    assert js.parse("WarmupCosine(0.1, '2%', '10ep')", timeline=timeline).warmup_steps == 10
    assert js.parse("Constant(1).cooldown('80%', steps='2e4tok')", timeline=timeline).at == 800
    assert js.parse("Constant(1).warmup('3ep')", timeline=timeline).steps == 150
    joined = js.parse("join([Constant(1), Constant(2), Constant(3)], ['10%', 200])", timeline=timeline)
    assert joined.boundaries == (100, 200)
    assert js.parse("Constant(1).then(Constant(2), at='1ep')", timeline=timeline).boundaries == (50,)
    table = js.parse("PiecewiseConstant(['1ep', '50%'], [1, 2, 3])", timeline=timeline)
    assert table.boundaries.tolist() == [50, 500]
    assert js.parse("StepDecay(0.1, decay_rate=0.5, decay_steps='30ep')", timeline=timeline).decay_steps == 1_500
    assert js.parse("StepDecay(0.1, 0.5, 9).replace(decay_steps='30ep')", timeline=timeline).decay_steps == 1_500


def test_names_of_the_user():
    class Halves(js.Recipe):
        peak_value: js.fields.Scalar
        total_steps: js.fields.Length

        def build(self):
            return js.Linear(self.peak_value, 0.0, self.total_steps)

    s = Halves(0.1, 10) * 0.5
    assert repr(js.parse(repr(s), known={"Halves": Halves})) == repr(s)
    assert repr(js.from_dict(js.to_dict(s), known={"Halves": Halves})) == repr(s)
    with pytest.raises(js.text.ParseError, match="no schedule 'Halves'"):
        js.parse(repr(s))
    root = js.Lambda(np.sqrt)
    assert js.parse(repr(root), known={"sqrt": np.sqrt}).fn is np.sqrt
    assert js.from_dict(mutations.plain(js.to_dict(root)), known={"sqrt": np.sqrt}).fn is np.sqrt
    with pytest.raises(TypeError, match="known holds 3"):
        js.parse("Constant(1)", known=[3])


def test_other_values():
    drawn = evaluate("[log_uniform(1e-4, 0.1), 'a', {'b': 2}]", known=[js.log_uniform])
    assert drawn[0] == js.log_uniform(1e-4, 0.1)
    assert drawn[1:] == ["a", {"b": 2}]
    assert repr(evaluate("field('total_steps') // 5 + 1", known=[field])) == repr(field("total_steps") // 5 + 1)


# --- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("WarmupCosin(1, 2, 3)", 0, "no schedule 'WarmupCosin': did you mean 'WarmupCosine'?"),
        ("0.5 * Liner(1, 0, 3)", 6, "did you mean 'Linear'?"),
        ("Linear(1, 0, step=3)", 13, "no field 'step': did you mean 'steps'?"),
        ("Constant(1).warmpu(3)", 12, "no method 'warmpu': did you mean 'warmup'?"),
        ("Constant(1).\\\nwarmpu(3)", 14, "no method 'warmpu'"),
        ("'é'.x(Constant(1))", 0, "is no schedule, and has no method .x"),
        ("(Constant(1)\n + Linear(1, 0, steps=-3))", 29, "steps=-3; steps must be a number of steps, 0 or more"),
        ("Linear(1, 0, steps='3ep')", 13, "steps='3ep' needs a timeline"),
        ("Linear(1, 0, steps='30 %')", 13, "needs a timeline, or a total_steps in the same call"),
        ("WarmupCosine(0.1, warmup_steps='2 parsec', total_steps=9)", 18, "unknown unit 'parsec'"),
        ("WarmupCosine(0.1, 20, 10)", 18, "warmup_steps=20 and total_steps=10"),
        ("Linear(1, 0, 3", 6, "this '(' is never closed"),
        ("Linear(1, 0, 3))", 15, "')' closes what was not opened"),
        ("Linear(1, 0 3)", 10, "invalid syntax"),
        ("Linear(1, 0, 2 ** 10**9)", 18, "too large"),
        ("Linear(1, 0, 1 / 0)", 17, "division by zero"),
        ("Constant(1e308 * 10)", 17, "inf is not a finite number"),
        ("Constant(1) ** 2", 15, "** is for numbers"),
        ("Constant(1) % 2", 14, "the operators are"),
        ("Constant(1) / Constant(2)", 14, "/ takes a number on its right side"),
        ("Constant(1) + [1]", 14, "[1] is no number and no schedule"),
        ("[0] * 10**9", 0, "[0] is no number and no schedule"),
        ("__import__('os').system('ls')", 0, "no schedule '__import__'"),
        ("Constant.__class__(1)", 0, "no schedule 'Constant.__class__'"),
        ("Constant(1).value.__globals__", 0, "is not called"),
        ("Constant(1).table(10**9)", 12, "no method 'table'"),
        ("(lambda: 0)()", 1, "no lambda"),
        ("[x for x in y]", 0, "has no list comp"),
        ("f'{1}'", 0, "has no joined str"),
        ("Linear(*[1, 0, 3])", 0, "* and ** before an argument"),
        ("Linear(1, 0, steps=3, steps=4)", 22, "given twice"),
        ("Constant(1j)", 9, "1j is not a number"),
        ("Constant(True)", 9, "is not a number"),
        ("0.1", 0, "write Constant(0.1)"),
        ("'a'", 0, "this makes a str"),
        ("Lambda(fn=<lambda>)", 10, "stands for a function, which no text can hold"),
        ("Linear(init_value=<float32[]>, end_value=0.0, steps=3)", 18, "stands for a traced number"),
        ("compat.torch.StepL(1)", 0, "did you mean 'StepLR'?"),
        ("compat.fastai.SchedCos(1, 2)", 0, "write compat.others.fastai.SchedCos"),
        ("compat.torch.from_scheduler(1)", 0, "has no 'from_scheduler'"),
        ("compat.to_torch(1)", 0, "there is no compat.to_torch"),
        ("Constant(1)\0", 11, "null character"),
        ("# nothing", None, "the text is empty"),
        ("WarmupCosine", 0, "write WarmupCosine(peak_value, warmup_steps, total_steps, init_value=0.0, end_value=0.0)"),
        ("CosineAnnealingLR(0.1, T_max=9)", 0, "write compat.torch.CosineAnnealingLR"),
        ("optax.cosine_decay_schedule(0.1, 9)", 0, "write compat.optax.cosine_decay_schedule"),
        ("compat.torch", 0, "compat.torch is a module: write compat.torch.LambdaLR(...)"),
        ("compat.torch.jnp.ones(3)", 0, "there is no compat.torch.jnp.ones: did you mean 'compat.torch'?"),
        ("compat.others.ignite.simulate_values(num_events=10**9, scheduler=1)", 0, "has no 'simulate_values'"),
        ("compat.keras.to_config(Constant(1))", 0, "has no 'to_config'"),
        ("Constant(0x" + "f" * 5_000 + ")", 9, "the number is too large"),
        ("Constant(" + "9" * 5_000 + ")", 0, "too many digits"),
        ("Constant(" + " * ".join(["10**300"] * 5) + ")", 19, "too large"),
        ("  ", None, "the text is empty"),
        ("x" * (MOST_CHARACTERS + 1), None, "1_000_001 characters"),
        ("(" * 500 + ")" * 500, MOST_DEPTH, "brackets are more than 100 deep"),
        ("-" * 500 + "Constant(1)", 201, "more than 200 deep"),
        ("-" * 200_000 + "1", None, "nested too deep"),
        ("Constant(1)" + ".shift(1)" * 50_000, None, "deep"),
    ],
)
def test_refusals(text, column, says):
    with pytest.raises(js.text.ParseError) as refusal:
        js.parse(text)
    error = refusal.value
    assert says in error.reason
    assert "\n" not in error.reason
    if column is not None:
        assert error.column == column
        *_, line, caret = str(error).split("\n")
        assert len(caret) <= 120
        assert line[caret.index("^")] == (text[column] if text[column].isprintable() else " ")


def test_a_long_sum_is_no_depth():
    s = js.parse(" + ".join(["Constant(1)"] * 150))
    assert len(s.schedules) == 150


def test_only_text_is_parsed():
    with pytest.raises(TypeError, match=r"text=0\.1"):
        js.parse(0.1)
    with pytest.raises(TypeError, match="timeline=100"):
        js.parse("Constant(1)", timeline=100)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "there is no 'type'"),
        ({"type": "Linea"}, "did you mean 'Linear'?"),
        ({"jaxsched": 2, "type": "Linear"}, "jaxsched=2"),
        ({"type": "Linear", "init_value": 1, "end_value": 0, "stepz": 3}, "no field 'stepz'"),
        ({"type": "Sum", "schedules": [1.0, {"type": "Linear", "steps": -1}]}, "at schedules[1]: "),
        ({"type": "Shift", "schedule": "Linear(", "steps": 1}, "is never closed"),
        ({"type": "Constant", "constant_value": {"dtype": "float99", "values": 1}}, "did you mean 'float64'?"),
        ({"type": "Constant", "constant_value": {"dtype": None, "values": 1}}, "at constant_value: dtype=None"),
        ({"type": "Constant", "constant_value": {"dtype": "int8", "values": 2**40}}, "values=1099511627776: "),
        ({"type": "Constant", "constant_value": "3e-4"}, "YAML reads 3e-4 as text, and 3.0e-4 as a number"),
        ({"type": "Lambda", "fn": {"function": "os.system"}}, "no schedule 'os.system'"),
    ],
)
def test_dicts_are_refused_at_their_place(data, says):
    with pytest.raises(js.text.ParseError) as refusal:
        js.from_dict(data)
    assert says in str(refusal.value)


def test_what_no_file_holds():
    with pytest.raises(TypeError, match=r"Lambda\.fn"):
        js.to_dict(js.Lambda(lambda t: t))
    with pytest.raises(TypeError, match=r"Product.schedules\[0\].init_value is traced"):
        jax.jit(lambda s: js.to_dict(s * 2))(js.Linear(1.0, 0.0, 3))
    with pytest.raises(TypeError, match="gradient of an integer"):
        js.to_dict(jax.grad(lambda s: s(1), allow_int=True)(js.Linear(1.0, 0.0, 3)))
    with pytest.raises(TypeError, match="3 is not a schedule"):
        js.to_dict(3)
    deep = {"type": "Constant", "constant_value": 1}
    for _ in range(250):
        deep = {"type": "Shift", "schedule": deep, "steps": 1}
    with pytest.raises(js.text.ParseError, match="200 deep"):
        js.from_dict(deep)


def test_small_files_that_stand_for_too_much():
    """As a YAML file with aliases does."""
    many: list = [1.0]
    for _ in range(40):
        many = [many, many]
    with pytest.raises(js.text.ParseError, match="more than 1_000_000 values"):
        js.from_dict({"type": "Constant", "constant_value": many})
    deep = js.Constant(1.0)
    for _ in range(120):
        deep = deep.shift(1)
    same(js.from_dict(js.to_dict(deep)), deep)
    same(js.parse(repr(deep)), deep)
    for _ in range(120):
        deep = deep.shift(1)
    with pytest.raises(TypeError, match="200 deep"):
        js.to_dict(deep)


def test_expressions_inside_of_dicts():
    data = {"type": "Sum", "schedules": ["Linear(1, 0, 3) * 2", 0.5]}
    assert repr(js.from_dict(data)) == "(Linear(init_value=1.0, end_value=0.0, steps=3) * 2.0) + 0.5"


# --- broken at random ------------------------------------------------------------------------------------------------


def test_mutations_are_schedules_or_the_error():
    """`make fuzz` does so 100,000 times."""
    made, refused = mutations.survive(2_000, seed=1)
    assert made > 20
    assert refused > 1_000


def test_no_code_is_run():
    texts, rng = mutations.expressions(), random.Random(3)  # all modules that they name are loaded by now
    hostile = ["__import__('os').system('true')", "open('/dev/null')", "Lambda(eval)", "Lambda(fn='exec')"]
    texts = [*hostile, *(mutations.mutated(text, hostile, rng) for text in texts)]
    with mutations.nothing_is_run():
        for text in texts:
            try:
                js.parse(text)
            except js.text.ParseError:
                continue
    with pytest.raises(AssertionError), mutations.nothing_is_run():
        open("/dev/null").close()


# --- in configs ------------------------------------------------------------------------------------------------------


DEFAULT = js.ScheduleConfig("WarmupCosine(0.1, '5%', '10ep')", "10ep", 100)


@dataclasses.dataclass
class Config:
    learning_rate: js.ScheduleConfig = DEFAULT
    layers: int = 2


def test_a_config_of_tyro():
    assert tyro.cli(Config, args=[]).learning_rate.build().warmup_steps == 50
    args = ["--learning-rate.expression", "Linear(1, 0, '2ep')", "--learning-rate.total-steps", "500"]
    assert repr(tyro.cli(Config, args=args).learning_rate.build()) == "Linear(init_value=1.0, end_value=0.0, steps=200)"


def test_a_config_of_ml_collections():
    config = ml_collections.ConfigDict(dataclasses.asdict(Config()))
    config.learning_rate.expression = "Linear(1, 0, '50%')"
    again = ml_collections.ConfigDict(json.loads(config.to_json()))
    assert js.ScheduleConfig(**again.learning_rate).build().steps == 500


def test_a_config_without_a_horizon():
    assert js.ScheduleConfig("Constant(1)").build()(3) == 1
    with pytest.raises(ValueError, match="total_steps=None"):
        js.ScheduleConfig("Constant(1)", steps_per_epoch=3).build()
