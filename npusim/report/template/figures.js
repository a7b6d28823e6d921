// The figures above the timeline: headline, comparison of runs, and what the cycles were spent on.

function drawHeadline(run) {
  const f = run.figures;
  const figures = [
    ["Latency", fixed(f.latency_ms, 3), "ms", `${fixed(f.launch_ms, 2)} ms of it the call${f.host_ms ? `, ${fixed(f.host_ms, 2)} ms CPU parts` : ""}`],
    ["Cycles", whole(f.cycles), "", `at ${whole(run.clock_hz / 1e6)} MHz`],
    ["Throughput", fixed(f.fps, 1), "fps", "one call after the other"],
    ["Compute", fixed(f.tops, 2), "TOPS", `of ${fixed(f.peak_tops, 2)} peak`],
    ["MAC utilization", fixed(100 * f.mac_utilization, 1), "%", `${millions(f.macs)} MACs`],
    ["DRAM", fixed(f.dram_gb_per_second, 1), "GB/s", `of ${fixed(f.dram_peak_gb_per_second, 1)}; ${bytes(f.dram_bytes)}`],
    ["OCM peak", fixed(f.ocm_peak_bytes / 2 ** 20, 2), "MiB", `of ${bytes(f.ocm_bytes)} a core`],
  ];
  find("#headline").replaceChildren(...figures.map(([name, value, unit, note]) =>
    make("div", { class: "figure" },
      make("span", { class: "name" }, name),
      make("b", {}, value, unit ? make("small", {}, unit) : null),
      make("span", {}, note))));
}

function drawSubtitle(run) {
  const cores = run.cores.length === 1 ? `core ${run.cores[0]}` : `cores ${run.cores.join(", ")}`;
  find("#title").textContent = run.name;
  find("#subtitle").textContent =
    `${run.mode} of ${run.hardware} · ${cores} · ${whole(run.figures.instructions)} instructions · ${whole(run.layers.length)} layers`;
}

/** A bar of the critical path; its length is the run's share of the longest run. */
function stack(run, kinds, share, small) {
  const total = run.critical.reduce((a, b) => a + b, 0) || 1;
  const bar = make("div", { class: small ? "stack small" : "stack", style: `width:${100 * share}%`, role: "img",
    "aria-label": kinds.map((kind, k) => `${KIND_NAMES[kind]} ${percent(run.critical[k] / total)}`).join(", ") });
  kinds.forEach((kind, k) => {
    if (run.critical[k]) {
      bar.append(make("span", { style: `flex:${run.critical[k]} 0 0;background:var(--${kind})`,
        title: `${KIND_NAMES[kind]}: ${whole(run.critical[k])} cycles` }));
    }
  });
  return bar;
}

function drawCritical(run, kinds) {
  const total = run.critical.reduce((a, b) => a + b, 0) || 1;
  const parts = kinds.map((kind, k) =>
    make("div", {}, kindChip(kind), " ", make("b", {}, percent(run.critical[k] / total)), " ",
      make("span", { class: "soft" }, `${whole(run.critical[k])} cycles`)));
  find("#critical .body").replaceChildren(stack(run, kinds, 1, false), make("div", { class: "parts" }, ...parts));
}

/** The table of all runs; choosing one shows it below. */
function comparison(runs, kinds, choose) {
  const longest = Math.max(...runs.map((run) => run.figures.cycles));
  const several = new Set(runs.map((run) => run.hardware)).size > 1;
  const table = sortableTable([
    { title: "Model", value: (run) => run.name },
    { title: "Cores", value: (run) => (several ? `${run.mode} of ${run.hardware}` : run.mode) },
    { title: "Cycles", number: true, value: (run) => run.figures.cycles, cell: (run) => whole(run.figures.cycles) },
    { title: "Latency, ms", number: true, value: (run) => run.figures.latency_ms, cell: (run) => fixed(run.figures.latency_ms, 3) },
    { title: "fps", number: true, value: (run) => run.figures.fps, cell: (run) => fixed(run.figures.fps, 1) },
    { title: "Speed-up", number: true, hint: "Over the first run, in cycles", value: (run) => 1 / run.figures.cycles,
      cell: (run) => `${fixed(runs[0].figures.cycles / run.figures.cycles, 2)}×` },
    { title: "TOPS", number: true, value: (run) => run.figures.tops, cell: (run) => fixed(run.figures.tops, 2) },
    { title: "MACs used", number: true, value: (run) => run.figures.mac_utilization, cell: (run) => percent(run.figures.mac_utilization) },
    { title: "DRAM GB/s", number: true, value: (run) => run.figures.dram_gb_per_second, cell: (run) => fixed(run.figures.dram_gb_per_second, 1) },
    { title: "OCM peak", number: true, value: (run) => run.figures.ocm_peak_bytes, cell: (run) => bytes(run.figures.ocm_peak_bytes) },
    { title: "Critical path", value: (run) => run.figures.cycles, cell: (run) => stack(run, kinds, run.figures.cycles / longest, true) },
  ], { choose });
  find("#comparison .scroll").replaceChildren(table.node);
  find("#comparison").hidden = false;
  table.show(runs);
  return table;
}
