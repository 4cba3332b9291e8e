"""The page in headless Chromium, driven by Playwright; left out where no Chromium is found."""

from __future__ import annotations

import shutil

import pytest
import torch

from stillroom.report import page as module
from stillroom.report.aggregate import read_comparison
from stillroom.report.charts import shortened
from stillroom.report.page import write_report
from stillroom.report.summary import summarize
from stillroom.report.views import box_images
from tests.report.box_runs import made_box_runs
from tests.report.pages import made_comparison, made_views

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

CLASSES = ("apple", "a pear with a very long name", "plum", "<script>boom()</script>")
METHODS = ("kd", "dkd", "ldrld")
FIRST = "table.sortable >> nth=0"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        comparison = made_comparison(folder, patch, CLASSES, METHODS, seeds=3)
        patch.setattr(module, "_views", lambda pair, reference, say: made_views(CLASSES, METHODS, samples=2, side=16))
        write_report(folder / "page.html", comparison, summarize(comparison))
    return (folder / "page.html").as_uri()


@pytest.fixture
def page(browser, address):
    """The page, on which nothing may go wrong and which may fetch nothing."""
    troubles = []
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda request: troubles.append(request.url) if request.url.startswith("http") else None)
    page.goto(address)
    yield page
    page.close()
    assert troubles == []


def names(page):
    return page.locator(f"{FIRST} >> tbody th").all_inner_texts()


def test_a_click_on_a_heading_sorts_and_another_turns_the_order_round(page):
    head = page.locator(f"{FIRST} >> thead th", has_text="last %")
    assert names(page) == ["kd", "dkd", "ldrld"]
    head.locator("button").click()
    assert names(page) == ["ldrld", "dkd", "kd"]
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").click()
    assert names(page) == ["kd", "dkd", "ldrld"]
    assert head.get_attribute("aria-sort") == "ascending"


def test_sorting_works_from_the_keyboard_and_cells_without_a_value_stay_last(page):
    button = page.locator(f"{FIRST} >> thead button", has_text="points over")
    button.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    assert names(page) == ["dkd", "ldrld", "kd"]  # ascending; the reference has no difference from itself
    page.locator(f"{FIRST} >> thead button").first.click()
    assert names(page) == ["dkd", "kd", "ldrld"]
    assert page.locator(f"{FIRST} >> th[aria-sort]").count() == 1


def test_the_tab_key_reaches_headings_in_order_with_a_visible_ring(page):
    heads = page.locator(f"{FIRST} >> thead button")
    heads.first.focus()
    page.keyboard.press("Tab")
    assert heads.nth(1).evaluate("element => element === document.activeElement")
    assert heads.nth(1).evaluate("element => getComputedStyle(element).outlineStyle") == "solid"


def test_choosing_a_class_shows_its_partners_and_numbers(page):
    table, choice = page.locator("table.relations"), page.locator("select.choice")
    data = page.evaluate("JSON.parse(document.querySelector('.relations-data').textContent)")
    for chosen in ("2", "0"):
        choice.select_option(chosen)
        shown = table.locator("[data-part=partner]").all_inner_texts()
        assert shown == [shortened(CLASSES[place]) for place in data["partners"][int(chosen)]]
        row = table.locator("[data-part=students][data-method='2']").all_inner_texts()
        assert row == pytest.approx([f"{value:.2f}" for value in data["students"][2][int(chosen)]])
        weights = table.locator("[data-part=weights][data-method='1']").all_inner_texts()
        assert weights[0].startswith(f"{data['weights'][1][int(chosen)][0]:.3f}")


def test_what_is_written_without_scripts_is_what_the_script_shows(browser, address):
    texts = []
    for scripts in (True, False):
        context = browser.new_context(java_script_enabled=scripts)
        page = context.new_page()
        page.goto(address)
        texts.append(page.locator("table.relations").inner_text())
        context.close()
    assert texts[0] == texts[1]


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_but_wide_tables_scrolls_sideways(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_on_a_phone_the_verdict_is_in_sight(page):
    page.set_viewport_size({"width": 390, "height": 800})
    place = [text.strip() for text in page.locator(f"{FIRST} >> thead th").all_inner_texts()].index("verdict")
    cells = page.locator(f"{FIRST} >> tbody tr td:nth-child({place + 1})")
    right = page.locator(f".wide:has({FIRST.split(' >>')[0]}) >> nth=0").bounding_box()
    assert cells.count() == len(METHODS)
    for cell in cells.all():
        box = cell.bounding_box()
        assert box["x"] + box["width"] <= right["x"] + right["width"]


def test_on_a_laptop_no_table_is_cut(page):
    cut = page.evaluate("[...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth).length")
    assert cut == 0


def test_charts_and_images_have_text_for_those_who_cannot_see_them(page):
    silent = page.evaluate(
        "[...document.querySelectorAll('img:not([alt]), figure svg')]"
        ".filter(e => e.tagName === 'IMG' || !e.closest('[role=img]')?.ariaLabel).length"
    )
    assert silent == 0


def test_print_opens_what_is_closed_and_cuts_no_table(page):
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 700, "height": 990})
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    cut = page.evaluate(
        "[...document.querySelectorAll('table')].filter(t => t.getBoundingClientRect().right > innerWidth).length"
    )
    assert cut == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_the_paper_in_light_and_dark(page, scheme):
    page.emulate_media(color_scheme=scheme)
    ratios = page.evaluate(CONTRAST, [f"--{name}" for name in ("ink", "soft", "good", "bad", "focus")])
    assert min(ratios) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lines_of_charts_stand_out_from_the_paper_in_light_and_dark(page, scheme):
    page.emulate_media(color_scheme=scheme)
    assert min(page.evaluate(CONTRAST, [f"--c{place}" for place in range(11)])) >= 3


@pytest.fixture(scope="module")
def boxes_address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("boxes")
    comparison = read_comparison([made_box_runs(folder / "runs", METHODS, seeds=1)])
    with pytest.MonkeyPatch.context() as patch:
        blank = torch.zeros(8, 3, 48, 48, dtype=torch.uint8)
        patch.setattr(box_images, "val_pixels", lambda pair, places: blank)
        write_report(folder / "page.html", comparison, summarize(comparison))
    return (folder / "page.html").as_uri()


@pytest.mark.parametrize("width", [1280, 390])
def test_boxes_lie_on_their_images_side_by_side(browser, boxes_address, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(boxes_address)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    panels = [panel.bounding_box() for panel in page.locator(".scenes >> nth=0 >> .scene svg").all()]
    assert len(panels) == 2 + len(METHODS), "annotation, teacher and students"
    assert sum(panel["y"] == panels[0]["y"] for panel in panels) == (5 if width > 1000 else 2)
    for panel in panels:
        assert panel["width"] / panel["height"] == pytest.approx(96 / 64, rel=0.01)
    page.close()


# Contrast ratios as WCAG 2 defines them, of the named variables with the paper.
CONTRAST = """names => {
  const luminance = name => {
    const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const parts = [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16) / 255)
      .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const paper = luminance('--paper');
  return names.map(luminance).map(l => (Math.max(l, paper) + 0.05) / (Math.min(l, paper) + 0.05));
}"""
