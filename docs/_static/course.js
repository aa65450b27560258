// Narrow pages: heads beside the cells of wide tables, and formulas that fit.
function nameCells(table) {
  const heads = [...table.querySelectorAll("thead th")].map((th) => th.textContent.trim());
  if (heads.length < 3) return;
  table.classList.add("rows");
  for (const row of table.querySelectorAll("tbody tr")) {
    [...row.children].forEach((cell, i) => (cell.dataset.head = heads[i] ?? ""));
  }
}

function fit(formula) {
  formula.style.fontSize = "";
  const [room, width] = [formula.parentElement.clientWidth, formula.scrollWidth];
  if (room && width > room) formula.style.fontSize = `${Math.floor((100 * room) / width)}%`;
}

function fitAll() {
  document.querySelectorAll('mjx-container[display="true"]').forEach(fit);
}

function start() {
  document.querySelectorAll(".bd-content table:not(.steps table)").forEach(nameCells);
  window.MathJax?.startup?.promise?.then(fitAll);
  addEventListener("resize", fitAll);
  document.addEventListener("toggle", fitAll, true); // what was folded had no width
}

if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
else start();
