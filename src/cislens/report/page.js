"use strict";
// Tables sort and filter, and figures can be taken as SVG. Without this script the page is whole.

// What a cell is sorted by: its value, or the first thing it says.
function said(cell) {
  if (cell.dataset.value !== undefined) return cell.dataset.value.trim();
  const first = [...cell.childNodes].find(node => node.textContent.trim());
  return first ? first.textContent.trim() : "";
}

// A number where the text begins with one; null for what is absent, NaN for other text.
function number(text) {
  if (text === "" || text === "\u2013") return null;
  const found = /^[<>]?([+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)(?:\s?%|[\s[(].*)?$/i
    .exec(text.replaceAll("\u2212", "-"));
  return found ? Number(found[1].replaceAll(",", "")) : NaN;
}

function sortRows(table, column, down) {
  const rows = [...table.tBodies[0].rows];
  const texts = new Map(rows.map(row => [row, said(row.cells[column])]));
  const values = new Map(rows.map(row => [row, number(texts.get(row))]));
  const numeric = [...values.values()].every(value => value === null || !Number.isNaN(value));
  const order = new Intl.Collator("en", {numeric: true, sensitivity: "base"});
  rows.sort((a, b) => {
    const [x, y] = [values.get(a), values.get(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    const found = numeric ? x - y : order.compare(texts.get(a), texts.get(b));
    return down ? -found : found;
  });
  table.tBodies[0].append(...rows);
  [...table.tHead.rows[0].cells].forEach((head, index) => {
    if (index === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
}

function makeSortable(table, bar) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    button.addEventListener("click", () => {
      sortRows(table, column, head.getAttribute("aria-sort") === "ascending");
    });
    head.append(button);
  });
  if (!table.closest(".verdicts")) return;
  // On a narrow screen the verdicts are cards, which have no head to press.
  const choice = document.createElement("select");
  choice.className = "narrow";
  choice.setAttribute("aria-label", "Sort by");
  choice.append(new Option("Sort by \u2026", ""),
                ...heads.map((head, column) => new Option(head.textContent, column)));
  choice.addEventListener("change", () => {
    if (choice.value !== "") sortRows(table, Number(choice.value), false);
  });
  bar.append(choice);
}

function makeFilter(table, bar, label) {
  const rows = [...table.tBodies[0].rows];
  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = "Filter rows";
  field.setAttribute("aria-label", label ? `Filter rows of ${label}` : "Filter rows");
  const count = document.createElement("span");
  count.setAttribute("role", "status");
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
  });
  bar.append(field, count);
}

for (const table of document.querySelectorAll("main table")) {
  if (!table.tHead || table.tBodies[0].rows.length < 2) continue;
  const holder = table.closest(".listing, .verdicts");
  const bar = document.createElement("div");
  bar.className = "tools";
  const region = table.closest("[aria-label]");
  const label = table.caption ? table.caption.textContent
    : region && holder.contains(region) ? region.getAttribute("aria-label") : "";
  if (table.tBodies[0].rows.length > 5) makeFilter(table, bar, label);
  makeSortable(table, bar);
  if (bar.childNodes.length) holder.prepend(bar);
}

// The colors of a light page, whatever this one is in: a figure that is taken is for paper.
function lightColors() {
  const light = document.styleSheets[0].cssRules[0].style;
  return new Map([...light].filter(name => name.startsWith("--"))
    .map(name => [name, light.getPropertyValue(name).trim()]));
}

// The figure as a file of its own: no variable, no font of the page, a size and a paper.
function standalone(svg) {
  const copy = svg.cloneNode(true), colors = lightColors();
  for (const element of [copy, ...copy.querySelectorAll("*")]) {
    for (const {name, value} of [...element.attributes]) {
      if (value.includes("var(")) element.setAttribute(
        name, value.replace(/var\((--[\w-]+)\)/g, (whole, found) => colors.get(found) ?? whole));
    }
  }
  const {x, y, width, height} = svg.viewBox.baseVal;
  const paper = document.createElementNS(svg.namespaceURI, "rect");
  const size = {x, y, width, height, fill: colors.get("--paper")};
  for (const [name, value] of Object.entries(size)) paper.setAttribute(name, value);
  const title = document.createElementNS(svg.namespaceURI, "title");
  title.textContent = svg.getAttribute("aria-label");
  copy.prepend(title, paper);
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  copy.setAttribute("font-family", "Helvetica, Arial, 'Liberation Sans', sans-serif");
  return '<?xml version="1.0" encoding="UTF-8"?>\n' + new XMLSerializer().serializeToString(copy);
}

for (const figure of document.querySelectorAll("figure.panel")) {
  const svg = figure.querySelector("svg"), takes = figure.querySelector(".takes");
  if (!svg || !takes) continue;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "take";
  button.textContent = "SVG";
  button.setAttribute("aria-label", `Download ${figure.querySelector("h3").textContent} as SVG`);
  button.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([standalone(svg)], {type: "image/svg+xml"}));
    link.download = `${figure.dataset.name}.svg`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
  takes.prepend(button);
}

// What is folded is printed, too, but for a browser that no one has opened: it has drawn nothing.
const unfolded = [];
window.addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not([open], :has(.browser))")) {
    part.open = true;
    unfolded.push(part);
  }
});
window.addEventListener("afterprint", () => {
  for (const part of unfolded.splice(0)) part.open = false;
});
