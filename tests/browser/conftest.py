"""A real browser, and results to report on."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

import jaxsched as js

CHROMIUM, DRIVER = pathlib.Path("/usr/bin/chromium"), pathlib.Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A headless Chromium with an empty profile; what it says is kept."""
    if not (CHROMIUM.exists() and DRIVER.exists()):
        pytest.fail(f"the browser tests need {CHROMIUM} and {DRIVER}: apt install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


def trained(schedules, count, seeds=3, steps=2_000, log_every=20, diverged=(), pruned=None, run=None):
    """A result whose setting i falls to about `0.1 + i / count`; `pruned`: setting -> step."""
    rng = np.random.default_rng(0)
    windows = steps // log_every
    end = 0.1 + np.arange(count) / count
    fall = np.exp(-5 * np.linspace(0, 1, windows))
    valid = end[:, None] + (2.5 - end)[:, None] * fall
    valid = valid[:, None, :] * (1 + 0.001 * rng.normal(size=(count, seeds, 1)))
    marks = {name: np.full((count, seeds), -1, np.int32) for name in ("diverged_at", "pruned_at")}
    final = valid[..., -1].copy()
    for setting, seed, step in diverged:
        marks["diverged_at"][setting, seed] = step
        valid[setting, seed, step // log_every :] = np.nan
        final[setting, seed] = np.nan
    for setting, step in (pruned or {}).items():
        marks["pruned_at"][setting] = step
        valid[setting, :, step // log_every :] = np.nan
        final[setting] = valid[setting, :, step // log_every - 1]
    metrics = {"train_loss": (0.9 * valid).astype(np.float32), "valid_loss": valid.astype(np.float32)}
    finals = {"train_loss": (0.9 * final).astype(np.float32), "valid_loss": final.astype(np.float32)}
    return js.SweepResult(
        metrics, finals, schedules=schedules, seeds=tuple(range(seeds)), steps=steps, log_every=log_every,
        seconds=1.5, compile_seconds=0.5, run=run or {}, **marks,
    )  # fmt: skip


def cosines(count):
    """So many settings, whose rates and warmups differ."""
    rng = np.random.default_rng(1)
    peaks, warmups = 10 ** rng.uniform(-4, 0, count), rng.integers(0, 500, count)
    return js.WarmupCosine(peaks, warmups, np.full(count, 2_000), np.zeros(count), np.full(count, 1e-5))
