// The page: one run is shown, a choice in one part is seen in all others. Drawing is the business of the other files.

const data = JSON.parse(find("#data").textContent);
const { kinds, runs } = data;
let current = null;

// --------------------------------------------------------------------------------------------------------- a run shown

function showRun(run) {
  current?.timeline.remove();
  drawSubtitle(run);
  drawHeadline(run);
  drawCritical(run, kinds);
  const layers = layerTable(run);
  const moving = timeline(run, kinds, {
    selected: (index) => choose(index, false),
    stepped: (by) => step(by),
    moved: (from, to) => {
      const ms = (cycle) => fixed((1e3 * cycle) / run.clock_hz, 4);
      find("#span").textContent = `${ms(from)} to ${ms(to)} ms`;
    },
  });
  current = { run, layers, timeline: moving, selected: -1 };
  drawRoof();
  find("#search").value = "";
  find("#matches").textContent = "";
  choose(-1, false);
  drawHost(run);
  drawPrecision(run);
  drawMachine(run);
  const built = Object.entries(run.versions).map(([name, version]) => `${name} ${version}`).join(", ");
  find("#foot").textContent = `npusim ${data.version} profile${built ? `; built by ${built}` : ""}`;
  comparing?.mark(run);
  for (const button of find("#runs").children) button.setAttribute("aria-checked", button.run === run);
}

/** Draw the roofline in the width there is. */
function drawRoof() {
  current.roof = drawRoofline(current.run, kinds, (index) => choose(index, true));
  current.roof.mark(current.selected);
}

/** Select a layer everywhere, or none with -1. */
function choose(index, goThere) {
  const { run } = current;
  const again = index === current.selected && !goThere;
  current.selected = again ? -1 : index;
  current.timeline.select(current.selected, goThere);
  current.layers.mark(run.layers[current.selected]);
  current.roof.mark(current.selected);
  const layer = run.layers[current.selected];
  find("#selected").replaceChildren(...(layer ? chosen(layer) : []));
}

function chosen([name, op, kind, start, end, critical, , macs, dram, sources]) {
  const parts = [`${op}, ${whole(critical)} cycles of the critical path, span ${whole(start)} to ${whole(end)}`];
  if (macs) parts.push(`${millions(macs)} MACs`);
  if (dram) parts.push(`${bytes(dram)} of DRAM traffic`);
  if (sources.length) parts.push(`from ${sources.join(", ")}`);
  return [kindChip(kinds[kind]), "  ", make("b", {}, name), `  ${parts.join("; ")}`];
}

// -------------------------------------------------------------------------------------------------------------- tables

function layerTable(run) {
  const total = run.figures.cycles || 1;
  const most = Math.max(...run.layers.map((layer) => layer[5]), 1);
  const used = (layer) => (layer[7] ? layer[7] / (layer[6] * run.figures.peak_macs_per_cycle) : null);
  const critical = (layer) => make("span", {}, whole(layer[5]),
    make("span", { class: "barbox" }, make("span", { class: "bar", style: `width:${(64 * layer[5]) / most}px;background:var(--${kinds[layer[2]]})` })));
  const table = sortableTable([
    { title: "Start", number: true, hint: "First start, cycle", value: (layer) => layer[3], cell: (layer) => whole(layer[3]) },
    { title: "Layer", wide: true, value: (layer) => layer[0],
      cell: (layer) => make("span", {}, layer[0], layer[9].length ? make("span", { class: "under" }, layer[9].join(", ")) : null) },
    { title: "Operation", value: (layer) => layer[1] },
    { title: "Bound by", value: (layer) => kinds[layer[2]], cell: (layer) => kindChip(kinds[layer[2]]) },
    { title: "Critical cycles", number: true, hint: "Its part of the critical path; these add up", value: (layer) => layer[5], cell: critical },
    { title: "Share", number: true, value: (layer) => layer[5], cell: (layer) => percent(layer[5] / total) },
    { title: "Span", number: true, hint: "First start to last retirement, cycles", value: (layer) => layer[4] - layer[3], cell: (layer) => whole(layer[4] - layer[3]) },
    { title: "MACs", number: true, value: (layer) => layer[7], cell: (layer) => millions(layer[7]) },
    { title: "MACs used", number: true, hint: "Of what the cores could do while it was active", value: used, cell: (layer) => (layer[7] ? percent(used(layer)) : "–") },
    { title: "DRAM", number: true, value: (layer) => layer[8], cell: (layer) => (layer[8] ? bytes(layer[8]) : "–") },
  ], { sort: [4, true], choose: (layer) => choose(run.layers.indexOf(layer), true) });
  find("#layers .scroll").replaceChildren(table.node);
  const bound = find("#bound");
  const names = [make("option", { value: "" }, "every bound"), ...kinds.map((kind) => make("option", { value: kind }, `bound by ${KIND_NAMES[kind]}`))];
  bound.replaceChildren(...names);
  const filter = () => {
    const wanted = find("#filter").value.trim().toLowerCase();
    const rows = run.layers.filter((layer) => (!bound.value || kinds[layer[2]] === bound.value)
      && [layer[0], layer[1], ...layer[9]].some((text) => text.toLowerCase().includes(wanted)));
    const cycles = rows.reduce((sum, layer) => sum + layer[5], 0);
    find("#count").textContent = `${whole(rows.length)} of ${whole(run.layers.length)}, ${percent(cycles / total)} of the critical path`;
    table.show(rows);
  };
  find("#filter").oninput = filter;
  bound.onchange = filter;
  filter();
  return table;
}

function drawHost(run) {
  find("#host").hidden = !run.host.length;
  const table = sortableTable([
    { title: "Part", value: (row) => row[0] },
    { title: "ms", number: true, value: (row) => row[1], cell: (row) => fixed(row[1], 4) },
    { title: "Operators", number: true, value: (row) => row[2], cell: (row) => whole(row[2]) },
    { title: "Operations", number: true, value: (row) => row[3], cell: (row) => millions(row[3]) },
    { title: "Traffic", number: true, value: (row) => row[4], cell: (row) => bytes(row[4]) },
    { title: "Operators are", wide: true, value: (row) => row[5].join(", ") },
    { title: "Because of", wide: true, value: (row) => row[6] },
  ]);
  find("#host .scroll").replaceChildren(table.node);
  table.show(run.host);
}

function drawPrecision(run) {
  find("#precision").hidden = !run.precision.length;
  const number = (value, digits) => (value === null ? "∞" : fixed(value, digits));
  const table = sortableTable([
    { title: "Layer", wide: true, value: (row) => row[0] },
    { title: "Operation", value: (row) => row[1] },
    { title: "Type", value: (row) => row[2] },
    { title: "Cosine", number: true, value: (row) => row[3], cell: (row) => number(row[3], 6) },
    { title: "SNR, dB", number: true, value: (row) => row[4] ?? Infinity, cell: (row) => number(row[4], 2) },
    { title: "Largest error", number: true, value: (row) => row[5], cell: (row) => (row[5] === null ? "∞" : row[5].toPrecision(4)) },
  ], { sort: [4, false] });
  find("#precision .scroll").replaceChildren(table.node);
  table.show(run.precision);
}

function drawMachine(run) {
  const count = {};
  for (const [, , , source] of run.machine) count[source] = (count[source] ?? 0) + 1;
  const sources = Object.entries(count).sort((a, b) => b[1] - a[1]).map(([source, n]) => `${n} ${source}`).join(", ");
  find("#machine .lead").textContent = `${run.description}. ${run.machine.length} values: ${sources}.`;
  const text = (value) => (typeof value === "number" ? value.toLocaleString("en-US", { maximumFractionDigits: 6 }) : String(value));
  const table = sortableTable([
    { title: "Key", value: (row) => row[0] },
    { title: "Value", number: true, value: (row) => (typeof row[1] === "number" ? row[1] : -1), cell: (row) => text(row[1]) },
    { title: "Meaning", wide: true, value: (row) => row[2] },
    { title: "Source", value: (row) => row[3], cell: (row) => make("span", { class: `source ${row[3]}` }, row[3]) },
    { title: "Note", wide: true, value: (row) => row[4] },
  ]);
  find("#machine .scroll").replaceChildren(table.node);
  table.show(run.machine);
}

// ------------------------------------------------------------------------------------------------------------ controls

function step(by) {
  const place = current.timeline.step(by);
  if (place >= 0) find("#matches").textContent = `${whole(place + 1)} of ${find("#matches").dataset.count}`;
}

function drawLegend() {
  find("#legend").replaceChildren(
    ...kinds.map(kindChip),
    make("span", { class: "kind" }, make("span", { class: "swatch", style: "background:var(--ink)" }), "pale: stalled, waiting for that"),
  );
}

/** Light, dark, or as the system has it; kept for the next report where the browser allows. */
function themes() {
  const names = ["auto", "light", "dark"];
  const system = matchMedia("(prefers-color-scheme: dark)");
  let name = "auto";
  try {
    name = names.includes(localStorage.getItem("npusim-theme")) ? localStorage.getItem("npusim-theme") : "auto";
  } catch {
    name = "auto"; // a page from a file may have no storage
  }
  const apply = (printing = false) => {
    const dark = name === "dark" || (name === "auto" && system.matches);
    document.documentElement.dataset.theme = dark && !printing ? "dark" : "light";
    find("#theme").textContent = `Theme: ${name}`;
    current?.timeline.recolor();
  };
  find("#theme").addEventListener("click", () => {
    name = names[(names.indexOf(name) + 1) % names.length];
    try {
      localStorage.setItem("npusim-theme", name);
    } catch {
      // the choice holds for this page
    }
    apply();
  });
  system.addEventListener("change", () => apply());
  addEventListener("beforeprint", () => {
    find("#machine details").open = true;
    apply(true);
  });
  addEventListener("afterprint", () => apply());
  apply();
}

themes();
drawLegend();
const comparing = runs.length > 1 ? comparison(runs, kinds, showRun) : null;
if (runs.length > 1) {
  find("#runs").hidden = false;
  find("#runs").append(...runs.map((run) => {
    const same = runs.every((other) => other.name === run.name);
    const button = make("button", { type: "button", role: "radio", onclick: () => showRun(run) }, same ? run.mode : `${run.name} ${run.mode}`);
    button.run = run;
    return button;
  }));
}
const searched = () => {
  const count = current.timeline.search(find("#search").value);
  find("#matches").dataset.count = whole(count);
  find("#matches").textContent = find("#search").value.trim() ? `${whole(count)} found` : "";
};
find("#search").addEventListener("input", searched);
find("#search").addEventListener("keydown", (event) => {
  if (event.key === "Enter") step(event.shiftKey ? -1 : 1);
});
find("#previous").addEventListener("click", () => step(-1));
find("#next").addEventListener("click", () => step(1));
find("#in").addEventListener("click", () => current.timeline.zoom(0.5));
find("#out").addEventListener("click", () => current.timeline.zoom(2));
find("#reset").addEventListener("click", () => current.timeline.reset());
addEventListener("resize", drawRoof);
showRun(runs[0]);
