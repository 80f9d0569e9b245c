// Below each table, a small menu copies the table, with its rows as they are sorted now, as CSV, Markdown or LaTeX.
// This file contains no ampersand and no less-than sign, so that the page is well-formed XML.
{
  const FORMULA = /^(\s*[=+\-@＝＋－＠]|[\t\r\n])/; // a spreadsheet program would run such a text
  const PLAIN = /^[−+-]?([1-9]\d{0,2}(,\d{3})+|0|[1-9]\d*)(\.\d+)?$/; // not 007, which may be a name
  const MARKDOWN = /[\\`*_[\]\u003c>|\u0026~]/g;
  const LATEX = {
    "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "$": "\\$", "\u0026": "\\\u0026", "#": "\\#", "%": "\\%", "_": "\\_",
    "^": "\\textasciicircum{}", "~": "\\textasciitilde{}", "\u003c": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}",
    "[": "{[}", "]": "{]}", "*": "{*}", "−": "$-$", "×": "$\\times$", "…": "\\ldots{}", "–": "--", "≤": "$\\leq$", "≥": "$\\geq$",
    "\"": "\\textquotedbl{}", "₂": "$_2$",
  };

  /** Return the caption, the rows (the first one has the heads) and which columns are numeric. */
  function read(table) {
    const line = (node) => node.textContent.replace(/\s+/g, " ").trim();
    const heads = [...table.tHead.rows[0].cells];
    const rows = [heads, ...[...table.tBodies[0].rows].map((row) => [...row.cells])];
    return [line(table.caption), rows.map((row) => row.map(line)), heads.map((head) => head.classList.contains("n"))];
  }

  function csv(caption, rows) {
    const cell = (text) => {
      if (PLAIN.test(text)) return text.replace(/[,+]/g, "").replace("−", "-");
      const safe = FORMULA.test(text) ? "'" + text : text;
      return /[",\r\n]/.test(safe) ? "\"" + safe.replaceAll("\"", "\"\"") + "\"" : safe;
    };
    return rows.map((row) => row.map(cell).join(",") + "\r\n").join("");
  }

  function markdown(caption, [head, ...rows], numeric) {
    const line = (cells) => "| " + cells.join(" | ") + " |\n";
    const texts = (row) => line(row.map((text) => text.replace(MARKDOWN, "\\$\u0026")));
    return texts(head) + line(numeric.map((is) => (is ? "---:" : "---"))) + rows.map(texts).join("");
  }

  function latex(caption, [head, ...rows], numeric) {
    const text = (raw) => [...raw].map((letter) => LATEX[letter] ?? letter).join("");
    const line = (row) => row.map(text).join(" \u0026 ") + " \\\\\n";
    const columns = numeric.map((is) => (is ? "r" : "l")).join("");
    return `% ${caption}\n\\begin{tabular}{${columns}}\n\\hline\n${line(head)}\\hline\n${rows.map(line).join("")}\\hline\n\\end{tabular}\n`;
  }

  /** Put a text on the clipboard. A page from a server without encryption has no clipboard of its own: there, select and copy. */
  async function put(text, place) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      place.append(area);
      area.select();
      const isDone = document.execCommand("copy");
      area.remove();
      return isDone;
    }
  }

  const made = (tag, text, parent) => {
    const element = document.createElement(tag);
    element.textContent = text;
    parent.append(element);
    return element;
  };

  for (const table of document.querySelectorAll("main table")) {
    const menu = document.createElement("div");
    menu.className = "copy";
    const opener = made("button", "Copy table", menu), choices = made("span", "", menu), said = made("span", "", menu);
    opener.setAttribute("aria-expanded", "false");
    opener.setAttribute("aria-describedby", table.caption.id);
    said.setAttribute("role", "status");
    choices.hidden = true;
    const show = (is) => {
      choices.hidden = !is;
      opener.setAttribute("aria-expanded", String(is));
    };
    opener.addEventListener("click", () => { show(choices.hidden); said.textContent = ""; });
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      show(false);
      opener.focus();
    });
    for (const [name, form] of [["CSV", csv], ["Markdown", markdown], ["LaTeX", latex]]) {
      const button = made("button", name, choices);
      button.setAttribute("aria-label", "as " + name);
      button.addEventListener("click", async () => {
        said.textContent = (await put(form(...read(table)), menu)) ? "copied as " + name : "the browser refused to copy";
        button.focus();
      });
    }
    (table.closest(".scroll") ?? table).after(menu);
  }
}
