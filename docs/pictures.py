"""Draw the pictures of schedules that the documentation shows: `python docs/pictures.py [folder]`."""

from __future__ import annotations

import runpy
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

import jaxsched as js
from jaxsched.inspect import plot

TOTAL = 10_000

GALLERY = {
    "WarmupCosine": js.WarmupCosine(1.0, warmup_steps=1_000, total_steps=TOTAL),
    "WarmupStableDecay": js.WarmupStableDecay(1.0, warmup_steps=1_000, total_steps=TOTAL, decay_steps=3_000),
    "OneCycle": js.OneCycle(1.0, total_steps=TOTAL),
    "WarmupInverseSqrt": js.WarmupInverseSqrt(1.0, warmup_steps=1_000),
    "CosineWarmRestarts": js.CosineWarmRestarts(1.0, period=1_500, period_mult=2, peak_mult=0.8),
    "CyclicTriangular": js.CyclicTriangular(0.1, 1.0, up_steps=1_250, down_steps=1_250, mode="triangular2"),
    "StepDecay": js.StepDecay(1.0, decay_rate=0.5, decay_steps=2_500),
    "Rex": js.Rex(1.0, 0.0, steps=TOTAL),
    "Polynomial": js.Polynomial(1.0, 0.0, steps=TOTAL, power=2),
    "InfiniteSchedule": js.schedules.InfiniteSchedule(
        1.0,
        constant_value=0.4,
        warmup_steps=1_000,
        cooldown_steps=3_000,
        total_steps=TOTAL,
        decay_steps=2_000,
        end_value=0.02,
    ),
    ".warmup, .then, *": (js.Cosine(1.0, 0.3, 6_000).then(js.StepDecay(0.3, 0.5, 1_500), at=6_000)).warmup(1_500),
    ".noise": js.WarmupCosine(1.0, warmup_steps=1_000, total_steps=TOTAL).noise(std=0.04),
}


def gallery(path: Path) -> None:
    figure = Figure(figsize=(10.0, 6.6), layout="constrained")
    for ax, (name, schedule) in zip(figure.subplots(3, 4, sharex=True, sharey=True).flat, GALLERY.items(), strict=True):
        plot(schedule, TOTAL, phases=False, title=name, ax=ax)
        ax.set(xlabel="", ylabel="", ylim=(-0.03, 1.12), xticks=[0, TOTAL // 2, TOTAL])
    figure.supylabel("share of the peak", fontsize="medium")
    figure.supxlabel("step", fontsize="medium")
    figure.savefig(path, dpi=100)


def phases(path: Path) -> None:
    plot(js.WarmupStableDecay(3e-4, warmup_steps=8_000, total_steps=100_000, decay_steps=20_000), path=path)


def one_cycle(path: Path) -> None:
    total = 9_000
    timeline = js.Timeline(total, steps_per_epoch=300)
    momentum = js.OneCycleMomentum(base_momentum=0.85, max_momentum=0.95, total_steps=total)
    plot(js.OneCycle(0.1, total_steps=total), unit="epoch", timeline=timeline, momentum=momentum, path=path)


def family(path: Path) -> None:
    peaks = np.linspace(2e-3, 1e-2, 5).tolist()
    swept = js.grid(js.WarmupCosine, peak_value=peaks, warmup_steps=[500, 2_500], total_steps=TOTAL)
    plot(swept).figure.savefig(path, dpi=110)


def report(path: Path) -> None:
    """The page of a real sweep, as a browser shows it (Debian's chromium and chromium-driver)."""
    digits = runpy.run_path(str(Path(__file__).parent.parent / "examples" / "digits.py"))
    result = js.sweep(digits["task"], digits["schedules"], steps=1_000, seeds=2, log_every=50)
    with tempfile.TemporaryDirectory() as folder:
        page = result.report(Path(folder) / "report.html", command="jaxsched sweep examples/digits.py")
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"):
            options.add_argument(flag)
        browser = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        size = {"width": 1_080, "height": 1_180, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(page.as_uri())
        WebDriverWait(browser, 20).until(lambda driver: driver.find_elements("css selector", "tbody tr"))
        time.sleep(1.0)  # the last figure fades in
        browser.save_screenshot(str(path))
        browser.quit()


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for draw in (gallery, phases, one_cycle, family, report):
        path = folder / f"{draw.__name__}.png"
        draw(path)
        print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "pictures")
