"""The pages as a browser shows them: wide and narrow, light and dark, without network, by keyboard.

Two browsers are started, one a colour scheme. Each opens a frame of each width a page; a probe in the page, which the
page's own policy is told to let run, sends what it measures.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conformance.events import Event
from conformance.finding import Finding
from conformance.reports.campaign_page import campaign_page
from conformance.reports.finding_page import finding_page
from conformance.reports.html import campaign_html, finding_html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WIDTHS = (360, 1280)
SCHEMES = {"light": 1, "dark": 0}
READABLE = 4.5
"""The contrast that the Web Content Accessibility Guidelines ask of text."""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed (Debian package `chromium`)")

PROBE = """
const violations = [];
addEventListener("securitypolicyviolation", event => violations.push(event.violatedDirective + " " + event.blockedURI));
const errors = [];
addEventListener("error", event => errors.push(String(event.message)));
const rgb = text => text.match(/[\\d.]+/g).map(Number);
const light = color => {
  const [r, g, b] = color.slice(0, 3).map(c => c / 255 <= 0.04045 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = element => {
  for (let at = element; at; at = at.parentElement) {
    const color = rgb(getComputedStyle(at).backgroundColor);
    if (color.length < 4 || color[3] > 0) return color;
  }
  return [255, 255, 255];
};
const contrast = element => {
  const pair = [light(rgb(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
  return (pair[0] + 0.05) / (pair[1] + 0.05);
};
const sticking = () => [...document.querySelectorAll("body *")].filter(element =>
  !element.closest(".scroll, pre, .quiet, svg") && element.className !== "skip"
  && element.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5
).map(element => element.tagName + "." + element.className).slice(0, 5);
addEventListener("load", () => setTimeout(() => {
  const root = document.documentElement, closed = root.scrollWidth - root.clientWidth;
  document.querySelectorAll("details").forEach(details => details.open = true);
  const told = [...document.querySelectorAll("body *")].filter(element => !element.closest("svg, script, .quiet")
    && [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
  const contrasts = told.map(element => [contrast(element), element.tagName + "." + element.className]);
  const worst = contrasts.sort((a, b) => a[0] - b[0])[0];
  const sorted = [...document.querySelectorAll("table.sortable")].map(table => {
    const column = [...table.tHead.rows[0].cells].findIndex(head => head.classList.contains("number"));
    const head = table.tHead.rows[0].cells[column], button = head.querySelector("button");
    const values = () => [...table.tBodies[0].rows].map(row => Number(row.cells[column].dataset.sort));
    button.focus();
    const focused = document.activeElement === button, before = values();
    button.click();
    const up = values(), upward = head.getAttribute("aria-sort");
    button.click();
    return {focused, before, up, upward, down: values(), downward: head.getAttribute("aria-sort")};
  });
  parent.postMessage({
    name: location.pathname.split("/").pop() + location.search,
    closed, open: root.scrollWidth - root.clientWidth, sticking: sticking(), worst, sorted,
    paper: rgb(getComputedStyle(document.body).backgroundColor), violations, errors,
    loaded: performance.getEntriesByType("resource").map(entry => entry.name),
    reached: [...document.querySelectorAll("a[href], button, summary, [tabindex='0']")].length,
    boxes: [...document.querySelectorAll("svg text")].filter(text => {
      const own = text.getBBox(), all = text.ownerSVGElement.viewBox.baseVal;
      return all.width && (own.x < 0 || own.x + own.width > all.width || own.y + own.height > all.height);
    }).map(text => text.textContent),
  }, "*");
}, 50));
"""

COLLECT = """
<!doctype html><meta charset="utf-8"><style>:root {{ color-scheme: light dark; }}</style><pre id="told"></pre>
<script>
const told = {{}};
addEventListener("message", event => {{
  told[event.data.name] = event.data;
  document.getElementById("told").textContent = JSON.stringify(told);
}});
</script>
{frames}
"""


def probed(page: str) -> str:
    """The page with the probe in it, let in by its hash."""
    digest = base64.b64encode(hashlib.sha256(PROBE.encode()).digest()).decode()
    policy = f"script-src 'sha256-{digest}' "
    assert page.count("script-src ") == 1
    return page.replace("script-src ", policy).replace("<style>", f"<script>{PROBE}</script>\n<style>", 1)


def opened(folder: Path, pages: dict[str, str], scheme: int) -> tuple[dict[str, Any], str]:
    """What the probes of all pages sent, and what the browser said of errors."""
    frames = []
    for name, page in pages.items():
        (folder / f"{name}.html").write_text(probed(page), encoding="utf-8")
        frames += [f'<iframe src="{name}.html?{width}" width="{width}" height="900"></iframe>' for width in WIDTHS]
    (folder / "all.html").write_text(COLLECT.format(frames="\n".join(frames)))
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
            *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
            # Whoever asks for an address is told that there is none.
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={folder / 'profile'}",
            f"--blink-settings=preferredColorScheme={scheme}",
            *("--enable-logging=stderr", "--window-size=1400,1000", "--virtual-time-budget=4000", "--dump-dom"),
            (folder / "all.html").as_uri(),
        ],
        capture_output=True,
        timeout=120,
        check=True,
    )
    found = re.search(r'<pre id="told">(.*?)</pre>', done.stdout.decode(), re.DOTALL)
    assert found is not None
    console = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(found[1])), "\n".join(console)


@pytest.fixture(params=SCHEMES)
def shown(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    made_finding: Callable[..., Finding],
    made_run: Callable[..., list[Event]],
    everything_hostile: str,
) -> tuple[str, dict[str, Any], str]:
    """The scheme, what was measured on every page at every width, and what the console said."""
    pages: dict[str, str] = {}
    for name, text in {"plain": "model/dense/kernel", "hostile": everything_hostile}.items():
        pages[f"{name}-finding"] = finding_html(finding_page(made_finding(text, 24, raised=True), f"# {text}\n" * 9))
        pages[f"{name}-index"] = campaign_html(campaign_page(made_run(text)))
    return request.param, *opened(tmp_path, pages, SCHEMES[request.param])


def test_a_browser_shows_every_page_whole_readable_sortable_and_without_network(
    shown: tuple[str, dict[str, Any], str],
) -> None:
    scheme, told, console = shown
    assert set(told) == {
        f"{name}-{kind}.html?{width}"
        for name in ("plain", "hostile")
        for kind in ("finding", "index")
        for width in WIDTHS
    }
    assert console == ""
    for name, page in told.items():
        assert (page["closed"], page["open"], page["sticking"]) == (0, 0, []), name
        assert (page["loaded"], page["violations"], page["errors"]) == ([], [], []), name
        assert page["worst"][0] >= READABLE, (name, page["worst"])
        assert page["boxes"] == [], name
        assert (sum(page["paper"][:3]) < 128 * 3) == (scheme == "dark"), name
        assert page["reached"] > 10, name
        assert page["sorted"], name
        for table in page["sorted"]:
            assert table["focused"], name
            assert (table["up"], table["upward"]) == (sorted(table["before"]), "ascending"), name
            assert (table["down"], table["downward"]) == (sorted(table["before"], reverse=True), "descending"), name
        orders = [table["up"] != table["down"] for table in page["sorted"]]
        assert any(orders), name
