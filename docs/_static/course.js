// Heads beside the cells of wide tables and of long names on narrow pages, outputs in columns, and figures
// that open by themselves, to be looked at more closely.
function nameCells(table) {
  const heads = [...table.querySelectorAll("thead th")].map((th) => th.textContent.trim());
  const long = [...table.querySelectorAll("td code")].some((code) => /\S{16}/.test(code.textContent));
  if (heads.length < 3 && !long) return; // a long name would be broken in a narrow column
  table.classList.add("rows");
  for (const row of table.querySelectorAll("tbody tr")) {
    [...row.children].forEach((cell, i) => {
      cell.dataset.head = cell.textContent.trim() ? heads[i] ?? "" : "";
    });
  }
}

// A number and its unit are not parted.
function keepTogether(cell) {
  cell.classList.toggle("short", cell.textContent.trim().length < 13);
}

function linkFigure(image) {
  const link = document.createElement("a");
  link.href = image.src;
  image.replaceWith(link);
  link.append(image);
  if (!image.classList.contains("wide")) return;
  link.className = "wide-figure";
  const note = document.createElement("p");
  note.className = "cell-note swipe";
  note.textContent = "Wider than this screen: swipe the figure, or tap it to see it whole.";
  link.after(note);
}

// Lines that stand in columns are not wrapped; all other outputs are.
function keepColumns(output) {
  const lines = output.textContent.split("\n");
  const aligned = lines.filter((line) => /\S {2,}\S/.test(line));
  output.classList.toggle("aligned", aligned.length > 1);
}

// A place on the same page is behind the drawer that was opened to find it.
function closeDrawer(event) {
  if (event.target.closest("a")) event.target.closest("dialog")?.close();
}

function start() {
  document.querySelectorAll("dialog").forEach((drawer) => drawer.addEventListener("click", closeDrawer));
  document.querySelectorAll(".bd-content table:not(.steps table)").forEach(nameCells);
  document.querySelectorAll(".bd-content table:not(.steps table) td").forEach(keepTogether);
  document.querySelectorAll(".cell_output img").forEach(linkFigure);
  document.querySelectorAll(".cell_output pre").forEach(keepColumns);
}

if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
else start();
