"use strict";
// A click on a column's head sorts the table, and the contents mark the section on the screen. The page works without both.
// This file contains no ampersand and no less-than sign, so that the page is well-formed XML.
const UNITS = { "%": 0.01, ms: 0.001, s: 1, min: 60, h: 3600 };
const BELOW = /^(at most|up to|[\u003c≤]) */, ABOVE = /^(at least|more than|over|[>≥]) */;
const NUMBER = /^[$€£\[(]?([+-]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?) ?(%|ms|min|s|h)?(?![\w.|-])/i;
const COLLATOR = new Intl.Collator("en", { numeric: true });

/** Return the number at the start of a cell, times in seconds; undefined for other text, such as “–” or “not reached”. */
function number(text) {
  const plain = text.replaceAll("−", "-"), shift = BELOW.test(plain) ? -1e-9 : ABOVE.test(plain) ? 1e-9 : 0;
  const found = NUMBER.exec(plain.replace(BELOW, "").replace(ABOVE, ""));
  return found ? Number(found[1].replaceAll(",", "")) * (UNITS[found[2]] ?? 1) + shift : undefined;
}

/** Return the rows sorted by one column. Equal rows keep their order, and rows without a value are last in both directions. */
function sorted(rows, column, isNumeric, sign) {
  const keys = new Map(rows.map((row) => {
    const text = (row.cells[column]?.textContent ?? "").trim();
    return [row, row.className === "gap" || ["", "–"].includes(text) ? undefined : isNumeric ? number(text) : text];
  }));
  return rows.toSorted((first, second) => {
    const [a, b] = [keys.get(first), keys.get(second)];
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    return sign * (isNumeric ? a - b : COLLATOR.compare(a, b));
  });
}

for (const table of document.querySelectorAll("main table")) {
  const body = table.tBodies[0], stored = [...body.rows], heads = [...table.tHead.rows[0].cells];
  if (2 > stored.length) continue;
  for (const [column, head] of heads.entries()) {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const turn = { none: "ascending", ascending: "descending" }[head.getAttribute("aria-sort") ?? "none"];
      for (const other of heads) other.removeAttribute("aria-sort");
      if (turn) head.setAttribute("aria-sort", turn); // the third click restores the original order
      const sign = turn === "ascending" ? 1 : -1;
      body.append(...(turn ? sorted(stored, column, head.classList.contains("n"), sign) : stored));
    });
  }
}

const links = [...document.querySelectorAll("nav a")];
const sections = links.map((link) => document.getElementById(link.hash.slice(1)));

/** Mark the last section that begins in the upper third of the window; at the end of the page, the linked or the last section. */
function mark() {
  const tops = sections.map((section) => section.getBoundingClientRect().top);
  let place = tops.findLastIndex((top) => innerHeight / 3 > top);
  if (scrollY + innerHeight + 2 > document.documentElement.scrollHeight) {
    const asked = links.findIndex((link) => link.hash === location.hash);
    place = innerHeight > tops[asked] ? Math.max(place, asked) : links.length - 1;
  }
  if (links[place]?.hasAttribute("aria-current")) return;
  for (const link of links) link.removeAttribute("aria-current");
  const link = links[Math.max(place, 0)], list = link.closest("ol");
  link.setAttribute("aria-current", "true");
  list.scrollLeft = link.offsetLeft - list.offsetLeft - 16; // on a narrow screen, the contents are one line that scrolls sideways
}

for (const name of ["scroll", "resize", "hashchange"]) addEventListener(name, () => requestAnimationFrame(mark), { passive: true });
mark();
