// Search results: excerpts from the article alone, links to the section that fits best, and
// the section that fits best on top.
const APART = ".headerlink, script, style, summary, button, nav, .toctree-wrapper, .cell-note, div.math";
const squeeze = (text) => text.replace(/\u00ad/g, "").replace(/\s+/g, " ").trim();

function articleOf(html) {
  const article = new DOMParser().parseFromString(html, "text/html").querySelector("article");
  article?.querySelectorAll(APART).forEach((el) => el.remove());
  article?.querySelectorAll(".math").forEach((el) => { el.textContent = plain(el.textContent); });
  article?.querySelectorAll("pre").forEach((el) => {
    el.textContent = el.textContent.replace(/^#\|.*$/gm, "");
  });
  return article;
}

// A formula in a line of text: \(q_m \cdot \text{rows}\) is q_m · rows.
const SIGNS = { cdot: "·", times: "×", le: "≤", ge: "≥", approx: "≈", to: "→", ldots: "…" };
function plain(tex) {
  return tex.replace(/\\[()]/g, "").replace(/\\(text|mathrm|mathbf)\s*(?=\{)/g, "")
    .replace(/\\d?frac\{([^{}]*)\}\{([^{}]*)\}/g, "$1 / $2").replace(/\\[,;:! ]/g, " ")
    .replace(/\\([a-zA-Z]+)/g, (_, name) => SIGNS[name] ?? name).replace(/[{}]/g, "");
}

// A section, without the sections in it.
function ownText(section) {
  const copy = section.cloneNode(true);
  copy.querySelectorAll("section, h1, h2, h3").forEach((el) => el.remove());
  return squeeze(copy.textContent);
}

function headingOf(section) {
  return squeeze(section.querySelector(":scope > :is(h1, h2, h3)")?.textContent ?? "");
}

// The phrase as it was typed counts most, then how many of its words are there, then how
// often; in a heading more.
function fits(section, phrase, words) {
  const heading = headingOf(section).toLowerCase();
  const text = ownText(section).toLowerCase();
  const count = (part) => Math.min(3, text.split(part).length - 1) + 6 * heading.includes(part);
  const one = (word) => count(word) && 15 + count(word);
  return words.reduce((sum, word) => sum + one(word), 20 * count(phrase));
}

// A name of the reference, of which Sphinx fetches no page.
function fitsName(item, phrase) {
  const name = item.querySelector("a").textContent.split(".").at(-1).toLowerCase();
  return name === phrase ? 150 : 20;
}

// Keep the list in the order of what fits; a hit comes to its place when its page is read.
function place(item, fit, phrase) {
  item.dataset.fit = fit;
  const fitOf = (other) => Number(other.dataset.fit ?? fitsName(other, phrase));
  const next = [...item.parentElement.children].find((other) => other !== item && fitOf(other) < fit);
  if (next) next.before(item);
  else item.parentElement.append(item);
}

function sectionFor(article, anchor, phrase, words) {
  const found = anchor && article.querySelector(`[id="${CSS.escape(anchor.slice(1))}"]`);
  if (found) return found.closest("section");
  let best = null;
  let most = -1;
  for (const section of article.querySelectorAll("section[id]")) {
    const score = fits(section, phrase, words);
    if (score > most) [best, most] = [section, score];
  }
  return best;
}

function excerpt(text, phrase, words) {
  const places = [phrase, ...words].map((part) => text.toLowerCase().indexOf(part));
  const place = places.find((i) => i >= 0) ?? 0;
  const start = place < 100 ? 0 : text.indexOf(" ", place - 100) + 1;
  const end = start + 240 < text.length ? text.lastIndexOf(" ", start + 240) : text.length;
  return `${start ? "… " : ""}${text.slice(start, end)}${end < text.length ? " …" : ""}`;
}

// A hit leads to its section; of two that lead to the same one, the first stays.
function lead(item, section) {
  const link = item.querySelector("a");
  const [title, heading] = [link.textContent.split(" > ")[0], headingOf(section)];
  link.href = `${link.href.split("#")[0]}#${section.id}`;
  if (!section.querySelector(":scope > h1")) link.textContent = `${title} > ${heading}`;
  const same = [...item.parentElement.querySelectorAll("a")].filter((a) => a.href === link.href);
  if (same[0] !== link) item.remove();
}

function summarize(html, keywords, anchor) {
  const phrase = new URLSearchParams(location.search).get("q").toLowerCase().trim();
  const words = [...keywords];
  const summary = document.createElement("p");
  summary.className = "context";
  const article = articleOf(html);
  const section = article && sectionFor(article, anchor, phrase, words);
  if (!section) return summary;
  summary.textContent = excerpt(ownText(section), phrase, words);
  queueMicrotask(() => {
    const item = summary.parentElement;
    if (!item) return;
    place(item, fits(section, phrase, words), phrase);
    lead(item, section);
  });
  return summary;
}

if (typeof Search !== "undefined") {
  const split = splitQuery;
  // "min-p" is "min" for Sphinx's index; of one letter alone every page has a word.
  splitQuery = (query) => {
    const words = split(query);
    const long = words.filter((word) => word.length > 1);
    return long.length ? long : words;
  };
  Scorer.objPartialMatch = -10; // "min" in "streaming"
  Search.makeSearchSummary = summarize;
  // Sphinx gives the pages that have every word; if there is none, those that have some.
  const withAll = Search.performTermsSearch;
  Search.performTermsSearch = (words, excluded) => {
    const found = withAll(words, excluded);
    if (found.length || words.size < 2) return found;
    const some = [...words].flatMap((word) => withAll(new Set([word]), excluded));
    return [...new Map(some.map((hit) => [hit[0], hit])).values()];
  };
  Documentation.TRANSLATIONS["Your search did not match any documents. Please make sure that" +
    " all words are spelled correctly and that you've selected enough categories."] =
    "No page has any of these words. The Index, under “Looking up”, lists the terms of the course.";
}
