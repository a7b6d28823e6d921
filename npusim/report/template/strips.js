// Strips: curves below the lanes, DRAM bandwidth and memory in use, over the same stretch of time.

/** The value of a step curve [cycles, values] at a cycle. */
function valueAt([cycles, values], cycle) {
  const index = firstAbove(cycles, cycle) - 1;
  return index < 0 ? 0 : values[index];
}

/** What the strips of a run show: {title, unit, top, layers: [{curve, color, name}], limit, text(value)}. */
function stripsOf(run) {
  const speed = (value) => `${fixed(value, 1)} GB/s`;
  const strips = [{
    title: "DRAM GB/s", top: run.figures.dram_peak_gb_per_second * 1.05, limit: run.figures.dram_peak_gb_per_second,
    text: speed, stacked: true, axis: (value) => fixed(value, 0),
    layers: [{ name: "read", curve: run.reads, strength: 0.8 }, { name: "written", curve: run.writes, strength: 0.4 }],
    color: "dram",
  }];
  run.cores.forEach((core, k) => strips.push({
    title: `OCM core${core}`, top: run.figures.ocm_bytes * 1.05, limit: run.figures.ocm_bytes, text: bytes,
    axis: (value) => `${fixed(value / 2 ** 20, 0)} MiB`,
    layers: [{ name: "in use", curve: run.ocm[k], strength: 0.45 }], color: "accent",
  }));
  const peak = Math.max(run.figures.scratch_peak_bytes, 1);
  strips.push({
    title: "DRAM scratch", top: peak * 1.15, limit: peak, text: bytes,
    axis: (value) => (value < 2 ** 20 ? `${fixed(value / 1024, 0)} KiB` : `${fixed(value / 2 ** 20, 1)} MiB`),
    layers: [{ name: "in use", curve: run.scratch, strength: 0.45 }], color: "dram",
  });
  return strips;
}

/** Draw one strip: areas, stacked from the bottom, with the limit as a line. */
function drawStrip(context, strip, view, box, palette) {
  const columns = Math.max(Math.floor(view.width), 1);
  const scale = box.height / strip.top;
  const below = new Float64Array(columns);
  for (const { curve, strength } of strip.layers) {
    const heights = columnsOf(curve, view, columns);
    context.globalAlpha = strength;
    context.fillStyle = palette[strip.color];
    context.beginPath();
    for (let x = 0; x < columns; x++) {
      const height = Math.min(heights[x] * scale, box.height - below[x]);
      context.rect(view.left + x, box.top + box.height - below[x] - height, 1, height);
      if (strip.stacked) below[x] += height;
    }
    context.fill();
    context.globalAlpha = 1;
  }
  const y = Math.round(box.top + box.height - strip.limit * scale) + 0.5;
  context.strokeStyle = palette.faint;
  context.setLineDash([3, 3]);
  context.beginPath();
  context.moveTo(view.left, y);
  context.lineTo(view.left + view.width, y);
  context.stroke();
  context.setLineDash([]);
}

/** The largest value of a step curve in each pixel column. */
function columnsOf([cycles, values], view, columns) {
  const heights = new Float64Array(columns);
  const step = (view.to - view.from) / columns;
  let index = Math.max(firstAbove(cycles, view.from) - 1, 0);
  for (let x = 0; x < columns; x++) {
    const end = view.from + (x + 1) * step;
    let most = cycles[index] <= end ? values[index] ?? 0 : 0;
    while (index + 1 < cycles.length && cycles[index + 1] < end) most = Math.max(most, values[++index]);
    heights[x] = most;
  }
  return heights;
}
