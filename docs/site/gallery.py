"""The gallery: every schedule with its picture, formula, fields, source and the names that other systems have for it.

`GALLERY` says what is drawn; all the rest is read from the docstrings.
"""

from __future__ import annotations

import io
import re
from typing import NamedTuple

import matplotlib as mpl

import jaxsched as js
from jaxsched.cli.catalogue import entry
from jaxsched.inspect import plot


class Picture(NamedTuple):
    """An expression to be drawn, over so many steps, and the names of the same thing in `compat`."""

    expression: str
    steps: int
    peers: str = ""


_PIECES = "Linear(0.0, 0.1, 20), Constant(0.1), Linear(0.1, 0.02, 40)"

GALLERY: dict[str, dict[str, Picture]] = {
    "From one value to another": {
        "Linear": Picture(
            "Linear(0.1, 0.0, steps=100)",
            120,
            "optax.linear_schedule torch.LinearLR tf1.polynomial_decay others.fastai.SchedLin others.paddle.LinearLR "
            "others.composer.LinearScheduler",
        ),
        "Cosine": Picture(
            "Cosine(0.1, 0.01, steps=100)",
            120,
            "optax.cosine_decay_schedule torch.CosineAnnealingLR keras.CosineDecay tf1.cosine_decay "
            "timm.CosineLRScheduler others.fastai.SchedCos others.paddle.CosineAnnealingDecay "
            "others.composer.CosineAnnealingScheduler others.mmengine.CosineAnnealingLR",
        ),
        "KDecay": Picture("KDecay(0.1, 0.01, steps=100, k=2.0)", 120, "timm.CosineLRScheduler timm.PolyLRScheduler"),
        "Polynomial": Picture(
            "Polynomial(0.1, 0.0, steps=100, power=2)",
            120,
            "optax.polynomial_schedule torch.PolynomialLR keras.PolynomialDecay timm.PolyLRScheduler "
            "others.fastai.SchedPoly others.mmengine.PolyLR",
        ),
        "Exponential": Picture("Exponential(0.1, 1e-3, steps=100)", 120, "others.fastai.SchedExp"),
        "Rex": Picture(
            "Rex(0.1, 0.0, steps=100)", 120, "others.rex.PytorchOptimizerREXScheduler others.rex.AxolotlRexLR"
        ),
        "Tanh": Picture("Tanh(0.1, 0.0, steps=100)", 120, "timm.TanhLRScheduler"),
        "Ramp": Picture("Ramp(0.1, 0.0, steps=100, shape='1-sqrt')", 120, "timm.WSDLRScheduler"),
    },
    "Decays without an end": {
        "StepDecay": Picture(
            "StepDecay(0.1, decay_rate=0.5, decay_steps=30)",
            120,
            "torch.StepLR timm.StepLRScheduler others.paddle.StepDecay others.mmengine.StepLR",
        ),
        "MultiStepDecay": Picture(
            "MultiStepDecay(0.1, decay_rate=0.3, milestones=[30, 80])",
            120,
            "torch.MultiStepLR timm.MultiStepLRScheduler others.paddle.MultiStepDecay others.mmengine.MultiStepLR",
        ),
        "ExponentialDecay": Picture(
            "ExponentialDecay(0.1, decay_rate=0.5, decay_steps=30)",
            120,
            "optax.exponential_decay torch.ExponentialLR keras.ExponentialDecay tf1.exponential_decay "
            "others.paddle.ExponentialDecay others.mmengine.ExponentialLR",
        ),
        "NaturalExpDecay": Picture(
            "NaturalExpDecay(0.1, decay_rate=1.0, decay_steps=50)",
            120,
            "tf1.natural_exp_decay others.paddle.NaturalExpDecay",
        ),
        "InverseTimeDecay": Picture(
            "InverseTimeDecay(0.1, decay_rate=1.0, decay_steps=30)",
            120,
            "keras.InverseTimeDecay tf1.inverse_time_decay others.paddle.InverseTimeDecay",
        ),
        "InverseSqrtDecay": Picture(
            "InverseSqrtDecay(0.1, timescale=20)", 120, "transformers.get_inverse_sqrt_schedule"
        ),
        "PowerDecay": Picture("PowerDecay(0.1, exponent=0.7, timescale=20)", 120),
    },
    "Tables of pieces": {
        "PiecewiseConstant": Picture(
            "PiecewiseConstant([30, 60, 90], [0.05, 0.1, 0.03, 0.01])",
            120,
            "optax.piecewise_constant_schedule keras.PiecewiseConstantDecay tf1.piecewise_constant "
            "others.paddle.PiecewiseDecay",
        ),
        "PiecewiseInterpolate": Picture(
            "PiecewiseInterpolate([0, 20, 60, 100], [0.0, 0.1, 0.04, 0.0], kind='pchip')",
            120,
            "optax.piecewise_interpolate_schedule others.ignite.PiecewiseLinear",
        ),
    },
    "Cycles": {
        "CyclicTriangular": Picture(
            "CyclicTriangular(0.01, 0.1, up_steps=15, down_steps=25, mode='triangular2')",
            120,
            "torch.CyclicLR others.paddle.CyclicLR others.fairseq.TriangularLRSchedule",
        ),
        "CosineWarmRestarts": Picture(
            "CosineWarmRestarts(0.1, period=20, period_mult=2, peak_mult=0.8)",
            140,
            "torch.CosineAnnealingWarmRestarts keras.CosineDecayRestarts tf1.cosine_decay_restarts "
            "timm.CosineLRScheduler optax.sgdr_schedule others.mmengine.CosineRestartLR",
        ),
        "PolynomialDecay": Picture(
            "PolynomialDecay(0.1, decay_steps=40, end_value=0.01, cycle=True)",
            120,
            "keras.PolynomialDecay tf1.polynomial_decay others.paddle.PolynomialDecay",
        ),
    },
    "Recipes": {
        "WarmupConstant": Picture(
            "WarmupConstant(0.1, warmup_steps=20)",
            100,
            "optax.warmup_constant_schedule transformers.get_constant_schedule_with_warmup "
            "others.olmo_core.ConstantWithWarmup others.deepspeed.WarmupLR",
        ),
        "WarmupLinear": Picture(
            "WarmupLinear(0.1, warmup_steps=20, total_steps=100)",
            120,
            "transformers.get_linear_schedule_with_warmup others.olmo_core.LinearWithWarmup "
            "others.deepspeed.WarmupDecayLR",
        ),
        "WarmupCosine": Picture(
            "WarmupCosine(0.1, warmup_steps=20, total_steps=100)",
            120,
            "optax.warmup_cosine_decay_schedule transformers.get_cosine_schedule_with_warmup keras.CosineDecay "
            "others.olmo_core.CosWithWarmup others.deepspeed.WarmupCosineLR others.fairseq.CosineLRSchedule "
            "others.megatron.OptimizerParamScheduler others.levanter.lr_scheduler",
        ),
        "WarmupPolynomial": Picture(
            "WarmupPolynomial(0.1, warmup_steps=20, total_steps=100, power=2)",
            120,
            "transformers.get_polynomial_decay_schedule_with_warmup others.fairseq.PolynomialDecayLRSchedule",
        ),
        "WarmupExponential": Picture(
            "WarmupExponential(0.1, warmup_steps=20, total_steps=100, end_value=1e-3)",
            120,
            "optax.warmup_exponential_decay_schedule",
        ),
        "WarmupInverseSqrt": Picture(
            "WarmupInverseSqrt(0.1, warmup_steps=20)",
            140,
            "transformers.get_inverse_sqrt_schedule others.fairseq.InverseSquareRootSchedule "
            "others.olmo_core.InvSqrtWithWarmup others.t5x.create_learning_rate_scheduler",
        ),
        "WarmupStableDecay": Picture(
            "WarmupStableDecay(0.1, warmup_steps=15, total_steps=100, decay_steps=25)",
            120,
            "transformers.get_wsd_schedule timm.WSDLRScheduler others.olmo_core.WSD",
        ),
        "TriStage": Picture(
            "TriStage(0.1, warmup_steps=15, hold_steps=40, decay_steps=50)", 130, "others.fairseq.TriStageLRSchedule"
        ),
        "OneCycle": Picture(
            "OneCycle(0.1, total_steps=100)",
            110,
            "torch.OneCycleLR optax.cosine_onecycle_schedule optax.linear_onecycle_schedule "
            "others.fastai.fit_one_cycle others.paddle.OneCycleLR others.deepspeed.OneCycle others.mmengine.OneCycleLR",
        ),
        "OneCycleMomentum": Picture(
            "OneCycleMomentum(0.85, 0.95, total_steps=100)", 110, "torch.OneCycleLR others.fastai.fit_one_cycle"
        ),
        "InfiniteSchedule": Picture(
            "InfiniteSchedule(0.1, 0.04, warmup_steps=10, cooldown_steps=40, total_steps=120, decay_steps=20, "
            "end_value=0.001)",
            140,
        ),
        "Noam": Picture("Noam(d_model=512, warmup_steps=40)", 200, "others.paddle.NoamDecay"),
        "PowerSchedule": Picture(
            "PowerSchedule(batch_size=1024, tokens_per_step=2**22, total_steps=100_000, warmup_steps=2_000, "
            "decay_steps=10_000)",
            110_000,
        ),
        "ChebyshevSteps": Picture("ChebyshevSteps(max_curvature=1.0, min_curvature=0.05, period=32)", 64),
        "SilverSteps": Picture("SilverSteps()", 62),
        "UntunedWarmup": Picture(
            "0.1 * UntunedWarmup(b2=0.99, kind='radam')",
            600,
            "others.pytorch_warmup.RAdamWarmup others.pytorch_warmup.UntunedLinearWarmup "
            "others.pytorch_warmup.UntunedExponentialWarmup",
        ),
    },
    "Put together": {
        "Constant": Picture("Constant(0.1)", 100, "optax.constant_schedule torch.ConstantLR"),
        "Lambda": Picture("Lambda(sin)", 100, "torch.LambdaLR others.paddle.LambdaDecay"),
        "Join": Picture(
            f"join([{_PIECES}], [20, 50])",
            110,
            "optax.join_schedules torch.SequentialLR others.ignite.ConcatScheduler others.fastai.combine_scheds",
        ),
        "Sum": Picture("Linear(0.08, 0.0, 100) + 0.01", 110),
        "Product": Picture("Cosine(0.1, 0.0, 100) * Linear(1.0, 0.3, 100)", 110, "torch.ChainedScheduler"),
        "Clip": Picture("Cosine(0.1, 0.0, 100).clip(lo=0.02, hi=0.08)", 110),
        "Repeat": Picture("Linear(0.1, 0.0, 20).repeat(20, period_mult=2, value_mult=0.7)", 140),
        "Hold": Picture("Cosine(0.1, 0.0, 100).hold(10)", 110),
        "Shift": Picture("Linear(0.1, 0.0, 60).shift(30)", 110),
        "PerEpoch": Picture("StepDecay(0.1, decay_rate=0.5, decay_steps=2).per_epoch(15)", 120),
        "Warmup": Picture(
            "StepDecay(0.1, decay_rate=0.5, decay_steps=40).warmup(20)",
            120,
            "others.paddle.LinearWarmup others.ignite.create_lr_scheduler_with_warmup "
            "others.pytorch_warmup.LinearWarmup",
        ),
        "Cooldown": Picture(
            "WarmupConstant(0.1, warmup_steps=10).cooldown(at=70, steps=30)", 110, "others.olmo_core.OverrideDecay"
        ),
        "Noise": Picture("Cosine(0.1, 0.0, 100).noise(std=0.1, seed=7)", 110, "tf1.noisy_linear_cosine_decay"),
    },
}


def svg(picture: Picture) -> str:
    """The picture as an SVG text, the same each time."""
    schedule = js.parse(picture.expression, known={"sin": _sin})
    out = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "jaxsched", "svg.fonttype": "none"}):
        axes = plot(schedule, picture.steps)
        axes.figure.set_size_inches(6.4, 3.0)
        axes.figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _sin(step):
    import jax.numpy as jnp

    return 0.05 + 0.04 * jnp.sin(step / 10)


def page(kind: str) -> str:
    """The page of one kind, in Markdown."""
    return f"# {kind}\n\n" + "\n".join(card(name, picture) for name, picture in GALLERY[kind].items())


def file_name(kind: str) -> str:
    return re.sub(r"\W+", "-", kind.lower())


def card(name: str, picture: Picture) -> str:
    """One schedule."""
    about = entry(name, getattr(js.schedules, name))
    alt = f"The value of {picture.expression.replace(chr(34), '')} over {picture.steps} steps"
    fields = "".join(f"- `{names}`: {text}\n" for names, text in about["about"].items())
    peers = ", ".join(f"`{peer}`" for peer in picture.peers.split())
    parts = [
        f"## {name}\n\n{about['summary']}",
        f"![{alt}](pictures/{name}.svg)",
        f"```python\n{picture.expression}\n```" if name != "Lambda" else "",
        f"**Formula:** `{about['formula']}`",
        f"**Fields**\n\n{fields}" if fields else "",
        f"**In `jaxsched.compat`:** {peers}" if peers else "",
        f"**Source:** {about['source']}" if about["source"] else "",
        f"[All of it][jaxsched.{name}]",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
