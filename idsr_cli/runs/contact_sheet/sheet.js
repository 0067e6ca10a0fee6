"use strict";
const list = document.querySelector(".entries");
const entries = [...list.children];
const names = new Map(entries.map(entry => [entry, entry.querySelector("h3").textContent]));

// Sliders: left of the line is the photograph, right of it the derained one.
list.addEventListener("input", event => {
  const slider = event.target, share = Number(slider.value);
  slider.parentElement.style.setProperty("--at", `${share}%`);
  slider.setAttribute("aria-valuetext", `${share} % the photograph, ${100 - share} % derained`);
});

// Sorting: numbers begin with the largest, names and the run's order with the first; a second press turns round.
const buttons = [...document.querySelectorAll("button[data-order]")];
for (const button of buttons) {
  button.addEventListener("click", () => {
    const order = button.dataset.order, forwards = order === "name" || order === "order";
    const down = button.getAttribute("aria-pressed") === "true" ? button.dataset.down !== "true" : !forwards;
    for (const other of buttons) {
      other.setAttribute("aria-pressed", String(other === button));
      delete other.dataset.down;
    }
    button.dataset.down = String(down);
    const sign = down ? -1 : 1;
    const value = entry => order in entry.dataset ? Number(entry.dataset[order]) : NaN;
    const byOrder = (a, b) => a.dataset.order - b.dataset.order;
    const compare = order === "name"
      ? (a, b) => sign * names.get(a).localeCompare(names.get(b), undefined, { numeric: true }) || byOrder(a, b)
      : (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || byOrder(a, b);
        return sign * (x - y) || byOrder(a, b);
      };
    const sorted = document.createDocumentFragment();
    for (const entry of entries.sort(compare)) sorted.append(entry);
    list.append(sorted);
    tell(`sorted by ${button.textContent}, ${down ? "falling" : "rising"}`);
  });
}

// Filters.
const boxes = [...document.querySelectorAll("input[name=state]")], search = document.getElementById("name");
const shown = document.getElementById("shown");
function tell(also) {
  const count = entries.filter(entry => !entry.hidden).length;
  shown.textContent = `${count} of ${entries.length} shown${also ? `, ${also}` : ""}`;
}
function filter() {
  const states = new Set(boxes.filter(box => box.checked).map(box => box.value)), part = search.value.toLowerCase();
  for (const entry of entries) entry.hidden = !states.has(entry.dataset.state) || !names.get(entry).toLowerCase().includes(part);
  tell();
}
for (const box of boxes) box.addEventListener("change", filter);
search.addEventListener("input", filter);
search.form.addEventListener("submit", event => event.preventDefault());
const marks = document.getElementById("marks");
if (marks) marks.addEventListener("change", () => document.body.classList.toggle("bare", !marks.checked));
filter();
