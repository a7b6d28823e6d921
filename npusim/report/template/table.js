// Tables that sort by their heads. Cells are given by columns; what a row means is the caller's business.

/**
 * A sortable table.
 * columns: {title, value(row), cell(row) -> node or text, number: bool, wide: bool, hint}; rows of any kind.
 * options: sort [column, descending], choose(row) when a row is clicked or entered.
 * The result has node, show(rows), mark(row).
 */
function sortableTable(columns, options = {}) {
  const head = make("tr");
  const body = make("tbody");
  const node = make("table", {}, make("thead", {}, head), body);
  let [sorted, descending] = options.sort ?? [null, false];
  let shown = [];
  let marked = null;

  columns.forEach((column, index) => {
    const sort = () => {
      descending = sorted === index ? !descending : Boolean(column.number);
      sorted = index;
      draw();
    };
    head.append(
      make("th", { scope: "col", class: column.number ? "number" : "", title: column.hint },
        make("button", { type: "button", onclick: sort }, column.title)),
    );
  });

  function draw() {
    [...head.children].forEach((cell, index) => {
      if (index === sorted) cell.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
    const rows = [...shown];
    if (sorted !== null) {
      const { value } = columns[sorted];
      const sign = descending ? -1 : 1;
      rows.sort((a, b) => sign * compare(value(a), value(b)));
    }
    body.replaceChildren(...rows.map(line));
  }

  function line(row) {
    const cells = columns.map((column) =>
      make("td", { class: column.number ? "number" : column.wide ? "text wide" : "text" }, (column.cell ?? column.value)(row)));
    if (!options.choose) return make("tr", {}, ...cells);
    const made = make("tr", {
      tabindex: 0,
      "aria-selected": row === marked,
      onclick: () => options.choose(row),
      onkeydown: (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        options.choose(row);
      },
    }, ...cells);
    made.row = row;
    return made;
  }

  return {
    node,
    show(rows) {
      shown = rows;
      draw();
    },
    mark(row) {
      marked = row;
      for (const made of body.children) {
        made.setAttribute("aria-selected", made.row === row);
        if (made.row === row) reveal(made);
      }
    },
  };
}

/** Scroll a row into sight of its own box, and leave the page where it is. */
function reveal(row) {
  const box = row.closest(".scroll");
  if (!box) return;
  const [outer, inner] = [box.getBoundingClientRect(), row.getBoundingClientRect()];
  if (inner.top < outer.top + 32 || inner.bottom > outer.bottom) {
    box.scrollTop += inner.top - outer.top - outer.height / 2;
  }
}

function compare(a, b) {
  if (typeof a === "string") return a.localeCompare(b, "en", { numeric: true });
  return (a ?? -Infinity) - (b ?? -Infinity);
}
