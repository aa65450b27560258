// For narrow pages: heads beside the cells of wide tables, formulas that fit, and figures
// that open by themselves, to be looked at more closely.
function nameCells(table) {
  const heads = [...table.querySelectorAll("thead th")].map((th) => th.textContent.trim());
  if (heads.length < 3) return;
  table.classList.add("rows");
  for (const row of table.querySelectorAll("tbody tr")) {
    [...row.children].forEach((cell, i) => {
      cell.dataset.head = cell.textContent.trim() ? heads[i] ?? "" : "";
    });
  }
}

function linkFigure(image) {
  const link = document.createElement("a");
  link.href = image.src;
  image.replaceWith(link);
  link.append(image);
}

function fit(formula) {
  formula.style.fontSize = "";
  const [room, width] = [formula.parentElement.clientWidth, formula.scrollWidth];
  if (room && width > room) formula.style.fontSize = `${Math.floor((100 * room) / width)}%`;
}

function fitAll() {
  document.querySelectorAll('mjx-container[display="true"]').forEach(fit);
}

// A place on the same page is behind the drawer that was opened to find it.
function closeDrawer(event) {
  if (event.target.closest("a")) event.target.closest("dialog")?.close();
}

function start() {
  document.querySelectorAll("dialog").forEach((drawer) => drawer.addEventListener("click", closeDrawer));
  document.querySelectorAll(".bd-content table:not(.steps table)").forEach(nameCells);
  document.querySelectorAll(".cell_output img").forEach(linkFigure);
  window.MathJax?.startup?.promise?.then(fitAll);
  addEventListener("resize", fitAll);
  document.addEventListener("toggle", fitAll, true); // what was folded had no width
}

if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
else start();
