"""The site, as ``make docs`` builds it: its links, and how it behaves in a browser.

Screenshots are left in build/docs/screenshots, to be looked at.
"""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from .support import ROOT
from .tiers import full

SITE = ROOT / "build" / "docs" / "html"
SCREENSHOTS = ROOT / "build" / "docs" / "screenshots"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")

PAGES = (
    "index",
    "start/tutorial",
    "guides/replace-your-generator",
    "reference/api",
    "reference/options",
    "explanation/how-it-works",
    "comparison",
    "benchmarks",
)
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}

pytestmark = [
    full,
    pytest.mark.skipif(not SITE.exists(), reason="no site: make docs builds it"),
]
in_a_browser = pytest.mark.skipif(
    BROWSER is None, reason="no chromium: the site is not looked at in a browser"
)


class Links(HTMLParser):
    """Collects the targets of a page's links and the anchors that it has."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.anchors.add(value or "")
            elif name in ("href", "src") and value and tag != "link":
                self.targets.add(value)


def test_every_link_of_the_site_leads_to_a_page_and_an_anchor() -> None:
    pages = {page: Links(page) for page in SITE.rglob("*.html")}
    assert len(pages) > 30
    lost = []
    for page, links in pages.items():
        for target in links.targets:
            if urlsplit(target).scheme:
                continue
            path, anchor = urldefrag(target)
            file = (page.parent / unquote(path.partition("?")[0])) if path else page
            file = file.resolve()
            if not file.exists() or (
                anchor and file in pages and unquote(anchor) not in pages[file].anchors
            ):
                lost.append(f"{page.relative_to(SITE)}: {target}")
    assert lost == []


def test_nothing_of_the_site_is_loaded_from_elsewhere() -> None:
    """So that it can be read without a network, and nobody else sees who reads it."""
    for page in SITE.rglob("*.html"):
        for line in page.read_text().splitlines():
            if "<script" in line or ("<link" in line and "stylesheet" in line) or "<img" in line:
                assert 'src="http' not in line, (page, line)
                assert 'href="http' not in line or "stylesheet" not in line, (page, line)


def test_the_site_has_a_text_for_language_models() -> None:
    text = (SITE / "llms.txt").read_text()
    assert "tutorial" in text
    assert "reference/options" in text
    assert (SITE / "llms-full.txt").stat().st_size > 100_000


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Serve the site at an address of this machine."""
    handler = functools.partial(QuietHandler, directory=SITE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=BROWSER,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@in_a_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_each_page_fits_its_window(browser: Any, url: str, size: str, theme: str) -> None:
    width, height = SIZES[size]
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=theme)
    for name in PAGES:
        answer = page.goto(f"{url}/{name}.html")
        assert answer.ok, name
        page.screenshot(path=SCREENSHOTS / f"{name.replace('/', '-')}-{size}-{theme}.png")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{name} is {wide} pixels wide in a window of {width}"
        lost = page.evaluate(
            "[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src)"
        )
        assert lost == [], name
    page.close()


@in_a_browser
def test_the_themes_differ(browser: Any, url: str) -> None:
    grounds = set()
    for theme in ("light", "dark"):
        page = browser.new_page(color_scheme=theme)
        page.goto(f"{url}/index.html")
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.close()
    assert len(grounds) == 2


@in_a_browser
def test_the_navigation_leads_to_each_section(browser: Any, url: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{url}/index.html")
    links = page.locator(".sidebar-tree a.reference.internal")
    assert links.count() > 25
    page.locator(".sidebar-tree").get_by_text("Command line", exact=False).first.click()
    page.wait_for_url("**/reference/command-line.html")
    assert "fastloader ingest" in page.inner_text("article")
    page.close()


@in_a_browser
def test_the_navigation_opens_on_a_phone(browser: Any, url: str) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(f"{url}/index.html")
    entry = page.locator(".sidebar-tree a").first
    assert not is_in_view(page, entry)
    page.locator("label[for='__navigation']:visible").first.click()
    page.wait_for_function(
        "document.querySelector('.sidebar-drawer').getBoundingClientRect().x >= 0"
    )
    assert is_in_view(page, entry)
    page.close()


def is_in_view(page: Any, element: Any) -> bool:
    box = element.bounding_box()
    return bool(box) and box["x"] >= 0 and box["x"] < page.viewport_size["width"]


@in_a_browser
def test_the_search_finds_an_option(browser: Any, url: str) -> None:
    page = browser.new_page()
    page.goto(f"{url}/index.html")
    box = page.locator("input[name=q]").first
    box.fill("shuffle_block")
    box.press("Enter")
    # Sphinx shows the results one by one, and says so when the last one is there.
    page.wait_for_selector("text=Search finished")
    found = page.locator("ul.search li a").all_inner_texts()
    assert any("Options" in title for title in found), found
    page.close()


@in_a_browser
def test_a_copy_button_copies_the_code_without_prompts(browser: Any, url: str) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{url}/index.html")
    block = page.locator("div.highlight", has_text="FastLoader(").first
    block.hover()
    block.locator("button.copybtn").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("from fastloader import FastLoader")
    assert copied.rstrip() == block.locator("pre").inner_text().rstrip()
    context.close()
