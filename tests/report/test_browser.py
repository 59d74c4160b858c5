"""The page in Chromium, if it is installed: sorting, filtering, a narrow screen, no errors."""

import html
import json
import re
import shutil
import subprocess

import pytest
from test_report import write_run
from test_report_parts import write_pictures, write_scores

from kd_keras import report

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "chromium-headless-shell")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--enable-logging=stderr", "--virtual-time-budget=3000"),
)
NARROW, WIDE = 390, 1280

# The page stands in a frame of the width of a screen: a window cannot be made as narrow as a phone.
# The script tries it and leaves what it saw in the document, which Chromium prints.
FRAME = """<!doctype html><meta charset="utf-8"><pre id="found"></pre>
<iframe style="width:{width}px;height:900px;border:0" srcdoc="{page}"></iframe>
<script>
const frame = document.querySelector("iframe"), errors = [];
frame.addEventListener("load", () => {{
  const page = frame.contentDocument, view = frame.contentWindow;
  view.addEventListener("error", (event) => errors.push(String(event.message)));
  const found = {{}};
  try {{ {script} }} catch (error) {{ errors.push(String(error)); }}
  const root = page.documentElement;
  found.overflow = root.scrollWidth - root.clientWidth;
  found.width = root.clientWidth;
  found.errors = errors;
  document.getElementById("found").textContent = JSON.stringify(found);
}});
</script>"""
TRY = """
  const table = page.querySelector("#overview table");
  const names = () => [...table.tBodies[0].rows].filter((row) => row.offsetParent !== null)
    .map((row) => row.cells[0].textContent);
  const button = (title) => [...table.querySelectorAll("thead button")]
    .find((one) => one.textContent.trim() === title);
  const state = (title) => button(title).closest("th").getAttribute("aria-sort");
  found.buttons = table.querySelectorAll("thead button").length;
  found.heads = table.querySelectorAll("thead th").length;
  found.first = names();
  button("run").click();
  found.by_name = names();
  button("run").click();
  found.by_name_again = [state("run"), ...names()];
  button("difference").click();
  found.by_difference = names();
  button("parameters").click();
  found.by_parameters = [state("parameters"), state("run"), ...names()];
  const field = page.querySelector("#overview input");
  field.value = "MHIST b-";
  field.dispatchEvent(new view.Event("input"));
  found.filtered = names();
  found.told = page.querySelector("#overview output").textContent;
  button("score alone").focus();
  found.focused = page.activeElement.textContent;
  found.outline = view.getComputedStyle(page.activeElement).outlineStyle;
"""

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The page of one run, and of three that differ in difference and size."""
    root = tmp_path_factory.mktemp("pages")
    runs = []
    for name, gain, parameters in (("b-kd", 0.01, 10), ("a-kd", -0.02, 200), ("c-kd", 0.03, 3)):
        run = write_run(root / name, seeds=1)
        results = json.loads((run / "results.json").read_text())
        results["verdict"]["gain"] = gain
        results["models"]["distilled"]["cost"]["parameters"] = parameters
        if name == "c-kd":
            results["verdict"] = None
        (run / "results.json").write_text(json.dumps(results))
        runs.append(run)
    one = write_pictures(write_scores(write_run(root / "one")))
    return {
        "one": report.build([one], root / "of-one").read_text(),
        "many": report.build(runs, root / "of-many").read_text(),
    }


def seen(page, width, script, folder):
    """Open a page in a frame of a width, run a script on it, and return what it found."""
    file = folder / "frame.html"
    file.write_text(FRAME.format(width=width, page=html.escape(page), script=script))
    done = subprocess.run(
        [CHROMIUM, *OPTIONS, f"--user-data-dir={folder / 'profile'}", "--window-size=1400,1000",
         "--dump-dom", file.as_uri()],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr
    (text,) = re.findall(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert text, done.stderr
    return json.loads(html.unescape(text))


def test_headers_sort_and_the_field_filters(pages, tmp_path):
    found = seen(pages["many"], WIDE, TRY, tmp_path)
    assert found["errors"] == []
    assert found["buttons"] == found["heads"] == 11
    assert found["first"] == ["b-kd", "a-kd", "c-kd"]
    assert found["by_name"] == ["a-kd", "b-kd", "c-kd"]
    assert found["by_name_again"] == ["descending", "c-kd", "b-kd", "a-kd"]
    assert found["by_difference"] == ["b-kd", "a-kd", "c-kd"]  # that of the last is not known
    assert found["by_parameters"] == ["ascending", None, "c-kd", "b-kd", "a-kd"]
    assert (found["filtered"], found["told"]) == (["b-kd"], "1 of 3 runs")
    assert found["focused"] == "score alone"
    assert found["outline"] not in ("none", "")


@pytest.mark.parametrize("width", [NARROW, WIDE])
@pytest.mark.parametrize("which", ["one", "many"])
def test_no_page_is_wider_than_the_screen(pages, tmp_path, which, width):
    found = seen(pages[which], width, "", tmp_path)
    assert found["errors"] == []
    assert found["width"] <= width
    assert found["overflow"] == 0


def test_a_fault_of_the_page_is_found(pages, tmp_path):
    """Else the tests above could not fail."""
    wide = pages["one"].replace("</body>", '<div style="width:900px">wide</div></body>')
    found = seen(wide, NARROW, "null.missing;", tmp_path)
    assert found["overflow"] > 0
    assert "null" in found["errors"][0]
