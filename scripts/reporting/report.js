"use strict";
// Tables sort by a click or by the Enter key on a heading; numbers by their full value, not by their text.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const body = heading.closest("table").tBodies[0];
    const descending = heading.getAttribute("aria-sort") === "ascending";
    for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const key = (row) => {
      const cell = row.cells[heading.cellIndex];
      return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
    };
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (typeof x === "number" && typeof y === "number") return descending ? y - x : x - y;
      if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1; // gaps last, either way
      return (descending ? -1 : 1) * x.localeCompare(y, undefined, { numeric: true });
    };
    body.append(...[...body.rows].sort(compare));
  });
}
// The interpreter (ast) evaluates chart expressions, so that the page needs no permission to compile text as code.
for (const holder of document.querySelectorAll(".chart")) {
  const spec = JSON.parse(document.getElementById(holder.dataset.spec).textContent);
  const options = { ast: true, renderer: "svg", actions: false, defaultStyle: false };
  window.vegaEmbed(holder, spec, options).catch((error) => {
    holder.textContent = `This chart could not be drawn: ${error.message}`;
  });
}
