"""A report as a browser shows it: quiet, usable by keyboard alone, readable without JavaScript, printed."""

from __future__ import annotations

import base64
import io
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import NEEDS_CHROMIUM, axe_core, chromium, resize, show
from finished_folders import drawn, write_audit, write_decision, write_run
from pypdf import PdfReader
from running import Finished
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from fedml_spurious.report.page import make_page
from fedml_spurious.results.rows import read_results, write_results

pytestmark = NEEDS_CHROMIUM

HOSTILE = "<img src=x onerror=alert(1)>"
METHODS = ("global", "ft", "ditto", "uw", "jtt", "adv", "l2", "ours")
CLIENTS = 508


@pytest.fixture(scope="module")
def pages(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A real run, one of the size of CelebA by hand, and one whose client has a hostile id."""
    folder = tmp_path_factory.mktemp("pages")
    large = write_run(folder / "large_run", drawn, methods=METHODS, clients=CLIENTS)
    write_audit(large)
    hostile = write_run(folder / "hostile_run", drawn)
    rows = read_results(hostile / "results.csv")
    renamed = [
        type(row)(**(vars(row) | {"client": HOSTILE if row.client == "0002" else row.client})) for row in rows
    ]
    write_results(hostile / "results.csv", renamed)
    write_decision(hostile, "ours")
    found = {}
    for name, run in (("real", finished.folder), ("large", large), ("hostile", hostile)):
        found[name] = folder / f"{name}.html"
        found[name].write_text(make_page([run]), encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def shown(browser: Any) -> list[str]:
    """Names of the clients that are shown, in their order."""
    return browser.execute_script(
        "return [...document.querySelectorAll('.clients tr.c')].filter((row) => row.offsetParent)"
        ".map((row) => row.cells[0].textContent)"
    )


def column(browser: Any, key: str) -> list[str]:
    """Cells of a column in the rows that are shown."""
    return browser.execute_script(
        "const heads = [...document.querySelectorAll('.clients thead th')];"
        "const at = heads.findIndex((head) => head.dataset.key === arguments[0]);"
        "return [...document.querySelectorAll('.clients tr.c')].filter((row) => row.offsetParent)"
        ".map((row) => row.cells[at].textContent)",
        key,
    )


def press(browser: Any, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def count(browser: Any) -> str:
    return browser.find_element(By.CSS_SELECTOR, ".count").text


def focus_head(browser: Any, key: str) -> None:
    browser.execute_script("document.querySelector(`[data-key='${arguments[0]}'] button`).focus()", key)


@pytest.mark.parametrize("name", ["real", "large", "hostile"])
def test_a_page_says_nothing_to_the_console_and_fetches_nothing(
    name: str, pages: dict[str, Path], browser: Any
) -> None:
    show(browser, pages[name])
    assert browser.get_log("browser") == []
    assert (
        browser.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)") == []
    )


def test_the_policy_of_the_page_stops_a_request(pages: dict[str, Path], browser: Any) -> None:
    show(browser, pages["real"])
    browser.execute_script(
        "document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}))"
    )
    messages = [entry["message"] for entry in browser.get_log("browser")]
    assert any("Content Security Policy" in message for message in messages), messages


def test_sorting_by_keyboard_alone(pages: dict[str, Path], browser: Any) -> None:
    show(browser, pages["large"])
    worst = [float(cell) for cell in column(browser, "worst")]
    assert worst == sorted(worst, reverse=True)
    focus_head(browser, "ft.acc_bc")
    press(browser, Keys.ENTER)
    head = browser.find_element(By.CSS_SELECTOR, "[data-key='ft.acc_bc']")
    values = [float(cell) for cell in column(browser, "ft.acc_bc")]
    assert (head.get_attribute("aria-sort"), values) == ("descending", sorted(values, reverse=True))
    press(browser, Keys.SPACE)
    values = [float(cell) for cell in column(browser, "ft.acc_bc")]
    assert (head.get_attribute("aria-sort"), values) == ("ascending", sorted(values))
    assert len(browser.find_elements(By.CSS_SELECTOR, "[aria-sort]")) == 1


def test_filtering_by_keyboard_alone(pages: dict[str, Path], browser: Any) -> None:
    show(browser, pages["large"])
    press(browser, "/", "005")
    names = shown(browser)
    assert sorted(names) == ["0005", *(f"005{digit}" for digit in range(10))]
    assert count(browser) == f"11 of {CLIENTS} clients"
    values = [float(cell) for cell in column(browser, "ft.acc_b")]
    foot = [row.text for row in browser.find_elements(By.CSS_SELECTOR, ".clients tfoot tr")]
    assert f"{statistics.median(values):.3f}" in foot[1]
    assert f"{statistics.fmean(values):.3f}" in foot[0]
    press(browser, Keys.ESCAPE)
    assert count(browser) == f"{CLIENTS} of {CLIENTS} clients"


def test_the_chips_choose_methods_and_the_worst_tenth(pages: dict[str, Path], browser: Any) -> None:
    show(browser, pages["large"])
    chips = {chip.text.removeprefix("✓ "): chip for chip in browser.find_elements(By.CSS_SELECTOR, ".chip")}
    assert [name for name in METHODS if chips[name].get_attribute("aria-pressed") == "true"] == [
        "global",
        "ft",
        "ours",
    ]
    jtt = browser.find_element(By.CSS_SELECTOR, "[data-key='jtt.acc_b']")
    assert not jtt.is_displayed()
    chips["jtt"].send_keys(Keys.SPACE)
    assert jtt.is_displayed()
    chips["worst tenth"].send_keys(Keys.ENTER)
    assert count(browser) == f"51 of {CLIENTS} clients"  # a tenth of 508, rounded up
    assert shown(browser) == shown(browser)[:51]
    chips["worst tenth"].send_keys(Keys.ENTER)
    chips["more"].send_keys(Keys.ENTER)
    assert count(browser) == f"{CLIENTS // 2} of {CLIENTS} clients"  # of every second one it is said of ft
    assert set(column(browser, "audit")) == {"more: ft; cannot say: ditto uw jtt adv l2 ours"}
    chips["cannot say"].send_keys(Keys.ENTER)
    assert count(browser) == f"{CLIENTS} of {CLIENTS} clients"
    assert browser.execute_script("return location.hash").endswith("v=more%7Ecannot+say")


def test_a_row_opens_and_closes_by_keyboard(pages: dict[str, Path], browser: Any) -> None:
    show(browser, pages["real"])
    first, second = browser.find_elements(By.CSS_SELECTOR, ".clients tbody button")[:2]
    browser.execute_script("arguments[0].focus()", first)
    press(browser, Keys.ARROW_DOWN)
    assert browser.switch_to.active_element == second
    press(browser, Keys.ENTER)
    more = browser.find_element(By.ID, second.get_attribute("aria-controls"))
    assert second.get_attribute("aria-expanded") == "true"
    images = more.find_elements(By.TAG_NAME, "img")
    assert [image.get_attribute("alt").split(":")[0] for image in images] == ["aligned", "conflicting"]
    assert all(browser.execute_script("return arguments[0].naturalWidth", image) > 100 for image in images)
    assert len(more.find_elements(By.TAG_NAME, "polyline")) == 4  # two accuracies of ft and of ours
    press(browser, Keys.ESCAPE)
    assert not more.is_displayed()
    assert browser.switch_to.active_element == second


def test_the_address_keeps_the_view(pages: dict[str, Path], browser: Any) -> None:
    show(browser, pages["large"])
    focus_head(browser, "ours.disparity")
    press(browser, Keys.ENTER, "/", "01", Keys.TAB)
    browser.find_element(By.CSS_SELECTOR, "[data-method='1']").send_keys(Keys.ENTER)
    browser.find_element(By.CSS_SELECTOR, ".clients tbody tr:not([hidden]) button").send_keys(Keys.ENTER)
    state = browser.execute_script("return location.hash")

    def view() -> list[Any]:
        chips = browser.find_elements(By.CSS_SELECTOR, ".chip")
        pressed = [chip.get_attribute("aria-pressed") for chip in chips]
        return [shown(browser), count(browser), pressed, column(browser, "ours.disparity")]

    before = view()
    show(browser, pages["large"], state)
    assert view() == before
    assert len(browser.find_elements(By.CSS_SELECTOR, "[aria-expanded='true']")) == 1
    assert before[1] != f"{CLIENTS} of {CLIENTS} clients"


def test_508_clients_are_shown_in_under_a_second(pages: dict[str, Path], browser: Any) -> None:
    times = []
    for _ in range(3):
        show(browser, pages["large"])
        assert len(shown(browser)) == CLIENTS
        timing = (
            "const [one] = performance.getEntriesByType('navigation'); return one.domContentLoadedEventEnd"
        )
        times.append(browser.execute_script(timing))
    assert min(times) < 1000


def test_a_phone_scrolls_down_alone(pages: dict[str, Path], browser: Any) -> None:
    resize(browser, 320)
    try:
        for name in ("real", "large"):
            show(browser, pages[name])
            browser.execute_script("document.querySelector('.clients tbody button').click()")
            width = browser.execute_script("return document.documentElement.scrollWidth")
            assert width == 320, name
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_hostile_client_id_is_text(pages: dict[str, Path], browser: Any) -> None:
    show(browser, pages["hostile"])
    assert HOSTILE in shown(browser)
    assert browser.execute_script("return document.querySelectorAll('img').length") == 0
    press(browser, "/", "onerror")
    state = browser.execute_script("return location.hash")
    show(browser, pages["hostile"], state)
    assert shown(browser) == [HOSTILE]
    assert browser.get_log("browser") == []


def test_the_printed_page_holds_the_table(pages: dict[str, Path], browser: Any) -> None:
    show(browser, pages["real"])
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    reader = PdfReader(io.BytesIO(base64.b64decode(printed["data"])))
    text = "\n".join(page.extract_text() for page in reader.pages)
    for name in ("Result", "Table 1", "Clients", "0003", "ours"):
        assert name in text, name
    worst = column(browser, "worst")
    assert all(cell in text for cell in worst), worst
    assert "worst tenth" not in text


@pytest.mark.parametrize("name", ["real", "hostile"])
def test_axe_finds_nothing_serious(name: str, pages: dict[str, Path], browser: Any) -> None:
    source = axe_core()
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        show(browser, pages[name])
        browser.execute_script("document.querySelector('.clients tbody button').click()")
        browser.execute_script(source)
        found = browser.execute_async_script("axe.run().then((found) => arguments[0](found.violations))")
        bad = [
            (one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")
        ]
        assert bad == [], scheme


def test_without_javascript_every_row_is_there(pages: dict[str, Path]) -> None:
    with chromium(javascript=False) as browser:
        show(browser, pages["large"])
        rows = browser.find_elements(By.CSS_SELECTOR, ".clients tr.c")
        assert len(rows) == CLIENTS
        assert rows[0].is_displayed()
        assert rows[-1].is_displayed()
        assert not browser.find_element(By.CSS_SELECTOR, ".tools").is_displayed()
        browser.find_element(By.CSS_SELECTOR, ".clients summary").click()
        assert browser.find_element(By.CSS_SELECTOR, ".clients .more table").is_displayed()
