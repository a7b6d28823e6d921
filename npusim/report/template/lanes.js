// Lanes: the slices of a unit as typed arrays, found by time, and drawn so that a hundred thousand stay fluid.

/** Slices of one lane: start and end in cycles, and the columns of the data. */
function decodeLane(record) {
  const count = record.gap.length;
  const lane = { core: record.core, label: record.label, count };
  lane.start = new Float64Array(count);
  lane.end = new Float64Array(count);
  let time = 0;
  for (let k = 0; k < count; k++) {
    time += record.gap[k];
    lane.start[k] = time;
    time += record.cycles[k];
    lane.end[k] = time;
  }
  for (const name of ["layer", "op", "kind", "tile", "bytes", "dram", "macs", "wait", "cause"]) {
    lane[name] = Int32Array.from(record[name]);
  }
  return lane;
}

/** The first index whose value is larger than the limit, in an ascending array. */
function firstAbove(values, limit) {
  let [low, high] = [0, values.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] > limit) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The slice at a cycle, or the stall before one: {index, stall}, or null. */
function sliceAt(lane, cycle, slack) {
  const index = firstAbove(lane.end, cycle - slack);
  if (index >= lane.count) return null;
  if (lane.start[index] <= cycle + slack) return { index, stall: false };
  return lane.wait[index] >= 0 ? { index, stall: true } : null;
}

/**
 * Draw the slices of a lane between two cycles.
 * view: {from, to, left, width}; box: {top, height}; style: {kinds, on, emphasis(layer, op), name(layer, op)}.
 * Slices narrower than a pixel are gathered: the pixel gets the colour of most of them, as strong as they fill it.
 */
function drawLane(context, lane, view, box, style) {
  const scale = view.width / (view.to - view.from);
  const place = (cycle) => view.left + (cycle - view.from) * scale;
  const right = view.left + view.width;
  const low = box.top + box.height * 0.34;
  const fills = new Float64Array(style.kinds.length);
  const faded = new Float64Array(style.kinds.length);
  let pixel = -1;
  const flush = () => {
    if (pixel < 0) return;
    gathered(context, fills, style.kinds, pixel, box, 1);
    gathered(context, faded, style.kinds, pixel, box, 0.22);
    fills.fill(0);
    faded.fill(0);
    pixel = -1;
  };
  let drawnStall = -1;
  for (let k = firstAbove(lane.end, view.from); k < lane.count && (k === 0 || lane.end[k - 1] < view.to); k++) {
    const x0 = Math.max(place(lane.start[k]), view.left);
    const x1 = Math.min(place(lane.end[k]), right);
    if (lane.wait[k] >= 0) {
      const from = Math.max(k ? place(lane.end[k - 1]) : place(0), view.left);
      const to = Math.min(x0, right);
      if (to - from >= 0.75 || to > drawnStall + 1) {
        context.globalAlpha = 0.3;
        context.fillStyle = style.kinds[lane.wait[k]];
        context.fillRect(from, low, Math.max(to - from, 0.4), box.height - (low - box.top) * 2);
        context.globalAlpha = 1;
        drawnStall = to;
      }
    }
    if (x1 <= x0 || lane.start[k] >= view.to) continue;
    const strong = style.emphasis(lane.layer[k], lane.op[k]);
    if (x1 - x0 < 1) {
      const column = Math.floor(x0);
      if (column !== pixel) {
        flush();
        pixel = column;
      }
      (strong ? fills : faded)[lane.kind[k]] += x1 - x0;
      continue;
    }
    flush();
    context.globalAlpha = strong ? 1 : 0.22;
    context.fillStyle = style.kinds[lane.kind[k]];
    context.fillRect(x0, box.top, x1 - x0 - (x1 - x0 > 3 ? 0.7 : 0), box.height);
    context.globalAlpha = 1;
    if (strong && x1 - x0 > 44) label(context, style.name(lane.layer[k], lane.op[k]), x0, x1 - x0, box, style.on[lane.kind[k]]);
  }
  flush();
}

function gathered(context, fills, kinds, pixel, box, strength) {
  let [best, sum] = [-1, 0];
  for (let k = 0; k < fills.length; k++) {
    sum += fills[k];
    if (fills[k] > 0 && (best < 0 || fills[k] > fills[best])) best = k;
  }
  if (best < 0) return;
  context.globalAlpha = Math.min(Math.max(sum, 0.25), 1) * strength;
  context.fillStyle = kinds[best];
  context.fillRect(pixel, box.top, 1, box.height);
  context.globalAlpha = 1;
}

function label(context, text, x, width, box, ink) {
  const fits = Math.floor((width - 8) / (context.measureText(text).width / text.length));
  if (fits < 5) return;
  context.fillStyle = ink;
  context.fillText(text.length > fits ? `…${text.slice(1 - fits)}` : text, x + 4, box.top + box.height / 2 + 0.5, width - 8);
}
