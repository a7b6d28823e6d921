// The timeline: lanes and strips of one run on a canvas, and what pointer and keys do to it.

const GUTTER = 92;
const AXIS = 30;
const LANE = 22;
const LANE_GAP = 4;
const CORE_GAP = 12;
const STRIP = 44;
const STRIP_GAP = 12;
const LEAST_CYCLES = 40;

/**
 * The timeline of a run.
 * events: selected(layer index or -1), moved(from, to).
 */
function timeline(run, kinds, events) {
  const canvas = find("#canvas");
  const tip = find("#tip");
  const lanes = run.lanes.map(decodeLane);
  const strips = stripsOf(run);
  const whole_run = [0, Math.max(run.figures.cycles, LEAST_CYCLES)];
  let [from, to] = whole_run;
  let selected = -1;
  let needle = "";
  let matches = [];
  let match = -1;
  let palette = {};
  let waiting = false;
  const layerNames = run.layers.map((layer) => [layer[0], layer[1], ...layer[9]].join("\n").toLowerCase());

  // ------------------------------------------------------------------------------------------------ where things are

  const boxes = [];
  let bottom = AXIS;
  lanes.forEach((lane, k) => {
    if (k && lanes[k - 1].core !== lane.core) bottom += CORE_GAP;
    boxes.push({ top: bottom, height: LANE });
    bottom += LANE + LANE_GAP;
  });
  bottom += CORE_GAP;
  const stripBoxes = strips.map(() => {
    const box = { top: bottom, height: STRIP };
    bottom += STRIP + STRIP_GAP;
    return box;
  });
  canvas.style.height = `${bottom}px`;
  canvas.setAttribute("aria-label", `Timeline of ${run.name}: ${lanes.length} lanes, ${whole(run.figures.cycles)} cycles`);
  canvas.dataset.lanes = lanes.map((lane) => `core${lane.core}.${lane.label}`).join(" ");

  const width = () => canvas.clientWidth - GUTTER - 2;
  const view = () => ({ from, to, left: GUTTER, width: width() });
  const cycleAt = (x) => from + ((x - GUTTER) / width()) * (to - from);
  const milliseconds = (cycles) => (1e3 * cycles) / run.clock_hz;

  // ----------------------------------------------------------------------------------------------------------- drawing

  function readPalette() {
    palette = Object.fromEntries(["paper", "panel", "ink", "soft", "faint", "rule", "accent", "dram"].map((n) => [n, color(n)]));
    palette.kinds = kinds.map(color);
    palette.on = kinds.map((kind) => color(`on-${kind}`));
  }

  function emphasis(layer, op) {
    if (needle) return (layer >= 0 && layerNames[layer].includes(needle)) || run.ops[op].includes(needle);
    return selected < 0 || layer === selected;
  }

  function draw() {
    waiting = false;
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [canvas.clientWidth, canvas.clientHeight];
    if (!w) return;
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
      canvas.width = Math.round(w * ratio);
      canvas.height = Math.round(h * ratio);
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = palette.paper;
    context.fillRect(0, 0, w, h);
    context.font = "12px system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif";
    context.textBaseline = "middle";
    drawAxis(context, h);
    const style = { kinds: palette.kinds, on: palette.on, emphasis, name: nameOf };
    lanes.forEach((lane, k) => {
      context.fillStyle = palette.panel;
      context.fillRect(GUTTER, boxes[k].top, width(), LANE);
      drawLane(context, lane, view(), boxes[k], style);
      gutter(context, lane.label, boxes[k].top + LANE / 2, palette.soft, 46);
      if (!k || lanes[k - 1].core !== lane.core) gutter(context, `core${lane.core}`, boxes[k].top + LANE / 2, palette.ink, 0);
    });
    strips.forEach((strip, k) => {
      const box = stripBoxes[k];
      context.fillStyle = palette.panel;
      context.fillRect(GUTTER, box.top, width(), STRIP);
      drawStrip(context, strip, view(), box, palette);
      gutter(context, strip.title, box.top + 9, palette.ink, 0);
      gutter(context, strip.axis(strip.limit), box.top + 26, palette.faint, 0);
    });
    canvas.dataset.from = from;
    canvas.dataset.to = to;
    events.moved(from, to);
  }

  function gutter(context, text, y, ink, x) {
    context.fillStyle = ink;
    context.fillText(text, x, y);
  }

  function drawAxis(context, h) {
    const wanted = (milliseconds(to) - milliseconds(from)) / Math.max(width() / 110, 2);
    const power = 10 ** Math.floor(Math.log10(wanted));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= wanted);
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    context.strokeStyle = palette.rule;
    context.fillStyle = palette.soft;
    for (let tick = Math.ceil(milliseconds(from) / step - 1e-9) || 0; tick * step <= milliseconds(to); tick++) {
      const x = Math.round(GUTTER + ((tick * step - milliseconds(from)) / (milliseconds(to) - milliseconds(from))) * width()) + 0.5;
      context.beginPath();
      context.moveTo(x, AXIS - 8);
      context.lineTo(x, h);
      context.stroke();
      const text = `${fixed(tick * step, digits)}${tick === 0 || tick * step - milliseconds(from) < step ? " ms" : ""}`;
      context.fillText(text, Math.min(x + 3, GUTTER + width() - context.measureText(text).width), 11);
    }
  }

  function nameOf(layer, op) {
    return layer >= 0 ? run.layers[layer][0] : run.ops[op];
  }

  function redraw() {
    if (!waiting) {
      waiting = true;
      requestAnimationFrame(draw);
    }
  }

  // ------------------------------------------------------------------------------------------------------------ moving

  function show(low, high) {
    const length = Math.min(Math.max(high - low, LEAST_CYCLES), whole_run[1]);
    const middle = (low + high) / 2;
    from = Math.min(Math.max(middle - length / 2, 0), whole_run[1] - length);
    to = from + length;
    redraw();
  }

  function zoom(factor, around = (from + to) / 2) {
    const length = Math.min(Math.max((to - from) * factor, LEAST_CYCLES), whole_run[1]);
    const share = (around - from) / (to - from);
    const low = around - share * length;
    show(low, low + length);
  }

  function select(layer, goThere) {
    selected = layer;
    if (goThere && layer >= 0) {
      const [, , , start, end] = run.layers[layer];
      show(start - (end - start) * 0.08, end + (end - start) * 0.08);
    }
    redraw();
  }

  function search(text) {
    needle = text.trim().toLowerCase();
    matches = [];
    match = -1;
    if (needle) {
      lanes.forEach((lane, row) => {
        for (let k = 0; k < lane.count; k++) if (emphasis(lane.layer[k], lane.op[k])) matches.push([lane.start[k], row, k]);
      });
      matches.sort((a, b) => a[0] - b[0]);
    }
    redraw();
    return matches.length;
  }

  /** Go to the next match, or the one before; its place among all is returned. */
  function step(by) {
    if (!matches.length) return -1;
    match = match < 0 && by < 0 ? matches.length - 1 : (match + by + matches.length) % matches.length;
    const [start, row, k] = matches[match];
    const length = Math.min(to - from, Math.max((lanes[row].end[k] - start) * 12, 4000));
    show(start - length / 3, start + (length * 2) / 3);
    requestAnimationFrame(() => hover(GUTTER + ((start - from) / (to - from)) * width() + 2, boxes[row].top + LANE / 2));
    return match;
  }

  // ------------------------------------------------------------------------------------------------------ pointer, keys

  function under(x, y) {
    if (x < GUTTER) return null;
    const cycle = cycleAt(x);
    const slack = (0.75 * (to - from)) / width();
    const row = boxes.findIndex((box) => y >= box.top && y < box.top + box.height);
    if (row >= 0) {
      const found = sliceAt(lanes[row], cycle, slack);
      return found && { lane: lanes[row], ...found };
    }
    const strip = stripBoxes.findIndex((box) => y >= box.top && y < box.top + box.height);
    return strip >= 0 ? { strip: strips[strip], cycle } : null;
  }

  function hover(x, y) {
    const found = under(x, y);
    tip.hidden = !found;
    if (!found) return;
    tip.replaceChildren(...describe(found));
    const stage = canvas.parentElement.getBoundingClientRect();
    const beside = x + 18 + tip.offsetWidth > stage.width ? x - 18 - tip.offsetWidth : x + 18;
    tip.style.left = `${Math.max(beside, 0)}px`;
    tip.style.top = `${y + 18}px`;
  }

  function describe(found) {
    if (found.strip) {
      const values = found.strip.layers.map(({ name, curve }) => [name, found.strip.text(valueAt(curve, found.cycle))]);
      return [make("b", {}, found.strip.title), terms([["at", at(found.cycle)], ...values])];
    }
    const { lane, index: k, stall } = found;
    const unit = `core${lane.core}.${lane.label}`;
    if (stall) {
      const begin = k ? lane.end[k - 1] : 0;
      const cause = lane.cause[k] >= 0 ? run.units[lane.cause[k]] : "a barrier";
      return [
        make("b", {}, `${unit} stands still`),
        terms([["waits for", cause], ["cycles", whole(lane.start[k] - begin)], ["from", at(begin)], ["then", nameOf(lane.layer[k], lane.op[k])]]),
      ];
    }
    const cycles = lane.end[k] - lane.start[k];
    const pairs = [["unit", unit], ["instruction", `${run.ops[lane.op[k]]}, tile ${lane.tile[k]}`], ["cycles", whole(cycles)], ["from", at(lane.start[k])]];
    if (lane.macs[k]) {
      const peak = run.figures.peak_macs_per_cycle / run.cores.length / 2;
      pairs.push(["MACs", `${millions(lane.macs[k])}, ${percent(lane.macs[k] / cycles / peak)} of the unit's peak`]);
    }
    if (lane.bytes[k]) pairs.push(["writes", bytes(lane.bytes[k])]);
    if (lane.dram[k]) pairs.push(["DRAM", `${bytes(lane.dram[k])}, ${fixed((lane.dram[k] * run.clock_hz) / cycles / 1e9, 1)} GB/s`]);
    pairs.push(["pc", whole(k)]);
    const sources = lane.layer[k] >= 0 ? run.layers[lane.layer[k]][9] : [];
    if (sources.length) pairs.push(["ONNX", sources.join(", ")]);
    return [make("b", {}, nameOf(lane.layer[k], lane.op[k])), terms(pairs)];
  }

  const at = (cycle) => `${whole(cycle)} (${fixed(milliseconds(cycle), 4)} ms)`;

  const position = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  let drag = null;
  const handlers = {
    wheel(event) {
      event.preventDefault();
      const [x] = position(event);
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) {
        const shift = ((event.deltaX || event.deltaY) / width()) * (to - from);
        show(from + shift, to + shift);
      } else {
        zoom(Math.exp(Math.min(Math.max(event.deltaY, -240), 240) * 0.0022), cycleAt(Math.max(x, GUTTER)));
      }
    },
    pointerdown(event) {
      if (event.button) return;
      drag = { x: position(event)[0], from, to, moved: false };
      canvas.setPointerCapture(event.pointerId);
    },
    pointermove(event) {
      const [x, y] = position(event);
      if (!drag) return hover(x, y);
      const shift = ((drag.x - x) / width()) * (drag.to - drag.from);
      if (Math.abs(drag.x - x) > 3) drag.moved = true;
      if (drag.moved) {
        canvas.classList.add("dragging");
        tip.hidden = true;
        show(drag.from + shift, drag.to + shift);
      }
    },
    pointerup(event) {
      const [x, y] = position(event);
      if (drag && !drag.moved) {
        const found = under(x, y);
        events.selected(found && found.lane && !found.stall ? found.lane.layer[found.index] : -1);
      }
      drag = null;
      canvas.classList.remove("dragging");
    },
    pointerleave() {
      tip.hidden = true;
    },
    keydown(event) {
      const pan = (to - from) * 0.15;
      const actions = {
        ArrowLeft: () => show(from - pan, to - pan), ArrowRight: () => show(from + pan, to + pan),
        "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), 0: () => show(...whole_run),
        n: () => events.stepped(1), p: () => events.stepped(-1), Escape: () => events.selected(-1),
      };
      if (!actions[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      actions[event.key]();
    },
  };
  for (const [name, handler] of Object.entries(handlers)) canvas.addEventListener(name, handler, { passive: false });
  const observer = new ResizeObserver(redraw);
  observer.observe(canvas);

  readPalette();
  draw();
  return {
    zoom, select, search, step,
    reset: () => show(...whole_run),
    recolor() {
      readPalette();
      redraw();
    },
    remove() {
      observer.disconnect();
      for (const [name, handler] of Object.entries(handlers)) canvas.removeEventListener(name, handler);
    },
  };
}
