"use strict";

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => head.firstChild.addEventListener("click", () => sort(table, heads, place)));
}

// The first click sorts numbers from the largest and names from the first; cells without a value stay at the end.
function sort(table, heads, place) {
  const body = table.tBodies[0];
  const value = (row) => row.cells[place].dataset.order;
  const numeric = [...body.rows].every((row) => value(row) === undefined || !Number.isNaN(Number(value(row))));
  const before = heads[place].getAttribute("aria-sort");
  const direction = before ? (before === "ascending" ? "descending" : "ascending") : numeric ? "descending" : "ascending";
  const sign = direction === "ascending" ? 1 : -1;
  const compare = (a, b) => (numeric ? a - b : a.localeCompare(b));
  const rows = [...body.rows].sort((a, b) => {
    const [left, right] = [value(a), value(b)];
    if (left === undefined || right === undefined) return (left === undefined) - (right === undefined);
    return sign * compare(left, right);
  });
  for (const head of heads) head.removeAttribute("aria-sort");
  heads[place].setAttribute("aria-sort", direction);
  body.append(...rows);
}

for (const explorer of document.querySelectorAll(".explorer")) {
  const data = JSON.parse(explorer.querySelector(".relations-data").textContent);
  const choice = explorer.querySelector(".choice");
  choice.addEventListener("change", () => show(explorer, data, Number(choice.value)));
  show(explorer, data, Number(choice.value)); // a browser may restore an earlier choice
}

function show(explorer, data, chosen) {
  explorer.querySelector(".images").textContent = data.images[chosen];
  const rows = explorer.querySelectorAll("table.relations tr");
  for (const row of rows) {
    row.querySelectorAll("[data-part]").forEach((cell, place) => fill(cell, data, chosen, place));
  }
}

function fill(cell, data, chosen, place) {
  const { part, method } = cell.dataset;
  if (part === "partner") cell.textContent = shortened(data.classes[data.partners[chosen][place]]);
  if (part === "confusion") cell.textContent = (100 * data.confusion[chosen][place]).toFixed(1);
  if (part === "teacher") bar(cell, data.teacher[chosen][place]);
  if (part === "students") bar(cell, data.students[method][chosen][place]);
  if (part === "weights") {
    const weight = data.weights[method][chosen][place];
    const often = document.createElement("small");
    often.textContent = percent(data.among[method][chosen][place]);
    cell.replaceChildren(`${weight === null ? "–" : weight.toFixed(3)} `, often);
  }
}

function percent(fraction) {
  return fraction > 0 && fraction < 0.01 ? "< 1 %" : `${Math.round(100 * fraction)} %`;
}

function bar(cell, value) {
  cell.textContent = value.toFixed(2);
  cell.style.setProperty("--v", value);
}

function shortened(name) {
  return name.length <= 24 ? name : `${name.slice(0, 23).trimEnd()}…`;
}

// In print, all details are open.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const details of closed) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
});
