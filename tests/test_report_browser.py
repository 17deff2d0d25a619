"""Pages in a real browser: they render in light and dark, ask nobody for anything, and pass the keyboard and axe."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from headstart.cli import main

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-quic"),
)
PHONE, DESK = 360, 1100  # pixels wide
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"], "resultTypes": ["violations"]}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium, and what it logs."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install 'headstart[test]'")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs a browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for each in FLAGS:
        options.add_argument(each)
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


@pytest.fixture(scope="module")
def report(run: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The page of a run that was evaluated on its test split."""
    path = pathlib.Path(shutil.copytree(run, tmp_path_factory.mktemp("seen") / "run"))
    assert main(["evaluate", str(path)]) == 0 and main(["report", str(path)]) == 0
    return path / "report.html"


@pytest.fixture(scope="module")
def pages(store: pathlib.Path, report: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Those that other commands leave: of a probe, an audit, and a comparison of the run with itself."""
    folder = tmp_path_factory.mktemp("pages")
    for name, flag in (("probe", "--run"), ("audit", "--output")):
        assert main([name, str(store), flag, str(folder / name)]) == 0
    assert main(["compare", str(report.parent), str(report.parent)]) == 0
    return [*(str(folder / name) for name in ("probe", "audit")), str(report.parent / "evaluation" / "test")]


def show(browser: Any, report: pathlib.Path, mode: str, width: int) -> None:
    """Opens the page from disk, in a mode, on a screen."""
    features = [{"name": "prefers-color-scheme", "value": mode}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(report.as_uri())


def violations(browser: Any) -> list[str]:
    """What axe finds wrong: each rule with the first element."""
    spec = importlib.util.find_spec("axe_core_python")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs axe: pip install 'headstart[test]'")
    browser.execute_script(pathlib.Path(spec.submodule_search_locations[0], "axe.min.js").read_text(encoding="utf-8"))
    script = "axe.run(document, arguments[0]).then(arguments[1])"
    found = browser.execute_async_script(script, RULES)["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found]


def check(browser: Any, page: pathlib.Path, mode: str, width: int) -> list[float]:
    """A page as it is to be in any mode, on any screen; the heights of its plots."""
    for log in ("browser", "performance"):
        browser.get_log(log)  # what others left
    show(browser, page, mode, width)
    seen = browser.execute_script(
        "const style = getComputedStyle(document.body), sizes = [...document.querySelectorAll('svg')].map("
        "each => each.getBoundingClientRect().height), root = document.documentElement;"
        "return [style.backgroundColor, sizes, root.scrollWidth - root.clientWidth,"
        "[...document.images].filter(each => each.complete && !each.naturalWidth).length]"
    )
    assert seen[0] == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 25, 29)"}[mode]
    assert seen[2:] == [0, 0]  # nothing hangs over the screen's edge, no picture is broken
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith("data:")} == {page.as_uri()}
    assert violations(browser) == []
    sizes: list[float] = seen[1]
    return sizes


@pytest.mark.slow
@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_it_renders_and_nobody_is_left_out(browser: Any, report: pathlib.Path, mode: str, width: int) -> None:
    sizes = check(browser, report, mode, width)
    assert len(sizes) == 3 and min(sizes) > 100  # learning curves, reliability, the map


@pytest.mark.slow
def test_so_do_the_pages_of_other_commands(browser: Any, pages: list[str]) -> None:
    assert [len(check(browser, pathlib.Path(path, "report.html"), "dark", PHONE)) for path in pages] == [1, 0, 0]


@pytest.mark.slow
def test_by_keyboard_alone(browser: Any, report: pathlib.Path) -> None:
    from selenium.webdriver.common.keys import Keys

    def focused() -> Any:
        return browser.switch_to.active_element

    show(browser, report, "light", DESK)
    browser.find_element("tag name", "body").send_keys(Keys.TAB)
    assert focused().get_attribute("class") == "skip" and focused().is_displayed()
    reached = []
    for _ in range(80):
        focused().send_keys(Keys.TAB)
        reached.append(focused().tag_name)
        if reached[-1] == "input":
            break
    assert reached[-1] == "input" and "a" in reached
    first = focused().get_attribute("aria-label")
    focused().send_keys(Keys.ARROW_RIGHT)
    assert focused().get_attribute("aria-label") != first and focused().is_selected()
    card = browser.execute_script("return document.activeElement.parentElement.querySelector('.card')")
    assert card.is_displayed() and card.find_element("tag name", "img").is_displayed()
    assert browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    focused().send_keys(Keys.TAB)
    assert focused().get_attribute("name") != "map"  # one stop for all points
