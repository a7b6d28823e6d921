// Text and elements: how numbers are written, and how nodes are made. Nothing here knows what is shown.

// Making a format takes far longer than using it, and a table of a large model has tens of thousands of numbers.
const formats = new Map();

function fixed(value, digits) {
  if (!formats.has(digits)) {
    formats.set(digits, new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
  }
  return formats.get(digits).format(value);
}

const whole = (value) => fixed(Math.round(value), 0);

const percent = (share) => (share > 0 && share < 0.0005 ? "<0.1 %" : `${fixed(100 * share, 1)} %`);

function bytes(value) {
  if (value < 1024) return `${whole(value)} B`;
  const power = Math.min(Math.floor(Math.log2(value) / 10), 3);
  return `${fixed(value / 2 ** (10 * power), value / 2 ** (10 * power) < 100 ? 2 : 1)} ${["", "KiB", "MiB", "GiB"][power]}`;
}

function millions(value) {
  if (value === 0) return "–";
  return value >= 1e9 ? `${fixed(value / 1e9, 2)} G` : value >= 1e6 ? `${fixed(value / 1e6, 2)} M` : whole(value);
}

/** An element: attributes by name (on... are listeners), children are nodes or text. */
function make(tag, attributes = {}, ...children) {
  const node = tag === "svg" || make.svg.has(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined && value !== null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
make.svg = new Set(["g", "line", "path", "circle", "text", "title"]);

const find = (selector) => document.querySelector(selector);

const KIND_NAMES = { compute: "compute", vector: "vector", move: "move", dram: "DRAM", sync: "sync" };

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function kindChip(kind) {
  return make("span", { class: "kind" }, make("span", { class: "dot", style: `background:var(--${kind})` }), KIND_NAMES[kind]);
}

/** Terms and values, for tips. */
function terms(pairs) {
  const list = make("dl");
  for (const [term, value] of pairs) list.append(make("dt", {}, term), make("dd", {}, value));
  return list;
}
