"""The report in a real browser: `python -m pytest tests/browser`."""

from __future__ import annotations

import pytest

import jaxsched as js

from .conftest import cosines, trained

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

HOSTILE = "</script><script>window.hit = 1</script><img src=x onerror='window.hit = 2'><b>&amp;"
COMMAND = f"jaxsched sweep \"task.py\" --title '{HOSTILE}'"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    ten = trained(cosines(10), 10, diverged=[(7, 0, 500), (7, 2, 40)], run={HOSTILE: HOSTILE})
    thousands = dict.fromkeys(range(700, 1_900), 220)
    lost = [(i, 0, 1_000) for i in range(1_900, 2_000)]
    mixed = [
        {"learning_rate": js.WarmupCosine(0.1 * (i + 1), 2 * i, 2_000), "decay": js.Linear(0.1, 0.0, 2_000), "b1": 0.9}
        if i % 2
        else {"learning_rate": js.WarmupStableDecay(0.2, 20 + i, 2_000, 500), "b1": 0.8 + i / 100}
        for i in range(8)
    ]
    results = {
        "ten": ten,
        "thousands": trained(cosines(2_000), 2_000, pruned=thousands, diverged=lost),
        "mixed": trained(mixed, 8, pruned={3: 220}),
        "one": trained([js.Constant(0.1)], 1, seeds=1, steps=1, log_every=1),
        "lost": trained(cosines(4), 4, diverged=[(i, 0, 20 * i) for i in range(4)]),
    }
    title = {"ten": HOSTILE}
    return {
        name: result.report(folder / f"{name}.html", command=COMMAND, title=title.get(name))
        for name, result in results.items()
    }


@pytest.fixture
def open_page(chromium, pages):
    """Opens a page anew, and looks at what the browser had to say when the test is over."""

    def open_(name, width=1_280, height=900, dark=False):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        emulate(chromium, dark)
        chromium.get(pages[name].as_uri())
        WebDriverWait(chromium, 30).until(lambda d: d.execute_script("return document.documentElement.dataset.ready"))
        return chromium

    chromium.get_log("browser")
    yield open_
    assert chromium.get_log("browser") == []
    assert chromium.execute_script("return performance.getEntriesByType('resource').map(x => x.name)") == []
    assert chromium.execute_script("return window.hit") is None


def emulate(driver, dark):
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def settle(driver):
    """Until two frames were drawn."""
    driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def column(driver, k):
    """The texts of a column of the ranking, of the rows that are shown."""
    code = """return [...document.querySelectorAll('#ranking tbody tr:not([hidden])')].map(
        row => row.cells[arguments[0]].textContent)"""
    return driver.execute_script(code, k)


def lit(driver, name, trace=2):
    """What plotly shows as lit in a figure: the rank and the heights."""
    code = """const trace = document.querySelector(`#${arguments[0]} .plot`).data[arguments[1]];
    return [trace.meta.rank, Array.from(trace.y)]"""
    return driver.execute_script(code, name, trace)


def lit_rows(driver):
    rows = driver.find_elements(By.CSS_SELECTOR, "#ranking tr.lit")
    return [int(row.get_attribute("data-rank")) for row in rows]


def pixel_of(driver, name, rank, share):
    """Where a curve is on the screen, and scrolls there: read off plotly's own axes."""
    driver.execute_script("document.getElementById(arguments[0]).scrollIntoView({block: 'center'})", name)
    code = """const [name, rank, share] = arguments;
    const data = JSON.parse(document.getElementById('data').textContent);
    const plot = document.querySelector(`#${name} .plot`);
    const panel = data[name][0];
    const k = Math.floor(share * (panel.x.length - 1)); // of curves, which share their x
    const values = new Float32Array(Uint8Array.from(atob(panel.y), x => x.charCodeAt(0)).buffer);
    const {xaxis, yaxis} = plot._fullLayout;
    const box = plot.getBoundingClientRect();
    const [x, y] = [xaxis.d2p(panel.x[k]), yaxis.d2p(values[rank * panel.x.length + k])];
    return [box.left + xaxis._offset + x, box.top + yaxis._offset + y]"""
    return driver.execute_script(code, name, rank, share)


def move(driver, x, y, click=False):
    for kind in ["mouseMoved"] + click * ["mousePressed", "mouseReleased"]:
        event = {"type": kind, "x": x, "y": y, "button": "left" if kind != "mouseMoved" else "none", "clickCount": 1}
        driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)
    settle(driver)


# --- sorting ---------------------------------------------------------------------------------------------------------


def heads(driver):
    return driver.find_elements(By.CSS_SELECTOR, "#ranking thead button")


def test_a_click_sorts_numbers_as_numbers(open_page):
    driver = open_page("ten")
    names = [head.text.strip("▲▼ \n") for head in heads(driver)]
    assert names[:3] == ["rank", "peak_value", "warmup_steps"]
    assert column(driver, 0) == [str(i) for i in range(1, 11)]  # and not 1, 10, 2
    heads(driver)[1].click()
    first = [float(text) for text in column(driver, 1)]
    assert first == sorted(first)
    assert len(set(first)) == 10
    assert column(driver, 0) != [str(i) for i in range(1, 11)]
    heads(driver)[1].click()
    assert [float(text) for text in column(driver, 1)] == first[::-1]
    sorts = [head.get_attribute("aria-sort") for head in driver.find_elements(By.CSS_SELECTOR, "#ranking thead th")]
    assert sorts[1] == "descending"
    assert sorts.count(None) == len(sorts) - 1
    # What there is not comes last, however it is sorted: the mean of the setting that diverged.
    k = next(k for k, name in enumerate(names) if name.startswith("valid loss"))
    for _ in range(2):
        heads(driver)[k].click()
        assert column(driver, k)[-1] == "\N{EN DASH}"


def test_the_keyboard_sorts_and_walks(open_page):
    driver = open_page("ten")
    driver.execute_script("arguments[0].focus()", heads(driver)[2])
    ActionChains(driver).send_keys(Keys.ENTER).perform()
    warmups = [int(text) for text in column(driver, 2)]
    assert warmups == sorted(warmups)
    ActionChains(driver).send_keys(Keys.SPACE).perform()
    assert [int(text) for text in column(driver, 2)] == sorted(warmups, reverse=True)
    row = driver.find_element(By.CSS_SELECTOR, '#ranking tr[tabindex="0"]')
    driver.execute_script("arguments[0].focus()", row)
    ActionChains(driver).send_keys(Keys.END, Keys.ARROW_UP).perform()
    assert lit_rows(driver) == [int(column(driver, 0)[-2]) - 1]
    ActionChains(driver).send_keys(Keys.HOME, Keys.ARROW_DOWN, Keys.ARROW_DOWN).perform()
    settle(driver)
    third = int(column(driver, 0)[2]) - 1
    assert lit_rows(driver) == [third]
    assert lit(driver, "schedules")[0] == lit(driver, "curves")[0] == third
    ActionChains(driver).send_keys(Keys.ENTER, Keys.ESCAPE).perform()
    settle(driver)
    assert lit(driver, "curves") == [None, []]


# --- curves and rows light up together -------------------------------------------------------------------------------


def test_a_row_lights_its_curves(open_page, pages):
    driver = open_page("ten")
    row = driver.find_element(By.CSS_SELECTOR, '#ranking tr[data-rank="4"]')
    ActionChains(driver).scroll_to_element(row).move_to_element(row).perform()
    settle(driver)
    assert lit_rows(driver) == [4]
    setting = js.unstack(cosines(10))[int(row.find_elements(By.CSS_SELECTOR, "td")[-1].text)]
    rank, heights = lit(driver, "schedules")
    steps = driver.execute_script("return document.querySelector('#schedules .plot').data[2].x")
    assert rank == 4
    assert heights == pytest.approx([float(setting(step)) for step in steps], rel=2e-5, abs=1e-7)
    assert lit(driver, "curves")[0] == lit(driver, "curves", 3)[0] == lit(driver, "parallel")[0] == 4
    valid, train = lit(driver, "curves")[1], lit(driver, "curves", 3)[1]
    assert train == pytest.approx([0.9 * y for y in valid], rel=1e-3)
    assert repr(setting) in driver.find_element(By.ID, "readout").text
    ActionChains(driver).move_to_element(driver.find_element(By.TAG_NAME, "h1")).perform()
    settle(driver)
    assert lit_rows(driver) == []
    assert lit(driver, "schedules") == [None, []]


@pytest.mark.parametrize(("page", "rank"), [("ten", 2), ("ten", 8), ("thousands", 650)])
def test_a_curve_lights_its_row(open_page, page, rank):
    driver = open_page(page)
    move(driver, *pixel_of(driver, "curves", rank, 0.97 if page == "ten" else 1.0))
    found = lit(driver, "curves")[0]
    # Two thousand curves lie closer than pixels.
    assert found == rank if page == "ten" else abs(found - rank) < 8
    assert lit_rows(driver) == [found]
    assert lit(driver, "schedules")[0] == found
    inside = """const row = document.querySelector('#ranking tr.lit').getBoundingClientRect();
    const box = document.getElementById('ranking-box').getBoundingClientRect();
    return row.top >= box.top && row.bottom <= box.bottom + 1"""
    assert driver.execute_script(inside)  # it is scrolled into its box
    assert f"Rank {found + 1}:" in driver.find_element(By.ID, "readout").text.replace(",", "")


def test_a_click_keeps_and_escape_lets_go(open_page):
    driver = open_page("ten")
    move(driver, *pixel_of(driver, "curves", 3, 0.97), click=True)
    move(driver, 5, 5)
    assert lit_rows(driver) == [3]
    assert "kept" in driver.find_element(By.ID, "readout").text
    ActionChains(driver).send_keys(Keys.ESCAPE).perform()
    settle(driver)
    assert lit_rows(driver) == []


def test_a_zoom_draws_all_curves_anew(open_page):
    driver = open_page("ten")
    code = """const data = document.querySelector('#curves canvas').toDataURL();
    document.querySelector('#curves .plot').scrollIntoView({block: 'center'});
    return data"""
    before = driver.execute_script(code)
    plot = driver.find_element(By.CSS_SELECTOR, "#curves .nsewdrag")
    ActionChains(driver).move_to_element(plot).click_and_hold().move_by_offset(90, 0).release().perform()
    WebDriverWait(driver, 5).until(lambda d: d.execute_script(code) != before)
    settle(driver)
    move(driver, 5, 5)
    assert lit_rows(driver) == []  # it was no click
    move(driver, *pixel_of(driver, "curves", 4, 0.56))
    assert lit_rows(driver) == [4]


def drag(driver, axis, low, high, modifiers=0):
    """Drag the mouse along an axis of the parallel coordinates; 8 is Shift."""
    driver.execute_script("document.getElementById('parallel').scrollIntoView({block: 'center'})")
    code = """const {xaxis, yaxis} = document.querySelector('#parallel .plot')._fullLayout;
    const box = document.querySelector('#parallel .plot').getBoundingClientRect();
    const [axis, ...heights] = arguments;
    return [box.left + xaxis._offset + xaxis.d2p(axis), ...heights.map(y => box.top + yaxis._offset + yaxis.d2p(y))]"""
    x, low, high = driver.execute_script(code, axis, low, high)
    places = [("mousePressed", low), ("mouseMoved", (low + high) / 2), ("mouseMoved", high), ("mouseReleased", high)]
    for kind, y in places:
        event = {"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1, "modifiers": modifiers}
        driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)
        settle(driver)


def test_what_is_drawn_along_an_axis_filters(open_page):
    driver = open_page("ten")
    note = driver.find_element(By.ID, "filter-note")
    drag(driver, 0, 0.5, 1.02)
    # The axis is logarithmic, so its upper half are the rates above the geometric middle.
    settings = sorted(js.unstack(cosines(10)), key=lambda s: s.peak_value)
    rates = [float(setting.peak_value) for setting in settings]
    upper = [setting for setting in settings if setting.peak_value > (rates[0] * rates[-1]) ** 0.5]
    WebDriverWait(driver, 5).until(lambda _: f"{len(upper)} of 10" in note.text)
    shown = sorted(float(text) for text in column(driver, 1))
    assert shown == pytest.approx([float(setting.peak_value) for setting in upper], rel=1e-3)
    drag(driver, 1, 0.5, 1.02, modifiers=8)
    warmups = [int(setting.warmup_steps) for setting in settings]
    both = [s for s in upper if s.warmup_steps > (min(warmups) + max(warmups)) / 2]
    assert 0 < len(both) < len(upper)
    WebDriverWait(driver, 5).until(lambda _: f"{len(both)} of 10" in note.text)
    driver.find_element(By.ID, "filter-clear").click()
    WebDriverWait(driver, 5).until(lambda _: note.text == "")
    assert len(column(driver, 0)) == 10


# --- copying ---------------------------------------------------------------------------------------------------------


def test_copy(open_page):
    driver = open_page("ten")
    both = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    driver.execute_cdp_cmd("Browser.grantPermissions", both)
    for name in ("best-expression", "lit-expression"):
        button = driver.find_element(By.CSS_SELECTOR, f'[data-copy="{name}"]')
        button.click()
        WebDriverWait(driver, 5).until(lambda _, button=button: button.text == "Copied")
        read = "navigator.clipboard.readText().then(arguments[0], error => arguments[0](String(error)))"
        assert driver.execute_async_script(read) == repr(js.unstack(cosines(10))[0])
        WebDriverWait(driver, 5).until(lambda _, button=button: button.text == "Copy")


# --- how it looks ----------------------------------------------------------------------------------------------------


def luminance(text):
    red, green, blue = (float(x) for x in text[text.index("(") + 1 : -1].split(",")[:3])
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255


def test_dark_mode_follows_the_system_while_it_is_open(open_page):
    driver = open_page("ten")
    paper = "return getComputedStyle(document.body).backgroundColor"
    ticks = "return getComputedStyle(document.querySelector('#curves .xtick text')).fill"
    canvas = """const {width, height} = document.querySelector('#curves canvas');
    const pen = new OffscreenCanvas(width, height).getContext('2d', {willReadFrequently: true});
    pen.drawImage(document.querySelector('#curves canvas'), 0, 0);
    const {data} = pen.getImageData(0, 0, width, height);
    let sum = [0, 0, 0, 0];
    for (let i = 0; i < data.length; i += 1) sum[i % 4] += data[i] * (i % 4 < 3 ? data[i - i % 4 + 3] / 255 : 1);
    return `(${sum.slice(0, 3).map(x => 255 * x / sum[3]).join()})`"""
    light = [luminance(driver.execute_script(code)) for code in (paper, ticks, canvas)]
    emulate(driver, dark=True)
    settle(driver)
    WebDriverWait(driver, 5).until(lambda d: luminance(d.execute_script(ticks)) > 0.8)
    dark = [luminance(driver.execute_script(code)) for code in (paper, ticks, canvas)]
    assert light[0] > 0.95
    assert light[1] < 0.2
    assert dark[0] < 0.15
    assert dark[2] > light[2] + 0.1  # the curves are brighter on the dark
    emulate(driver, dark=False)
    WebDriverWait(driver, 5).until(lambda d: luminance(d.execute_script(ticks)) < 0.2)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("page", ["ten", "thousands", "mixed", "one", "lost"])
def test_a_phone_needs_no_sideways_scrolling(open_page, page, dark):
    driver = open_page(page, width=375, height=800, dark=dark)
    wide = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth, innerWidth]"
    whole, seen, window = driver.execute_script(wide)
    assert whole <= seen <= window == 375
    # And nothing hangs over the edge that could not be scrolled to.
    over = """return [...document.querySelectorAll('main *, header *')].filter(
        x => x.getBoundingClientRect().right > innerWidth + 1 && !x.closest('.box, .wide, .plot')
    ).map(x => x.outerHTML)"""
    assert driver.execute_script(over) == []


def test_a_finger_keeps_a_curve_and_scrolls_the_page(open_page):
    driver = open_page("ten")
    driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        driver = open_page("ten", width=375, height=800)
        x, y = pixel_of(driver, "curves", 3, 0.97)
        touch(driver, [(x, y)])
        settle(driver)
        assert lit_rows(driver) == [3]
        before = driver.execute_script("return scrollY")
        touch(driver, [(x, y - 30 * k) for k in range(8)])
        assert driver.execute_script("return scrollY") > before + 100
        assert lit_rows(driver) == [3]
    finally:
        driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def touch(driver, places):
    for k, (x, y) in enumerate(places):
        event = {"type": "touchMove" if k else "touchStart", "touchPoints": [{"x": x, "y": y}]}
        driver.execute_cdp_cmd("Input.dispatchTouchEvent", event)
        settle(driver)
    driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    settle(driver)


def test_a_window_that_changes(open_page):
    driver = open_page("ten")
    size = {"width": 700, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    same = """return ['schedules', 'curves', 'parallel'].every(name => {
        const box = document.getElementById(name);
        return Math.abs(box.querySelector('.main-svg').clientWidth - box.clientWidth) < 2
            && Math.abs(box.querySelector('canvas').width - box.clientWidth) < 2; })"""
    WebDriverWait(driver, 5).until(lambda d: d.execute_script(same))


# --- other results ---------------------------------------------------------------------------------------------------


def test_several_schedules_a_setting(open_page):
    driver = open_page("mixed")
    choice = Select(driver.find_element(By.ID, "schedules-select"))
    assert [option.text for option in choice.options] == ["learning rate", "decay"]
    before = driver.find_element(By.ID, "schedules-says").text
    choice.select_by_visible_text("decay")
    settle(driver)
    says = driver.find_element(By.ID, "schedules-says").text
    assert before != says
    assert "4 schedules" in says
    assert driver.find_element(By.ID, "schedules").get_attribute("aria-label") == says
    row = driver.find_element(By.CSS_SELECTOR, '#ranking tr[data-rank="1"]')
    ActionChains(driver).scroll_to_element(row).move_to_element(row).perform()
    settle(driver)
    rank, heights = lit(driver, "schedules")  # setting 1 has one: Linear(0.1, 0.0, 2000)
    assert rank == 1
    assert heights[0] == pytest.approx(0.1, rel=1e-4)
    assert len(set(column(driver, 1))) == 2  # two families


def test_one_setting_and_all_lost(open_page):
    driver = open_page("one")
    assert "No hyperparameter differs" in driver.find_element(By.TAG_NAME, "main").text
    assert column(driver, 0) == ["1"]
    row = driver.find_element(By.CSS_SELECTOR, "#ranking tbody tr")
    ActionChains(driver).scroll_to_element(row).move_to_element(row).perform()
    settle(driver)
    assert lit(driver, "schedules") == [0, [pytest.approx(0.1, rel=1e-4)]]
    move(driver, *pixel_of(driver, "curves", 0, 0))  # one point, in the middle of its figure
    assert lit_rows(driver) == [0]
    driver = open_page("lost")
    assert "every setting diverged" in driver.find_element(By.CSS_SELECTOR, "p.warn").text
    assert not driver.find_elements(By.ID, "best-expression")
    row = driver.find_element(By.CSS_SELECTOR, '#ranking tr[data-rank="3"]')
    ActionChains(driver).scroll_to_element(row).move_to_element(row).perform()
    settle(driver)
    assert lit(driver, "schedules")[0] == 3


def test_names_are_text(open_page):
    driver = open_page("ten")  # its title, its command and a fact of its run are hostile
    assert driver.title == HOSTILE
    assert driver.find_element(By.TAG_NAME, "h1").text == HOSTILE
    assert driver.find_element(By.ID, "command").text == COMMAND
    assert driver.execute_script("return document.querySelectorAll('img, h1 b').length") == 0


def test_the_tree_of_accessibility_tells_the_figures(open_page):
    driver = open_page("ten")
    nodes = driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    told = [(n.get("role", {}).get("value"), n.get("name", {}).get("value", "")) for n in nodes if not n.get("ignored")]
    images = [name for role, name in told if role in ("image", "img")]
    assert any("best valid loss" in name and "1 of 10 settings diverged" in name for name in images)
    assert len([name for name in images if len(name) > 40]) == 4
    assert not [name for role, name in told if role == "button" and not name]


# --- how large, how soon ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["ten", "thousands"])
def test_it_is_small_and_soon_there(open_page, pages, page):
    assert pages[page].stat().st_size < 15e6
    ready = min(int(open_page(page).execute_script("return document.documentElement.dataset.ready")) for _ in range(2))
    assert ready < 3_000  # milliseconds, by the clock of the page
