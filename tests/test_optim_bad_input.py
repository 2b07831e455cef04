"""Arguments, metrics and states that `jaxsched.optim` refuses: the error names the field, the value and the remedy."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax.transforms import partition  # at the top only since optax 0.2.5

import jaxsched as js

ONES = jnp.ones(3)
LR = js.WarmupCosine(peak_value=0.1, warmup_steps=3, total_steps=12)
STATE = js.monitor_gradients().init({"a": jnp.ones((2, 3)), "b": {"c": jnp.ones(4)}})
PARAMS = {"head": {"bias": ONES}, "body": {"kernel": ONES}}


def adam(**arguments: Any) -> Any:
    return js.inject_hyperparams(optax.adam)(**arguments)


def groups(groups: Any) -> Any:
    return js.by_path(groups).init(PARAMS)


def plateau(**arguments: Any) -> Any:
    return js.reduce_on_plateau(**arguments)


def greedy(**arguments: Any) -> Any:
    return js.greedy(0.1, **arguments)


def warmup(**arguments: Any) -> Any:
    return js.adaptive_warmup(**{"learning_rate": 0.1, "warmup_steps": 10} | arguments)


def guard(**arguments: Any) -> Any:
    return js.guard_spikes(**{"inner": optax.sgd(0.1)} | arguments)


def monitor(**arguments: Any) -> Any:
    return js.monitor_gradients(**arguments)


layerwise = functools.partial(js.layerwise, LR)
diagnose = functools.partial(js.optim.diagnose, STATE)

BAD: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (plateau, {"factor": 1.0}, ValueError, "reduce_on_plateau: factor=1.0; factor must be a number between 0 and 1"),
    (plateau, {"factor": -0.1}, ValueError, "factor=-0.1"),
    (plateau, {"factor": "0.1"}, TypeError, "factor='0.1' is text"),
    (plateau, {"factor": [0.1, 0.5]}, ValueError, "jax.vmap runs over several"),
    (plateau, {"factor": 1 - 1e-9}, ValueError, "is 1.0 as a float32"),
    (plateau, {"patience": -1}, ValueError, "patience=-1; patience must be a number of observations, 0 or more"),
    (plateau, {"patience": 2.5}, ValueError, "patience=2.5"),
    (plateau, {"patience": None}, TypeError, "patience=None"),
    (plateau, {"patience": np.float64(3e9)}, ValueError, "of at most 2**31 - 1"),
    (plateau, {"patience": 10**12}, ValueError, "patience=1000000000000"),
    (plateau, {"cooldown": -1}, ValueError, "cooldown=-1"),
    (plateau, {"threshold": -0.1}, ValueError, "threshold=-0.1"),
    (plateau, {"threshold": 2.0}, ValueError, "threshold=2.0 and threshold_mode='rel'; a share of the best"),
    (plateau, {"min_lr": float("nan")}, ValueError, "min_lr=nan is not finite"),
    (plateau, {"min_lr": 1e300}, ValueError, "is inf as a float32"),
    (plateau, {"eps": -1e-8}, ValueError, "eps=-1e-08"),
    (plateau, {"window": 0}, ValueError, "window=0"),
    (plateau, {"warmup": -3}, ValueError, "warmup=-3"),
    (plateau, {"mode": "minimum"}, ValueError, "mode='minimum'; did you mean 'min'?"),
    (plateau, {"mode": 0}, ValueError, "mode=0"),
    (plateau, {"mode": np.array(["min"])}, ValueError, "mode=['min']"),
    (plateau, {"threshold_mode": "relative"}, ValueError, "threshold_mode='relative'; did you mean 'rel'?"),
    (plateau, {"nan": "skip"}, ValueError, "nan='skip'"),
    (plateau, {"sign_safe": 1}, TypeError, "sign_safe=1; sign_safe must be True or False"),
    (plateau, {"learning_rate": -0.1}, ValueError, "negates the updates itself: write a rate of 0 or more"),
    (plateau, {"learning_rate": js.Constant([0.1, 0.2])}, ValueError, "is several settings in one"),
    (plateau, {"learning_rate": optax.adam(1e-3)}, TypeError, "learning_rate is an optimizer"),
    (plateau, {"learning_rate": "0.1"}, TypeError, "learning_rate='0.1' is text"),
    (greedy, {"factor": 1.0}, ValueError, "greedy: factor=1.0; factor must be a number between 0 and 1"),
    (greedy, {"cooldown": 1.5}, ValueError, "cooldown=1.5"),
    (greedy, {"warmup": "3"}, TypeError, "warmup='3' is text"),
    (greedy, {"max_lr": 0.0}, ValueError, "max_lr=0.0; max_lr must be a finite number above 0"),
    (greedy, {"min_lr": 1.0, "max_lr": 0.1}, ValueError, "min_lr=1.0 and max_lr=0.1; write min_lr <= max_lr"),
    (greedy, {"threshold_mode": "absolute"}, ValueError, "did you mean 'abs'?"),
    (greedy, {"reset_start": 0}, ValueError, "reset_start=0; reset_start must be a number of observations, 1 or more"),
    (greedy, {"smooth": 1}, TypeError, "smooth=1; smooth must be True or False"),
    (greedy, {"smooth": True, "window_size": 0}, ValueError, "window_size=0; window_size must be a Python integer"),
    (greedy, {"smooth": True, "window_size": 2.5}, TypeError, "window_size=2.5"),
    (warmup, {"warmup_steps": -1}, ValueError, "warmup_steps=-1; warmup_steps must be a whole number of"),
    (warmup, {"warmup_steps": 1.5}, ValueError, "warmup_steps=1.5"),
    (warmup, {"warmup_steps": None}, TypeError, "warmup_steps=None"),
    (warmup, {"shape": "sine"}, ValueError, "shape='sine'; did you mean 'cosine'"),
    (warmup, {"shape": "exponential"}, ValueError, "init_factor=0.0; an exponential warmup starts above 0"),
    (warmup, {"init_factor": 1.5}, ValueError, "init_factor=1.5; init_factor must be a number from 0 to 1"),
    (warmup, {"min_steps": 11}, ValueError, "min_steps=11 and warmup_steps=10; write min_steps <= warmup_steps"),
    (warmup, {"max_steps": 9}, ValueError, "warmup_steps=10 and max_steps=9; write warmup_steps <= max_steps"),
    (warmup, {"smoothing": 1.0}, ValueError, "smoothing=1.0; smoothing must be a number from 0 to below 1"),
    (warmup, {"spike": 0.0}, ValueError, "spike=0.0"),
    (warmup, {"learning_rate": "0.1"}, TypeError, "learning_rate='0.1' is text"),
    (guard, {"window": 0}, ValueError, "guard_spikes: window=0; window must be a number of observations, 1 or more"),
    (guard, {"threshold": 0.0}, ValueError, "threshold=0.0; threshold must be a finite number above 0"),
    (guard, {"burn_in": 1}, ValueError, "burn_in=1; burn_in must be a number of observations, 2 or more"),
    (guard, {"backoff": 1.5}, ValueError, "backoff=1.5; backoff must be a number from 0 to 1"),
    (guard, {"rewarm": "1ep"}, TypeError, "rewarm='1ep' is text"),
    (guard, {"max_skips": 0.5}, ValueError, "max_skips=0.5; max_skips must be a number of updates, 0 or more"),
    (guard, {"hold": 1}, TypeError, "hold=1; hold must be True or False"),
    (guard, {"inner": None}, TypeError, "inner=None is not a GradientTransformation; write an optimizer, such as"),
    (guard, {"inner": optax.MultiSteps(optax.sgd(1.0), 2)}, TypeError, "is not a GradientTransformation"),
    (
        js.optim.autoclip,
        {"percentile": 101.0},
        ValueError,
        "percentile=101.0; percentile must be a percentile, from 0 to 100",
    ),
    (js.optim.autoclip, {"percentile": "10%"}, TypeError, "percentile='10%' is text"),
    (js.optim.autoclip, {"history": 0}, ValueError, "history=0; history must be a Python integer, 1 or more"),
    (js.optim.autoclip, {"history": 10.0}, TypeError, "history=10.0; history must be a Python integer, 1 or more"),
    (js.optim.autoclip, {"history": True}, TypeError, "history=True"),
    (js.optim.zclip, {"alpha": 1.0}, ValueError, "alpha=1.0; alpha must be a number from 0 to below 1, such as 0.97"),
    (js.optim.zclip, {"z_threshold": 0.0}, ValueError, "z_threshold=0.0; z_threshold must be a finite number above 0"),
    (js.optim.zclip, {"burn_in": 0}, ValueError, "burn_in=0; burn_in must be a number of observations, 1 or more"),
    (js.optim.zclip, {"max_norm": np.inf}, ValueError, "max_norm=inf is not finite"),
    (js.optim.zclip, {"eps": None}, TypeError, "eps=None is not a number"),
    (monitor, {"inner": "adam"}, TypeError, "inner='adam' is not an optimizer; write an optimizer"),
    (monitor, {"inner": optax.adam}, TypeError, "is not an optimizer"),
    (monitor, {"decay": 1.0}, ValueError, "monitor_gradients: decay=1.0; decay must be a number from 0"),
    (monitor, {"decay": float("nan")}, ValueError, "decay=nan"),
    (monitor, {"decay": [0.9, 0.99]}, ValueError, "decay=[0.9, 0.99]"),
    (diagnose, {"vanishing": 0.0}, ValueError, "diagnose: vanishing=0.0; vanishing must be a finite number above 0"),
    (diagnose, {"exploding": "much"}, TypeError, "diagnose: exploding='much' is text"),
    (diagnose, {"min_updates": 0}, ValueError, "diagnose: min_updates=0"),
    (diagnose, {"layers": "w"}, TypeError, "layers='w'; write a list of paths"),
    (diagnose, {"layers": ["w", 3]}, TypeError, "write a list of paths"),
    (diagnose, {"layers": ["a", "bb"]}, ValueError, "diagnose: layers='bb' contains no parameter; there are: a, b/c"),
    (diagnose, {"layers": ["b/d"]}, ValueError, "layers='b/d' contains no parameter; did you mean 'b/c'"),
    (groups, {"groups": {"bdy/**": LR, "**": LR}}, ValueError, "no parameter matches; the nearest are 'body/kernel'"),
    (groups, {"groups": {"body": LR, "**": LR}}, ValueError, "it is not a parameter: write 'body/**' for all below it"),
    (groups, {"groups": {"**": LR, "head/**": LR}}, ValueError, "by_path: groups['head/**']=WarmupCosine("),
    (groups, {"groups": {"body/**": LR}}, ValueError, "matches no parameter 'head/bias'; add one, or '**' for all"),
    (groups, {"groups": {}}, ValueError, "groups={}; write a dict"),
    (groups, {"groups": [("**", LR)]}, TypeError, "write a dict such as"),
    (groups, {"groups": {0: 1.0}}, TypeError, "groups={0: 1.0}, and 0 is not a pattern; write a path"),
    (groups, {"groups": {"**": "off"}}, TypeError, "groups['**']='off' is text; groups['**'] must be a schedule"),
    (groups, {"groups": {"**": True}}, TypeError, "groups['**']=True"),
    (js.by_path, {"groups": {"**": 1.0}, "optimizer": 3}, TypeError, "optimizer=3; write a function of the schedule"),
    (layerwise, {"layers": "head", "decay": 0.5}, TypeError, "layers='head'; layers must be a list"),
    (layerwise, {"layers": [0, 1], "decay": 0.5}, TypeError, "layers=[0, 1]"),
    (layerwise, {"layers": [], "decay": 0.5}, ValueError, "layers=[]; write each layer once"),
    (layerwise, {"layers": ["a", "a"], "decay": 0.5}, ValueError, "write each layer once"),
    (layerwise, {"layers": ["a"], "decay": 0.0}, ValueError, "decay=0.0; decay must be a number above 0"),
    (layerwise, {"layers": ["a"], "decay": "half"}, TypeError, "decay='half'"),
    (adam, {"lerning_rate": 0.1}, TypeError, "adam has no argument 'lerning_rate': did you mean 'learning_"),
    (adam, {}, TypeError, "adam needs learning_rate; write learning_rate="),
    (adam, {"learning_rate": "0.1"}, TypeError, "learning_rate='0.1'; learning_rate must be a schedule"),
    (adam, {"learning_rate": None}, TypeError, "learning_rate=None; learning_rate must be a schedule"),
    (adam, {"learning_rate": [0.1, 0.2]}, TypeError, "learning_rate=[0.1, 0.2]"),
    (adam, {"learning_rate": np.nan}, ValueError, "learning_rate=nan is not finite"),
    (adam, {"learning_rate": 0.1, "b1": np.inf}, ValueError, "b1=inf is not finite"),
    (adam, {"learning_rate": np.ones(2)}, ValueError, "must be one number: jax.vmap runs over"),
    (adam, {"learning_rate": js.Constant([0.1, 0.2])}, ValueError, "is several settings in one; make the optimizer"),
    (js.inject_hyperparams, {"inner_factory": optax.adam(0.1)}, TypeError, "is already a transformation; write inject"),
    (js.inject_hyperparams, {"inner_factory": optax.sgd, "static_args": "lr"}, ValueError, "static_args='lr'; "),
    (js.weight_decay, {"decay": 0.1, "learning_rate": LR, "kind": "adam"}, ValueError, "did you mean 'adamc'?"),
    (js.weight_decay, {"decay": -0.1, "learning_rate": LR}, ValueError, "decay must be a finite number, 0 or more"),
    (js.weight_decay, {"decay": 0.1, "learning_rate": "cosine"}, TypeError, "learning_rate='cosine' is text"),
    (
        js.weight_decay,
        {"decay": 1, "learning_rate": LR * 0.1, "kind": "adamc"},
        ValueError,
        "Product has no peak_value",
    ),
    (js.optim.named, {"name": "class", "inner": optax.sgd(1.0)}, ValueError, "named: name='class'; write a keyword"),
    (js.optim.named, {"name": "value", "inner": optax.sgd(1.0)}, ValueError, "named: name='value'"),
    (js.optim.named, {"name": 3, "inner": optax.sgd(1.0)}, ValueError, "named: name=3"),
    (js.optim.named, {"name": "valid", "inner": 0.1}, TypeError, "named: inner=0.1 is not a GradientTransformation"),
]


@pytest.mark.parametrize(("make", "arguments", "error", "says"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_bad_arguments(make: Any, arguments: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error) as caught:
        make(**arguments)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        (None, TypeError, "value=None; a metric is a real number: write value=val_loss"),
        ("0.5", TypeError, "value='0.5'"),
        (ONES, ValueError, "has the shape (3,); a metric is one number"),
        ([0.5], ValueError, "has the shape (1,)"),
        (True, TypeError, "value=True"),
        (1j, TypeError, "value=1j"),
        ({"loss": 1.0}, TypeError, "value={'loss': 1.0}"),
    ],
)
@pytest.mark.parametrize("make", [js.reduce_on_plateau, lambda: js.guard_spikes(js.reduce_on_plateau())])
def test_bad_metrics(make: Any, value: Any, error: type[Exception], says: str) -> None:
    transformation = make()
    state = transformation.init(ONES)
    with pytest.raises(error, match="observe") as caught:
        js.observe(state, value=value)
    assert says in str(caught.value)
    if value is not None:  # an update without a metric is valid
        with pytest.raises(error, match=r"(reduce_on_plateau|guard_spikes): value"):
            transformation.update(ONES, state, value=value)


def test_states_without_what_is_read() -> None:
    state = optax.adam(1e-3).init(ONES)
    with pytest.raises(ValueError, match=r"observe: .* contains no listener; .*jaxsched.reduce_on_plateau\(\)"):
        js.observe(state, value=1.0)
    with pytest.raises(ValueError, match=r"current_hyperparams: .* no hyperparameters; write jaxsched\.inject_hyper"):
        js.current_hyperparams(state)
    for read in (js.optim.diagnose, js.optim.gradient_norms):
        with pytest.raises(ValueError, match=rf"{read.__name__}: .* contains no monitor; wrap the optimizer"):
            read(state)
        with pytest.raises(TypeError, match=rf"{read.__name__}: .* is traced; call it outside of jit"):
            jax.jit(lambda state, read=read: [read(state), 0][1])(STATE)


def test_names_of_listeners() -> None:
    two = optax.chain(js.reduce_on_plateau(), js.reduce_on_plateau(0.1))
    state = partition({"head": two, "rest": optax.sgd(0.1)}, {"a": "head", "b": "rest"}).init({"a": ONES, "b": ONES})
    after = js.observe(state, value=1.0, name="head/1")
    assert [s.observed_count.item() for s in after.inner_states["head"].inner_state] == [0, 1]
    for name, error, says in [
        ("head", ValueError, "name='head' is the name of 2 listeners; write one of: 'head/0', 'head/1'"),
        ("heads", ValueError, "name='heads'; did you mean 'head"),
        (1, TypeError, "name=1"),
    ]:
        with pytest.raises(error) as caught:
            js.observe(state, value=1.0, name=name)  # pyright: ignore[reportArgumentType]
        assert says in str(caught.value)
    with pytest.raises(ValueError, match="name='valid'; the only listener here has no name: leave name out"):
        js.observe(js.reduce_on_plateau().init(ONES), value=1.0, name="valid")
