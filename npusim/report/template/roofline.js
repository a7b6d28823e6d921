// The roofline: layers as circles under the machine's roofs, both axes logarithmic.

const ROOF = { least: 620, height: 430, left: 56, right: 130, top: 24, bottom: 46 };

function drawRoofline(run, kinds, choose) {
  const body = find("#roofline .body");
  const { peak_tops: peak, slopes, points } = run.roofline;
  if (!points.length) {
    body.replaceChildren(make("p", {}, "No layer multiplies."));
    return { mark() {} };
  }
  const finite = points.filter((point) => point[1] !== null);
  const knees = slopes.map(([, speed]) => (1e3 * peak) / speed);
  const across = [...finite.map((point) => point[1]), ...knees];
  const x0 = 10 ** Math.floor(Math.log10(Math.min(...across) * 0.9));
  const x1 = 10 ** Math.ceil(Math.log10(Math.max(...across) * 1.1));
  const y1 = peak * 1.7;
  const y0 = 10 ** Math.floor(Math.log10(Math.min(...points.map((point) => point[2]), peak / 10)));
  const { height, left, right, top, bottom } = ROOF;
  const width = Math.max(body.clientWidth, ROOF.least);
  const px = (x) => left + (Math.log(x / x0) / Math.log(x1 / x0)) * (width - left - right);
  const py = (y) => height - bottom - (Math.log(y / y0) / Math.log(y1 / y0)) * (height - top - bottom);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
    "aria-label": `Roofline: ${points.length} layers under ${fixed(peak, 2)} TOPS` });
  const line = (kind, a, b) => make("line", { class: kind, x1: px(a[0]), y1: py(a[1]), x2: px(b[0]), y2: py(b[1]) });

  for (let x = x0; x <= x1 * 1.001; x *= 10) {
    svg.append(line("grid", [x, y0], [x, y1]), make("text", { x: px(x), y: height - bottom + 18, "text-anchor": "middle" }, short(x)));
  }
  for (let y = y0; y <= y1; y *= 10) {
    svg.append(line("grid", [x0, y], [x1, y]), make("text", { x: left - 8, y: py(y) + 4, "text-anchor": "end" }, short(y)));
  }
  svg.append(
    make("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, "operations for each byte of DRAM traffic"),
    make("text", { x: left - 8, y: top - 6, "text-anchor": "end" }, "TOPS"),
    line("roof", [Math.min(...knees), peak], [x1, peak]),
    make("text", { x: width - right - 4, y: py(peak) - 7, "text-anchor": "end" }, `${fixed(peak, 2)} TOPS`),
  );
  slopes.forEach(([name, speed], k) => {
    const begin = Math.max(x0, (1e3 * y0) / speed);
    svg.append(line("slope", [begin, (begin * speed) / 1e3], [knees[k], peak]));
    const at = begin * (knees[k] / begin) ** 0.45;
    const angle = (Math.atan2(py((knees[k] * speed) / 1e3) - py((begin * speed) / 1e3), px(knees[k]) - px(begin)) * 180) / Math.PI;
    const place = `translate(${px(at)} ${py((at * speed) / 1e3) - 7}) rotate(${angle})`;
    svg.append(make("text", { transform: place, "text-anchor": "middle" }, `${name} ${fixed(speed, 1)} GB/s`));
  });

  const total = run.layers.reduce((sum, layer) => sum + layer[5], 0) || 1;
  const beyond = width - right / 2;
  if (finite.length < points.length) {
    svg.append(make("text", { x: beyond, y: height - bottom + 18, "text-anchor": "middle" }, "no DRAM traffic"));
  }
  const circles = new Map();
  const ordered = [...points].sort((a, b) => run.layers[b[0]][5] - run.layers[a[0]][5]);
  for (const [index, intensity, tops] of ordered) {
    const layer = run.layers[index];
    const speed = intensity === null ? "without DRAM traffic" : `${fixed(intensity, 1)} operations a byte`;
    const circle = make("circle", {
      cx: intensity === null ? beyond : px(intensity), cy: py(tops),
      r: Math.max(4, Math.min(90 * Math.sqrt(layer[5] / total), 26)), style: `fill:var(--${kinds[layer[2]]})`,
      onclick: () => choose(index),
    }, make("title", {}, `${layer[0]}\n${fixed(tops, 2)} TOPS, ${speed}\n${whole(layer[5])} cycles of the critical path, bound by ${KIND_NAMES[kinds[layer[2]]]}`));
    circles.set(index, circle);
    svg.append(circle);
  }
  body.replaceChildren(svg);
  return {
    mark(index) {
      for (const [layer, circle] of circles) circle.classList.toggle("chosen", layer === index);
    },
  };
}

const short = (value) => (value >= 1 ? whole(value) : String(Number(value.toPrecision(1))));

