"use strict";
// Two comforts that nobody needs for reading: a click on a column's head sorts the table, and the contents mark where the
// reader is. No ampersand and no less-than sign stand here, so that the page is well-formed XML too.
const UNITS = { "%": 0.01, ms: 0.001, s: 1, min: 60, h: 3600 };
const BELOW = /^(at most|up to|[\u003c≤]) */, ABOVE = /^(at least|more than|over|[>≥]) */;
const NUMBER = /^[$€£\[(]?([+-]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?) ?(%|ms|min|s|h)?(?![\w.|-])/i;
const COLLATOR = new Intl.Collator("en", { numeric: true });

/** The number that a cell begins with, in one unit a kind; undefined for “–”, “not reached” and other words. */
function number(text) {
  const plain = text.replaceAll("−", "-"), shift = BELOW.test(plain) ? -1e-9 : ABOVE.test(plain) ? 1e-9 : 0;
  const found = NUMBER.exec(plain.replace(BELOW, "").replace(ABOVE, ""));
  return found ? Number(found[1].replaceAll(",", "")) * (UNITS[found[2]] ?? 1) + shift : undefined;
}

/** Rows by one column; equal ones keep the order they are given in, and what has no value stands last either way. */
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
      if (turn) head.setAttribute("aria-sort", turn); // the third click gives back the order that the page was made with
      const sign = turn === "ascending" ? 1 : -1;
      body.append(...(turn ? sorted(stored, column, head.classList.contains("n"), sign) : stored));
    });
  }
}

const links = [...document.querySelectorAll("nav a")];
const sections = links.map((link) => document.getElementById(link.hash.slice(1)));

/** Mark the last section that has begun above a third of the window; at the page's end the one asked for, else the last. */
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
  list.scrollLeft = link.offsetLeft - list.offsetLeft - 16; // where the contents are one line that scrolls sideways
}

for (const name of ["scroll", "resize", "hashchange"]) addEventListener(name, () => requestAnimationFrame(mark), { passive: true });
mark();
