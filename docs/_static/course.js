// For narrow pages: heads beside the cells of wide tables, and figures that open by
// themselves, to be looked at more closely.
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

// A place on the same page is behind the drawer that was opened to find it.
function closeDrawer(event) {
  if (event.target.closest("a")) event.target.closest("dialog")?.close();
}

function start() {
  document.querySelectorAll("dialog").forEach((drawer) => drawer.addEventListener("click", closeDrawer));
  document.querySelectorAll(".bd-content table:not(.steps table)").forEach(nameCells);
  document.querySelectorAll(".cell_output img").forEach(linkFigure);
}

if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
else start();
