"""The report in a real browser: what it draws, what it does when it is used, and that it asks for nothing."""

import math
from dataclasses import replace

import pytest

import npusim
from npusim.report.page import page
from npusim.report.precision import LayerPrecision
from npusim.report.summary import CpuWork
from tests.report.browser import chromium

HOSTILE = "</script><script>window.hostile = 1</script><img src=x onerror='window.hostile = 2'>&amp;"


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def report(matmul, chain, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page([matmul, chain], npusim.__version__), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser, report):
    """The report, opened; what it complained of or asked for fails the test that used it."""
    yield from open_page(browser, report)


def open_page(browser, path, **options):
    shown = browser.new_page(viewport={"width": 1400, "height": 900}, **options)
    noise = []
    shown.on("console", lambda message: noise.append(message.text) if message.type == "error" else None)
    shown.on("pageerror", lambda error: noise.append(str(error)))
    asked = []
    shown.on("request", lambda request: asked.append(request.url))
    shown.goto(path.as_uri())
    yield shown
    shown.close()
    assert noise == []
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]


def view(opened):
    """First and last cycle on the canvas, once it has drawn."""
    opened.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return tuple(opened.evaluate("() => ['from', 'to'].map((name) => Number(canvas.dataset[name]))"))


def canvas(opened):
    opened.locator("#canvas").scroll_into_view_if_needed()
    return opened.locator("#canvas").bounding_box()


def cycle_at(opened, x, left=92):
    low, high = view(opened)
    return low + (x - left) / (canvas(opened)["width"] - left - 2) * (high - low)


def place_of(opened, cycle, left=92):
    low, high = view(opened)
    box = canvas(opened)
    return box["x"] + left + (cycle - low) / (high - low) * (box["width"] - left - 2)


def rows(opened, column):
    return opened.locator(f"#layers tbody td:nth-child({column})").all_inner_texts()


def test_there_is_a_lane_for_every_unit_of_every_core(opened, matmul):
    units = ("conv0", "conv1", "teng2", "cv3", "sdma4")
    names = opened.get_attribute("#canvas", "data-lanes").split(" ")
    assert names == [f"core{core}.{unit}" for core in range(3) for unit in units]
    assert view(opened) == (0, matmul.summary.cycles)


def test_figures_are_those_of_the_summary(opened, matmul):
    text = opened.inner_text("#headline")
    figures = matmul.summary
    for expected in (f"{figures.latency_ms:.3f}", f"{figures.cycles:,}", f"{figures.tops:.2f}", f"{figures.fps:,.1f}"):
        assert expected in text
    assert "matmul_3core" in opened.inner_text("h1")


def test_units_at_work_have_the_colour_of_what_they_do(opened, matmul):
    box = canvas(opened)
    (first,) = [row for row in matmul.trace.rows() if (row.unit, row.position) == ("core0.conv0", 0)]
    x = place_of(opened, (first.start + first.end) / 2) - box["x"]
    red, green, blue = opened.evaluate(
        "(x) => [...canvas.getContext('2d').getImageData(x * devicePixelRatio, 34 * devicePixelRatio, 1, 1).data]", x
    )[:3]
    assert (red, green, blue) == (0x00, 0x72, 0xB2)


def test_the_wheel_zooms_around_the_pointer(opened, matmul):
    box = canvas(opened)
    x = 700
    before, cycle = view(opened), cycle_at(opened, x)
    opened.mouse.move(box["x"] + x, box["y"] + 60)
    opened.mouse.wheel(0, -400)
    after = view(opened)
    assert after[1] - after[0] < 0.7 * (before[1] - before[0])
    assert cycle_at(opened, x) == pytest.approx(cycle, rel=1e-3)
    opened.mouse.wheel(0, 4000)
    opened.mouse.wheel(0, 4000)
    opened.click("#reset")
    assert view(opened) == (0, matmul.summary.cycles)


def test_dragging_pans(opened):
    opened.click("#in")
    box, (low, high) = canvas(opened), view(opened)
    opened.mouse.move(box["x"] + 600, box["y"] + 60)
    opened.mouse.down()
    opened.mouse.move(box["x"] + 500, box["y"] + 60, steps=4)
    opened.mouse.up()
    moved = view(opened)
    assert moved[0] - low == pytest.approx(100 / (box["width"] - 94) * (high - low), rel=0.02)
    assert moved[1] - moved[0] == pytest.approx(high - low)


def test_keys_do_what_the_pointer_does(opened, matmul):
    opened.focus("#canvas")
    opened.keyboard.press("+")
    low, high = view(opened)
    assert high - low == pytest.approx(0.6 * matmul.summary.cycles)
    opened.keyboard.press("ArrowRight")
    assert view(opened)[0] > low
    opened.keyboard.press("0")
    assert view(opened) == (0, matmul.summary.cycles)


def test_hovering_tells_what_is_there(opened, matmul):
    row = max((r for r in matmul.trace.rows() if r.unit == "core0.conv0"), key=lambda r: r.end - r.start)
    opened.mouse.move(place_of(opened, (row.start + row.end) / 2), canvas(opened)["y"] + 40)
    tip = opened.inner_text("#tip")
    assert row.origin in tip
    assert f"{row.end - row.start:,}" in tip
    assert "core0.conv0" in tip


def test_hovering_a_stall_names_its_cause(opened, matmul):
    row = max((r for r in matmul.trace.rows() if r.unit == "core0.conv0"), key=lambda r: r.stall)
    opened.mouse.move(place_of(opened, row.start - row.stall / 2), canvas(opened)["y"] + 40)
    tip = opened.inner_text("#tip")
    assert "stands still" in tip
    assert row.cause in tip
    assert f"{row.stall:,}" in tip


def test_a_click_selects_a_layer_everywhere_and_escape_lets_go(opened, matmul):
    row = max((r for r in matmul.trace.rows() if r.unit == "core0.conv0"), key=lambda r: r.end - r.start)
    opened.mouse.click(place_of(opened, (row.start + row.end) / 2), canvas(opened)["y"] + 40)
    assert row.origin in opened.inner_text("#selected")
    assert row.origin in opened.inner_text("#layers tr[aria-selected=true]")
    opened.focus("#canvas")
    opened.keyboard.press("Escape")
    assert opened.inner_text("#selected") == ""
    assert opened.locator("#layers tr[aria-selected=true]").count() == 0


def test_a_row_of_the_table_shows_its_layer(opened, matmul):
    name = rows(opened, 2)[0]
    opened.locator("#layers tbody tr").first.press("Enter")
    layer = next(layer for layer in matmul.summary.layers if layer.name == name)
    low, high = view(opened)
    assert low <= layer.start < layer.end <= high
    assert name in opened.inner_text("#selected")


def test_search_finds_and_steps_through_slices(opened, matmul):
    opened.fill("#search", "MATMUL")
    found = sum("matmul" in f"{row.mnemonic} {row.origin}" for row in matmul.trace.rows())
    assert opened.inner_text("#matches") == f"{found} found"
    opened.press("#search", "Enter")
    assert opened.inner_text("#matches") == f"1 of {found}"
    opened.click("#previous")
    assert opened.inner_text("#matches") == f"{found} of {found}"
    opened.fill("#search", "no such layer")
    assert opened.inner_text("#matches") == "0 found"


def test_heads_sort_the_table_both_ways(opened):
    def numbers():
        return [int(text.replace(",", "")) for text in rows(opened, 1)]

    head = opened.locator("#layers th", has_text="Start")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert numbers() == sorted(numbers(), reverse=True)
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert numbers() == sorted(numbers())
    assert len(set(numbers())) > 3


def test_the_table_is_filtered_by_text_and_by_bound(opened, matmul):
    layers = matmul.summary.layers
    opened.fill("#filter", layers[0].name)
    assert rows(opened, 2) == [layers[0].name]
    opened.fill("#filter", "")
    opened.select_option("#bound", "dram")
    assert len(rows(opened, 2)) == sum(layer.bound_by == "dram" for layer in layers) > 0


def test_another_run_is_shown_when_it_is_chosen(opened, chain):
    assert len(opened.locator("#comparison tbody tr").all()) == 2
    opened.click("#comparison tbody tr:nth-child(2)")
    assert opened.inner_text("h1") == chain.name
    assert f"{chain.summary.cycles:,}" in opened.inner_text("#headline")
    assert view(opened) == (0, chain.summary.cycles)
    assert opened.locator("#runs button[aria-checked=true]").inner_text() == f"{chain.name} NPU2"


def test_the_machine_is_listed_with_the_origin_of_its_numbers(opened, matmul):
    opened.click("#machine summary")
    text = opened.inner_text("#machine")
    for key, origin in matmul.hardware.provenance.items():
        assert key in text
        assert origin.note in text


def test_dark_and_light(browser, report):
    for shown in open_page(browser, report, color_scheme="dark"):
        background = "() => getComputedStyle(document.body).backgroundColor"
        corner = "() => canvas.getContext('2d').getImageData(2, canvas.height - 2, 1, 1).data[0]"
        dark = shown.evaluate(background), shown.evaluate(corner)
        shown.click("#theme")
        assert shown.inner_text("#theme") == "Theme: light"
        view(shown)
        light = shown.evaluate(background), shown.evaluate(corner)
        assert light == ("rgb(255, 255, 255)", 255)
        assert dark[1] < 50
        shown.click("#theme")
        view(shown)
        assert (shown.evaluate(background), shown.evaluate(corner)) == dark


def test_printed_it_is_light_and_whole(browser, report):
    for shown in open_page(browser, report, color_scheme="dark"):
        shown.emulate_media(media="print")
        shown.evaluate("() => dispatchEvent(new Event('beforeprint'))")
        assert shown.evaluate("() => document.documentElement.dataset.theme") == "light"
        assert not shown.is_visible(".toolbar")
        assert shown.is_visible("#machine table")


def test_cpu_parts_and_precision_are_shown_where_there_are_any(browser, matmul, tmp_path):
    work = CpuWork(
        name="cpu_0", ops=("TopK", "Cast"), operators=2, flops=1000, bytes=2048, copied_bytes=0, ms=0.25, node="/TopK",
        reason="no integer operation",
    )  # fmt: skip
    precision = [
        LayerPrecision(name="worse", op="matmul", dtype="u8", cosine=0.9, snr_db=12.5, max_abs_error=0.25),
        LayerPrecision(name="equal", op="conv", dtype="u16", cosine=1.0, snr_db=math.inf, max_abs_error=0.0),
    ]
    summary = replace(matmul.summary, cpu_parts=(work,), host_ms=0.25)
    path = tmp_path / "more.html"
    path.write_text(page([replace(matmul, summary=summary, precision=tuple(precision))], "1"), encoding="utf-8")
    for shown in open_page(browser, path):
        assert "0.25 ms CPU parts" in shown.inner_text("#headline")
        assert "/TopK: no integer operation" in shown.inner_text("#host")
        assert shown.locator("#precision tbody td:first-child").all_inner_texts() == ["worse", "equal"]
        assert "∞" in shown.inner_text("#precision")
        assert shown.is_hidden("#comparison")


def test_names_are_text_and_nothing_else(browser, matmul, tmp_path):
    names = tuple((HOSTILE, *names[1:]) for names in matmul.trace.origin_names)
    layers = [replace(layer, op=HOSTILE) for layer in matmul.summary.layers]
    profile = replace(
        matmul, name=HOSTILE, trace=replace(matmul.trace, origin_names=names),
        summary=replace(matmul.summary, layers=tuple(layers)), sources={layers[0].name: (HOSTILE,)},
        versions={HOSTILE: HOSTILE},
    )  # fmt: skip
    path = tmp_path / "hostile.html"
    path.write_text(page([profile, matmul], npusim.__version__), encoding="utf-8")
    for shown in open_page(browser, path):
        assert shown.inner_text("h1") == HOSTILE
        assert shown.evaluate("() => window.hostile") is None
        assert shown.title().startswith(HOSTILE)
