// The list of all paired items: filters, search, pages of ten, links to single items, and marks where two answers differ.
// The data are compressed JSON in a template element (reports/items/item_payload.py). Text enters the page as text nodes only.
// This file contains no ampersand and no less-than sign, so that the page is well-formed XML.
{
  const PAGE_N = 10, CELLS_N = 600_000; // items of a page; cells of the table that compares two answers
  const HASH = "#item=", CHOSEN = String.fromCharCode(38); // 38: an ampersand, before each of "a=" and "b="
  const box = document.getElementById("items");
  const words = new Intl.Segmenter("en", { granularity: "word" });
  const say = { task: -1, pattern: 0, query: "", page: 0, a: 0, b: 0 }; // what the reader chose
  let loaded, data, parts, hits = [];

  function make(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  const isRight = (score) => score > 0.5;
  const both = (first, second) => (a, b) => a === null || b === null ? false : isRight(a) === first ? isRight(b) === second : false;
  const PATTERNS = [
    ["all", () => true],
    ["A right, B wrong", both(true, false)],
    ["B right, A wrong", both(false, true)],
    ["both right", both(true, true)],
    ["both wrong", both(false, false)],
  ];
  const GRADED = [
    ["A scores higher", (a, b) => a === null || b === null ? false : a > b],
    ["B scores higher", (a, b) => a === null || b === null ? false : b > a],
  ];

  /** Decode the data. Each item becomes an object. */
  async function read() {
    const text = document.getElementById("items-data").content.textContent;
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    data = await new Response(stream).json();
    data.items = data.items.map(([task, id, key, hash, question, target, said, scores, means]) => (
      { task, id, key, hash, question, target, said, scores, means: means ?? scores }));
    data.benchmarks = data.benchmarks.map(([name, label, seed, seeds]) => ({ name, label, seed, seeds }));
    for (const item of data.items) item.benchmark = data.benchmarks[data.tasks[item.task][0]];
    for (const item of data.items) item.benchmark.isGraded ||= item.scores.some((score) => score > 0 ? 1 > score : false);
    [say.b, say.a] = data.compared;
  }

  /** Build the controls and the list, once. */
  function build() {
    const isGraded = data.benchmarks.some((own) => own.isGraded);
    parts = {
      task: make("select", {}, make("option", { value: -1 }, "all tasks"), ...taskOptions()),
      a: make("select", {}, ...modelOptions()),
      b: make("select", {}, ...modelOptions()),
      query: make("input", { type: "search", autocomplete: "off", spellcheck: "false" }),
      patterns: make("fieldset", {}, make("legend", {}, isGraded ? "Pattern (right: a score above 0.5)" : "Pattern")),
      status: make("p", { class: "items-status", role: "status" }),
      list: make("ol", { class: "items-list" }),
      earlier: make("button", { type: "button" }, "Previous"),
      later: make("button", { type: "button" }, "Next"),
      where: make("span"),
    };
    const shown = isGraded ? [...PATTERNS, ...GRADED] : PATTERNS;
    parts.radios = shown.map(([name], place) => {
      const radio = make("input", { type: "radio", name: "items-pattern", value: place }), count = make("b");
      parts.patterns.append(make("label", {}, radio, make("span", {}, name, " ", count)));
      radio.addEventListener("change", () => change({ pattern: place }));
      return { radio, count, fits: shown[place][1] };
    });
    const field = (name, key) => {
      parts[key].id = `items-${key}`;
      return make("div", { class: "items-field" }, make("label", { for: parts[key].id }, name), parts[key]);
    };
    const form = make("form", { class: "items-form", role: "search", "aria-label": "Filter the items" },
      field("Task", "task"), field("A", "a"), field("B", "b"), field("Search (all words)", "query"), parts.patterns);
    form.addEventListener("submit", (event) => event.preventDefault());
    for (const name of ["task", "a", "b"]) parts[name].addEventListener("change", () => change({ [name]: Number(parts[name].value) }));
    let timer;
    parts.query.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => change({}), 150);
    });
    parts.earlier.addEventListener("click", () => turn(-1));
    parts.later.addEventListener("click", () => turn(1));
    const pager = make("div", { class: "items-pager", role: "group", "aria-label": "Pages of items" }, parts.earlier, parts.where, parts.later);
    box.querySelector(".note").replaceWith(form, parts.status, parts.list, pager);
    for (const own of data.benchmarks) own.gist = gistOf(data.items.filter((item) => item.benchmark === own));
  }

  function taskOptions() {
    return data.benchmarks.map(({ name }, benchmark) => make("optgroup", { label: name },
      ...data.tasks.flatMap(([own, task], place) => own === benchmark ? [make("option", { value: place }, task)] : [])));
  }

  function modelOptions() {
    return data.models.map((name, place) => make("option", { value: place }, name));
  }

  /** Return a function that makes one line of a question: without what all questions of a benchmark begin and end with. */
  function gistOf(items) {
    const texts = items.map((item) => item.question), first = texts[0];
    let end = first.length, start = first.length;
    for (const text of texts) {
      while (end > 0 ? !text.endsWith(first.slice(first.length - end)) : false) end -= 1;
      while (start > 0 ? !text.startsWith(first.slice(0, start)) : false) start -= 1;
    }
    if (2 > texts.length) start = end = 0;
    return (text) => {
      const own = text.slice(start, Math.max(text.length - end, start)), block = own.trim().split("\n\n").at(-1);
      return (block || text).replace(/\s+/g, " ").slice(0, 160);
    };
  }

  function change(chosen) {
    Object.assign(say, { page: 0, query: parts.query.value }, chosen);
    update();
  }

  function turn(step) {
    if (say.page + step >= 0 ? !(hits.length > (say.page + step) * PAGE_N) : true) return;
    say.page += step;
    update();
    if (0 > parts.list.getBoundingClientRect().top) parts.status.scrollIntoView();
  }

  /** Find the items that fit the reader's choice, and show one page of them. */
  function update() {
    const asked = say.query.toLowerCase().split(/\s+/).filter(Boolean);
    const found = data.items.filter((item) => {
      if (say.task >= 0 ? item.task !== say.task : false) return false;
      item.text ??= asked.length ? textOf(item) : undefined;
      return asked.every((word) => item.text.includes(word));
    });
    for (const [place, { radio, count, fits }] of parts.radios.entries()) {
      const own = found.filter((item) => fits(item.scores[say.a], item.scores[say.b]));
      count.textContent = own.length.toLocaleString("en");
      radio.checked = place === say.pattern;
      if (radio.checked) hits = own;
    }
    if (say.pattern >= PATTERNS.length) {
      const gap = (item) => Math.abs(item.scores[say.a] - item.scores[say.b]);
      hits.sort((first, second) => gap(second) - gap(first)); // the largest difference first
    }
    [parts.task.value, parts.a.value, parts.b.value] = [say.task, say.a, say.b];
    if (parts.query.value !== say.query) parts.query.value = say.query;
    const first = say.page * PAGE_N, last = Math.min(first + PAGE_N, hits.length);
    const range = hits.length > PAGE_N ? `, ${first + 1} to ${last} shown` : "";
    parts.status.textContent = hits.length === 0 ? "No item fits: try fewer words, another pattern or all tasks."
      : `${hits.length.toLocaleString("en")} of ${data.items.length.toLocaleString("en")} items${range}`;
    parts.where.textContent = `page ${say.page + 1} of ${Math.max(1, Math.ceil(hits.length / PAGE_N))}`;
    parts.earlier.setAttribute("aria-disabled", say.page === 0);
    parts.later.setAttribute("aria-disabled", last === hits.length);
    parts.list.replaceChildren(...hits.slice(first, last).map(row));
  }

  function textOf(item) {
    return [item.benchmark.name, data.tasks[item.task][1], item.id, item.hash, item.question, item.target, ...item.said].join("\n").toLowerCase();
  }

  /** Return one item, folded. Its texts are made when it is opened. */
  function row(item) {
    const [, task] = data.tasks[item.task];
    const chips = [["A", say.a], ["B", say.b]].map(([side, model]) => chip(item, model, `${side} `));
    const whole = make("details", { class: "item" }, make("summary", {},
      make("span", { class: "item-task" }, make("bdi", {}, task)), make("span", { class: "item-gist" }, make("bdi", {}, item.benchmark.gist(item.question))),
      make("span", { class: "item-chips" }, ...chips)));
    whole.addEventListener("toggle", () => {
      if (whole.open ? whole.childElementCount === 1 : false) whole.append(body(item));
    });
    return make("li", {}, whole);
  }

  function chip(item, model, before = "") {
    const score = item.scores[model];
    if (score === null) return make("span", { class: "chip" }, `${before}not asked`);
    if (item.benchmark.isGraded) return make("span", { class: "chip" }, `${before}${score.toFixed(2)}`);
    return make("span", { class: `chip ${isRight(score) ? "better" : "worse"}` }, `${before}${isRight(score) ? "right" : "wrong"}`);
  }

  /** Return how often a model is right over its seeds, in words; empty for one seed. */
  function overSeeds(item, model) {
    const seeds = item.benchmark.seeds[model], mean = item.means[model];
    if (2 > seeds || mean === null) return "";
    return item.benchmark.isGraded ? `mean of ${seeds} seeds ${mean.toFixed(2)}` : `right under ${Math.round(mean * seeds)} of ${seeds} seeds`;
  }

  function body(item) {
    const others = data.models.flatMap((name, model) => [say.a, say.b].includes(model) ? [] : [[name, model]]);
    const [first, second] = [say.a, say.b].map((model) => item.said[model]);
    const [marked, remark] = say.a === say.b ? [null, ""] : differences(first, second);
    const side = (letter, model, place) => make("div", { class: "item-side" },
      make("p", { class: "item-who" }, `${letter}: `, make("bdi", {}, data.models[model]), " ", chip(item, model), make("span", { class: "muted" }, overSeeds(item, model))),
      answer(item.said[model], marked?.[place]));
    const written = others.filter(([, model]) => typeof item.said[model] === "string");
    const more = written.map(([name, model]) => make("div", { class: "item-side" },
      make("p", { class: "item-who" }, make("bdi", {}, name), " ", chip(item, model), make("span", { class: "muted" }, overSeeds(item, model))), answer(item.said[model])));
    const bare = others.filter(([, model]) => typeof item.said[model] !== "string").map(([name, model]) => make("li", {}, make("bdi", {}, name), " ", chip(item, model)));
    return make("div", { class: "item-body" },
      make("dl", { class: "facts" }, ...fact("asked", item.question), ...fact("right answer", item.target || "(not stored)")),
      make("div", { class: "item-sides" }, side("A", say.a, 0), side("B", say.b, 1)),
      ...(remark ? [make("p", { class: "muted item-remark" }, remark)] : []),
      ...(more.length ? [make("details", { class: "item-more" }, make("summary", {}, more.length === 1 ? "The answer of the other model" : `The answers of the ${more.length} other models`), make("div", { class: "item-sides" }, ...more))] : []),
      ...(bare.length ? [make("ul", { class: "item-models", "aria-label": "The other models" }, ...bare)] : []),
      foot(item));
  }

  function fact(name, text) {
    return [make("dt", {}, name), make("dd", { class: "item-text" }, make("bdi", {}, text))];
  }

  function answer(text, runs) {
    const own = text === null || text === undefined ? [make("i", {}, "(this page has no text of it)")] : text === "" ? [make("i", {}, "(nothing)")]
      : (runs ?? [[false, text]]).map(([isMarked, part]) => isMarked ? make("mark", {}, part) : part);
    return make("div", { class: "item-text" }, make("bdi", {}, ...own));
  }

  function foot(item) {
    const { name, label, seed } = item.benchmark;
    const compared = [["a", say.a], ["b", say.b]].map(([side, model]) => `${CHOSEN}${side}=${encodeURIComponent(data.models[model])}`);
    const link = make("a", { href: `${HASH}${encodeURIComponent(name)}.${item.key}${compared.join("")}` }, "Link to this item");
    const copy = make("button", { type: "button", class: "item-copy" }, "Copy the link");
    copy.addEventListener("click", () => navigator.clipboard.writeText(link.href).then(() => copy.textContent = "Copied", () => copy.textContent = "Not allowed here"));
    return make("p", { class: "item-foot muted" }, make("bdi", {}, name), " · ", make("bdi", {}, label), ` · seed ${seed} · item `, make("code", {}, item.id),
      ...(item.hash ? [" · hash of the prompt ", make("code", {}, item.hash)] : []), " · ", link, ...(navigator.clipboard ? [" ", copy] : []));
  }

  /** Return runs of equal and different words of both texts, and a remark. The runs are null if marks would not help. */
  function differences(first, second) {
    if (typeof first !== "string" || typeof second !== "string") return [null, ""];
    if (first === second) return [null, "Both answers are the same."];
    const [a, b] = [first, second].map((text) => [...words.segment(text)].map((one) => one.segment));
    if ((a.length + 1) * (b.length + 1) > CELLS_N) return [null, "These answers are too long to mark where they differ."];
    const width = b.length + 1, common = new Uint16Array((a.length + 1) * width); // longest common subsequence from each pair of places
    for (let i = a.length; i-- > 0;) {
      for (let j = b.length; j-- > 0;) {
        common[i * width + j] = a[i] === b[j] ? common[(i + 1) * width + j + 1] + 1 : Math.max(common[(i + 1) * width + j], common[i * width + j + 1]);
      }
    }
    const kept = [a.map(() => true), b.map(() => true)]; // true: the other text lacks this word
    let i = 0, j = 0, shared = 0;
    while (a.length > i ? b.length > j : false) {
      if (a[i] === b[j]) {
        shared += /\p{L}|\p{N}/u.test(a[i]) ? 1 : 0;
        kept[0][i++] = kept[1][j++] = false;
      } else if (common[(i + 1) * width + j] >= common[i * width + j + 1]) i += 1;
      else j += 1;
    }
    return shared === 0 ? [null, ""] : [[runs(a, kept[0]), runs(b, kept[1])], "Marked: words that the other answer lacks at this place."];
  }

  function runs(tokens, marks) {
    const found = [];
    for (const [place, token] of tokens.entries()) {
      if (found.at(-1)?.[0] === marks[place]) found.at(-1)[1] += token;
      else found.push([marks[place], token]);
    }
    return found;
  }

  /** Read the data and show the first page, once. */
  function load() {
    loaded ??= read().then(build).then(update).catch((error) => {
      box.append(`The items cannot be read in this browser (${error.message}).`);
      throw error;
    });
    return loaded;
  }

  /** Open the item that the address names. */
  async function follow() {
    if (!location.hash.startsWith(HASH)) return;
    box.open = true;
    await load();
    const [asked, ...chosen] = location.hash.slice(HASH.length).split(CHOSEN), dot = asked.lastIndexOf(".");
    for (const [side, name] of chosen.map((text) => text.split("="))) { // older links have none
      const model = data.models.findIndex((own) => encodeURIComponent(own) === name);
      if (["a", "b"].includes(side) ? model >= 0 : false) say[side] = model;
    }
    const is = (item) => item.key === asked.slice(dot + 1) ? encodeURIComponent(item.benchmark.name) === asked.slice(0, dot) : false;
    if (!hits.some(is)) Object.assign(say, { task: -1, pattern: 0, query: "" });
    update();
    const place = hits.findIndex(is);
    if (0 > place) {
      parts.status.textContent = "This page has no such item. It may be one that was left out, or the link belongs to another report.";
      parts.status.scrollIntoView();
      return;
    }
    say.page = Math.floor(place / PAGE_N);
    update();
    const opened = parts.list.children[place % PAGE_N].firstChild;
    opened.open = true;
    opened.scrollIntoView();
    opened.firstChild.focus({ preventScroll: true });
  }

  box.addEventListener("toggle", () => { if (box.open) load().catch(() => {}); });
  addEventListener("hashchange", () => follow().catch(() => {}));
  follow().catch(() => {});
}
