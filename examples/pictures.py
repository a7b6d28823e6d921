"""Make the pictures of the documentation, and run the example notebook: ``python -m examples.pictures``.

Swin-T is built for one and for three cores; its report is opened in a headless Chromium, and its plots are drawn. The
network's weights are seeded, so that the same version of npusim makes the same pictures.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from examples import notebook
from examples.browser import NAMES, chromium, find_chromium

if TYPE_CHECKING:
    from playwright.sync_api import FloatRect, Page

    from npusim.session import Built

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
MODES = ("NPU1", "NPU3")
WIDTH, HEIGHT = 1280, 1000


def main() -> int:
    path = find_chromium()
    if path is None:
        print(f"pictures need one of {', '.join(NAMES)} on the path (apt-get install chromium)", file=sys.stderr)
        return 1
    PICTURES.mkdir(parents=True, exist_ok=True)
    built = build()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.html"
        write_report(built, report)
        with chromium(path) as browser:
            shown = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
            shown.goto(report.as_uri())
            photograph(shown)
    draw_plots(built[-1])
    notebook.main()
    for picture in sorted(PICTURES.glob("*.png")):
        print(f"{picture.name}: {picture.stat().st_size / 1024:.0f} KiB")
    return 0


def build() -> list[Built]:
    """Swin-T for each allocation."""
    import models
    import npusim
    from models.quantize import quantize

    model = quantize(models.build("swin_t"))
    return [npusim.build(model, npu_mode=mode) for mode in MODES]


def write_report(built: list[Built], target: Path) -> None:
    """What ``npusim profile`` writes of these models."""
    from npusim import __version__
    from npusim.report.page import page
    from npusim.session.profiles import profile_model

    target.write_text(page([profile_model(one.axmodel) for one in built], __version__), encoding="utf-8")


def photograph(shown: Page) -> None:
    """The report from its head to the timeline, the roofline, and the timeline from near, all of three cores."""
    shown.click(f"#runs button:nth-child({len(MODES)})")
    shown.mouse.move(0, 0)
    end = section(shown, "#timeline")
    whole: FloatRect = {"x": 0, "y": 0, "width": WIDTH, "height": end["y"] + end["height"]}
    shown.screenshot(path=PICTURES / "report.png", full_page=True, clip=whole)
    shown.locator("#roofline").screenshot(path=PICTURES / "roofline.png")
    shown.evaluate("document.querySelector('#timeline').scrollIntoView()")
    box = section(shown, "#canvas")
    shown.mouse.move(box["x"] + 0.55 * WIDTH, box["y"] + 60)
    for _ in range(13):
        shown.mouse.wheel(0, -120)
    shown.wait_for_timeout(500)
    shown.mouse.move(box["x"] + 0.5 * WIDTH, box["y"] + 42)
    shown.wait_for_timeout(500)
    shown.screenshot(path=PICTURES / "timeline.png", clip=section(shown, "#timeline"))


def section(shown: Page, selector: str) -> FloatRect:
    """Where an element is."""
    box = shown.locator(selector).bounding_box()
    assert box is not None, f"{selector} is shown"
    return box


def draw_plots(built: Built) -> None:
    """Timeline and roofline as notebooks draw them."""
    import matplotlib as mpl

    import npusim

    mpl.use("Agg")
    result = npusim.simulate(built)
    plain = {"Software": None}  # no version of matplotlib in the file
    for name, axes in (("timeline", result.plot_timeline()), ("roofline", result.plot_roofline())):
        figure = axes.get_figure(root=True)
        assert figure is not None, "axes are part of a figure"
        figure.savefig(PICTURES / f"plot-{name}.png", dpi=110, metadata=plain)


if __name__ == "__main__":
    sys.exit(main())
