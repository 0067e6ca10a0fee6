"use strict";
// Tables sort by the column whose head is pressed; a second press turns the order round.
for (const table of document.querySelectorAll("table.sorts")) {
  const heads = [...table.tHead.rows].pop().cells;
  for (const head of heads) {
    head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "none" ? head.dataset.first !== "ascending" : head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = row => {
        const cell = row.cells[head.cellIndex];
        return cell.dataset.v === undefined ? cell.textContent : cell.dataset.v === "" ? NaN : Number(cell.dataset.v);
      };
      const order = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (typeof x === "string") return x.localeCompare(y, undefined, { numeric: true }) * (down ? -1 : 1);
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return x === y ? 0 : (x < y ? -1 : 1) * (down ? -1 : 1);
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
    });
  }
}
// Pictures: circles on or off, and enlarged on a click.
const marks = document.getElementById("marks");
if (marks) marks.addEventListener("change", () => document.body.classList.toggle("bare", !marks.checked));
const dialog = document.querySelector("dialog");
for (const button of document.querySelectorAll("button.zoom")) {
  button.addEventListener("click", () => { dialog.replaceChildren(button.firstElementChild.cloneNode(true)); dialog.showModal(); });
}
if (dialog) dialog.addEventListener("click", () => dialog.close());
