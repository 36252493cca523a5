"""Pages in headless Chromium: what it shows, what it complains of, what is wider than the screen."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from html import unescape
from pathlib import Path

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WHY_NOT = None if PROGRAM else "needs Chromium: apt-get install chromium"
SECONDS = 600
PRINT = "dispatchEvent(new Event('beforeprint'));"
PROBE = """
const root = document.documentElement;
const seen = {errors: window.seenErrors, width: root.clientWidth, all: root.scrollWidth,
  scheme: matchMedia("(prefers-color-scheme: dark)").matches, paper: getComputedStyle(document.body).backgroundColor,
  ink: getComputedStyle(document.body).color, wide: [], over: [], plots: []};
const scrolled = (e) => e && (/auto|scroll/.test(getComputedStyle(e).overflowX) || scrolled(e.parentElement));
for (const e of document.querySelectorAll("body *")) {
  const box = e.getBoundingClientRect();
  if (box.width && box.right > seen.width + 1 && !scrolled(e)) seen.wide.push(e.tagName + "." + e.className);
}
const beside = (a, b) => a.right <= b.left + 1 || a.bottom <= b.top + 1;
const apart = (a, b) => beside(a, b) || beside(b, a);
document.querySelectorAll(".plot").forEach((plot, n) => {
  const words = [...plot.querySelectorAll(".xtick text, .ytick text, .xtitle, .ytitle")];
  const texts = words.map((t) => [t.textContent, t.getBoundingClientRect()]);
  for (let i = 0; i < texts.length; i++) for (let j = 0; j < i; j++)
    if (!apart(texts[i][1], texts[j][1])) seen.over.push([n, texts[j][0], texts[i][0]]);
  const inner = plot.querySelector(".plot .plotbg, .bglayer, .cartesianlayer .plot");
  const own = plot.querySelector(".main-svg").getBoundingClientRect();
  const svg = plot.querySelectorAll(".main-svg").length;
  seen.plots.push({svg, width: own.width, height: own.height, alt: plot.getAttribute("aria-label"),
    x: (plot.querySelector(".xtitle") || {}).textContent, y: (plot.querySelector(".ytitle") || {}).textContent,
    inner: inner ? inner.getBoundingClientRect().width : 0});
});
seen.closed = document.querySelectorAll("details:not([open])").length;
seen.height = document.documentElement.scrollHeight;
parent.postMessage(JSON.stringify(seen), "*");
"""


@dataclass
class Seen:
    """A page after its scripts have run: its DOM as text, and what the browser wrote."""

    dom: str
    log: str

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings of the page itself."""
        return [line for line in self.log.splitlines() if "CONSOLE" in line or "Refused" in line]

    @property
    def probe(self) -> dict:
        """What `PROBE` found."""
        return json.loads(unescape(re.search(r'<pre id="probe">(.*?)</pre>', self.dom, re.DOTALL)[1]))


def chromium(
    page: Path, *options: str, width: int = 1400, height: int = 900, dark: bool = False
) -> subprocess.CompletedProcess:
    """Run it on a page, with a profile of its own."""
    own = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr", "--v=0"]
    own += ["--disable-background-networking", "--disable-dev-shm-usage", f"--user-data-dir={page.parent / 'profile'}"]
    own += [f"--window-size={width},{height}", "--virtual-time-budget=20000"]
    own += ["--blink-settings=preferredColorScheme=0"] if dark else ["--blink-settings=preferredColorScheme=1"]
    command = [str(PROGRAM), *own, *options, page.resolve().as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)


def seen(page: Path, **how: object) -> Seen:
    """The page as it is."""
    done = chromium(page, "--dump-dom", **how)
    return Seen(done.stdout, done.stderr)


def framed(page: Path, width: int, height: int) -> Path:
    """A page that shows another one as on a screen of that width; a window is 500 pixels wide at least."""
    frame = page.with_name(f"frame-{page.name}")
    listen = "addEventListener('message', (m) => { const told = document.createElement('pre'); told.id = 'probe'; "
    listen += "told.textContent = m.data; document.body.appendChild(told); });"
    style = f"border:0;width:{width}px;height:{height}px;display:block"
    frame.write_text(
        f"<body style='margin:0'><script>{listen}</script><iframe style='{style}' src='{page.name}'></iframe>"
    )
    return frame


def probed(page: Path, width: int, dark: bool = False, printed: bool = False) -> dict:
    """A copy that measures itself; its policy, which would forbid that, is left out."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(), count=1)
    head, _, tail = text.rpartition("</body>")
    early = "<script>window.seenErrors = []; window.onerror = (m) => { window.seenErrors.push(String(m)); };</script>"
    head = head.replace("<head>", "<head>" + early, 1)
    late = (
        f"<script>window.addEventListener('load', () => setTimeout(() => {{{PRINT * printed}{PROBE}}}, 1500));</script>"
    )
    copy = page.with_name("probe.html")
    copy.write_text(f"{head}{late}</body>{tail}")
    return seen(framed(copy, width, 900), width=max(width, 500), dark=dark).probe


def picture(page: Path, path: Path, width: int, height: int, dark: bool = False) -> None:
    """A screenshot, as on a screen of that width."""
    chromium(framed(page, width, height), f"--screenshot={path}", width=max(width, 500), height=height, dark=dark)
