"""The page over many runs in a real browser: opens from disk, sorts, filters, shows pictures.

Skipped where selenium, Chromium or its driver are not installed.
"""

import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distill_cli.report.collect import collect
from distill_cli.report.site import write_site
from run_folders import make_runs

pytestmark = pytest.mark.process
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs Chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    runs = make_runs(folder / "outputs")
    (runs / "broken").mkdir()
    (runs / "broken" / "result.json").write_text("{")
    return write_site(collect([runs]), folder / "page", "Runs", 5, True).page


@pytest.fixture
def page(browser: Any, site: Path) -> Iterator[Any]:
    resize(browser, 1920)
    browser.get(site.as_uri())
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []


def resize(browser: Any, width: int, theme: str = "light") -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"prefers-color-scheme": theme, "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in media.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def column(page: Any, label: str) -> list[str]:
    """Texts of a column in the rows that are seen, from the top down."""
    return page.execute_script(
        "return [...document.querySelectorAll('#table tbody tr')].filter(r => !r.hidden)"
        ".map(r => r.querySelector(`td[data-label='${arguments[0]}']`).innerText.trim())",
        label,
    )


def press(page: Any, selector: str) -> None:
    page.find_element("css selector", selector).click()


def choose(page: Any, selector: str, text: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(page.find_element("css selector", selector)).select_by_visible_text(text)


def seen(page: Any, selector: str) -> list[bool]:
    """Whether each element takes room on the page."""
    return page.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(e => e.getClientRects().length>0)",
        selector,
    )


def test_it_sorts_by_number_and_by_text(page: Any) -> None:
    first = column(page, "Accuracy")
    assert first == ["60.00 %", "65.00 %", "70.00 %", "74.00 %", "75.00 %"]
    press(page, "th[data-key=accuracy] button")  # numbers: the largest first
    assert column(page, "Accuracy") == first[::-1]
    head = page.find_element("css selector", "th[data-key=accuracy]")
    assert head.get_attribute("aria-sort") == "descending"
    press(page, "th[data-key=accuracy] button")
    assert column(page, "Accuracy") == first
    press(page, "th[data-key=method] button")
    assert column(page, "Method") == ["KIP"] * 2 + ["RFAD"] * 3
    press(page, "th[data-key=method] button")
    assert column(page, "Method") == ["RFAD"] * 3 + ["KIP"] * 2


def test_it_filters_rows_charts_and_galleries(page: Any) -> None:
    lines = "polyline.run"
    assert all(seen(page, lines))
    choose(page, "select[data-filter=method]", "RFAD")
    assert column(page, "Method") == ["RFAD"] * 3
    assert page.find_element("id", "count").text == "3 of 5 rows"
    assert seen(page, "details.run") == [False] * 2 + [True] * 3
    assert 0 < sum(seen(page, lines)) < len(seen(page, lines))
    choose(page, "select[data-filter=seed]", "1")
    assert column(page, "Accuracy") == ["74.00 %"]
    page.find_element("id", "search").send_keys("no such text")
    assert column(page, "Method") == []
    assert not any(seen(page, "#calibration figure"))
    press(page, "button[type=reset]")
    page.execute_async_script("setTimeout(arguments[0], 50)")
    assert len(column(page, "Method")) == 5
    assert all(seen(page, lines))


def test_it_shows_pictures(page: Any) -> None:
    sizes = page.execute_script(
        "return [...document.images].filter(i => i.src).map(i => [i.complete, i.naturalWidth])"
    )
    assert len(sizes) == 5 * 4
    assert all(complete and width > 1 for complete, width in sizes)
    picture = page.find_element("css selector", "details.run[open] button.picture")
    picture.click()
    dialog = page.find_element("id", "zoom")
    assert dialog.get_property("open")
    shown = dialog.find_element("css selector", "img")
    assert shown.get_attribute("src") == picture.find_element("css selector", "img").get_attribute(
        "src"
    )
    assert shown.size["width"] > picture.size["width"]
    dialog.find_element("css selector", "button").click()
    assert not dialog.get_property("open")


def test_a_row_leads_to_its_pictures(page: Any) -> None:
    assert not page.find_element("id", "run-3").get_property("open")
    press(page, "a[href='#run-3']")
    page.execute_async_script("setTimeout(arguments[0], 100)")
    assert page.find_element("id", "run-3").get_property("open")


def test_it_copies_a_command(page: Any) -> None:
    press(page, "#table tbody tr button.copy")
    page.execute_async_script("setTimeout(arguments[0], 200)")
    assert page.find_element("css selector", "#table button.copy").text == "Copied"


@pytest.mark.parametrize("width", [390, 820, 1920])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_phone_and_projector(page: Any, width: int, theme: str) -> None:
    resize(page, width, theme)
    found = page.execute_script(
        "return [document.documentElement.scrollWidth, innerWidth,"
        "getComputedStyle(document.body).backgroundColor,"
        "getComputedStyle(document.querySelector('thead')).display]"
    )
    assert found[0] <= found[1] == width
    assert found[2] == {"light": "rgb(251, 252, 253)", "dark": "rgb(17, 21, 26)"}[theme]
    assert (found[3] == "none") == (width < 640)  # rows become cards
    if width < 640:
        choose(page, "#sort", "Accuracy")
        assert column(page, "Accuracy")[0] == "75.00 %"


def test_nothing_is_asked_of_the_network(page: Any) -> None:
    loaded = page.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []


def test_the_figures_beside_it_open(page: Any, site: Path) -> None:
    targets = page.execute_script(
        "return [...document.querySelectorAll('.files a')].map(a => a.getAttribute('href'))"
    )
    assert len(targets) > 10
    for target in targets:
        data = (site.parent / target).read_bytes()
        if target.endswith(".png"):
            assert struct.unpack(">I", data[16:20])[0] > 200
        else:
            assert b"<svg" in data
