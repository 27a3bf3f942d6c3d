"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const PAGE = 20;

  // Everything that a model or a config wrote goes in as text, never as markup.
  const make = (tag, text, className) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  };
  const options = (select, labels) =>
    select.replaceChildren(...labels.map(([value, label]) => {
      const option = make("option", label);
      option.value = value;
      return option;
    }));

  // Tables: a heading sorts by its column, numbers first down, then up.
  const cellValue = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a === "number") return 1;
    if (typeof b === "number") return -1;
    return a.localeCompare(b, "en", { numeric: true });
  };
  const sortBy = (table, heading) => {
    const column = heading.cellIndex;
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const numeric = rows.some((row) => row.cells[column].dataset.value !== undefined);
    const was = heading.getAttribute("aria-sort");
    const up = was ? was === "descending" : !numeric;
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    rows.sort((a, b) => (up ? 1 : -1) * compare(cellValue(a, column), cellValue(b, column)));
    body.append(...rows);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    for (const heading of table.tHead.rows[0].cells) {
      heading.querySelector("button").addEventListener("click", () => sortBy(table, heading));
    }
  }

  // Items. An answer is {right, text, prediction, from}; null where the run has none.
  let page = 0;
  const group = () => data.groups[Number(at("item-group").value)];
  const answerOf = (run, stage, item) => {
    if (run[stage] === undefined) return null;
    const [places, right] = data.columns[run[stage]];
    if (places[item] < 0) return null;
    const [text, prediction] = data.answers[places[item]];
    return { right: right[item] === "1", text: text || "", prediction, from: "" };
  };
  const majorityOf = (runs, stage, item) => {
    const votes = new Map();
    let held = 0, first = null;
    for (const run of runs) {
      const answer = answerOf(run, stage, item);
      if (!answer) continue;
      held += 1;
      first = first || answer;
      if (answer.prediction === null) continue;
      const vote = votes.get(answer.prediction) || { count: 0, answer };
      vote.count += 1;
      votes.set(answer.prediction, vote);
    }
    if (!held) return null;
    let best = null;
    for (const vote of votes.values()) if (!best || vote.count > best.count) best = vote;
    if (!best) return { ...first, right: false };
    return { ...best.answer, from: held > 1 ? `${best.count} of ${held} seeds` : "" };
  };
  const pick = (row, stage, item) => {
    const seed = at("item-seed").value;
    if (seed === "majority") return majorityOf(row.runs, stage, item);
    const run = row.runs.find((each) => String(each.seed) === seed);
    return run ? answerOf(run, stage, item) : null;
  };
  const passes = (item) => {
    const [kind, index] = at("item-filter").value.split(":");
    const rows = group().rows;
    if (kind === "all") return true;
    if (kind === "differ") {
      const grades = rows.map((row) => pick(row, "final", item)).filter(Boolean);
      return new Set(grades.map((answer) => answer.right)).size > 1;
    }
    if (kind === "none") return rows.every((row) => !pick(row, "final", item)?.right);
    const before = pick(rows[index], "init", item), after = pick(rows[index], "final", item);
    if (!before || !after) return false;
    return kind === "fixed" ? !before.right && after.right : before.right && !after.right;
  };
  const found = (item, wanted) => {
    if (!wanted) return true;
    const { items, questions, gold, rows } = group();
    const words = [items[item], questions[item] || "", gold[item] || ""];
    for (const row of rows) {
      const answer = pick(row, "final", item);
      if (answer) words.push(answer.prediction || "", answer.text);
    }
    return words.some((word) => word.toLowerCase().includes(wanted));
  };
  const answerBox = (label, answer) => {
    const box = make("div", undefined, answer ? (answer.right ? "right" : "wrong") : "");
    box.append(make("dt", label));
    const body = make("dd");
    if (!answer) {
      body.textContent = "no answer here";
    } else {
      const shown = answer.prediction === null ? "nothing read" : answer.prediction;
      body.append(make("b", `${answer.right ? "✓ right" : "✗ wrong"}: ${shown}`));
      if (answer.from) body.append(make("span", answer.from, "from"));
      if (answer.text && answer.text !== answer.prediction) body.append(make("span", answer.text, "said"));
    }
    box.append(body);
    return box;
  };
  const itemBox = (item) => {
    const { items, questions, gold, rows } = group();
    const box = make("article", undefined, "item");
    const heading = make("h3", "item ");
    heading.append(make("code", items[item]), " · gold ", make("code", gold[item] ?? "unknown"));
    const list = make("dl", undefined, "answers");
    // Runs of all rows mostly share their init: it is shown once where its answer is one.
    const starts = rows.map((row) => pick(row, "init", item));
    const key = (answer) => answer && JSON.stringify([answer.right, answer.prediction, answer.text]);
    const shared = starts[0] && starts.every((answer) => key(answer) === key(starts[0]));
    if (shared) list.append(answerBox("init", starts[0]));
    rows.forEach((row, index) => {
      if (!shared && starts[index]) list.append(answerBox(`${row.name}: init`, starts[index]));
      list.append(answerBox(row.name, pick(row, "final", item)));
    });
    box.append(heading);
    if (questions[item]) box.append(make("p", questions[item], "question"));
    box.append(list);
    return box;
  };
  const showItems = () => {
    const wanted = at("item-search").value.trim().toLowerCase();
    const total = group().items.length;
    const kept = [];
    for (let item = 0; item < total; item += 1) if (passes(item) && found(item, wanted)) kept.push(item);
    const pages = Math.max(1, Math.ceil(kept.length / PAGE));
    page = Math.min(page, pages - 1);
    at("item-count").textContent = `${kept.length} of ${total} items`;
    at("item-page").textContent = `page ${page + 1} of ${pages}`;
    at("item-back").disabled = page === 0;
    at("item-next").disabled = page === pages - 1;
    at("item-list").replaceChildren(...kept.slice(page * PAGE, (page + 1) * PAGE).map(itemBox));
  };
  const firstPage = () => { page = 0; showItems(); };
  const showGroup = () => {
    const { rows } = group();
    const seeds = [...new Set(rows.flatMap((row) => row.runs.map((run) => run.seed)))].sort((a, b) => a - b);
    const each = seeds.map((seed) => [String(seed), `seed ${seed}`]);
    options(at("item-seed"), seeds.length > 1 ? [["majority", "majority over seeds"], ...each] : each);
    const filters = [["all", "all items"], ["differ", "methods disagree"], ["none", "right by no method"]];
    rows.forEach((row, index) => {
      if (!row.runs.some((run) => run.init !== undefined)) return;
      filters.push([`fixed:${index}`, `fixed by ${row.name}`], [`broken:${index}`, `broken by ${row.name}`]);
    });
    options(at("item-filter"), filters);
    firstPage();
  };
  if (data.groups.length) {
    options(at("item-group"), data.groups.map((each, index) => [String(index), each.title]));
    at("item-group").addEventListener("change", showGroup);
    at("item-seed").addEventListener("change", firstPage);
    at("item-filter").addEventListener("change", firstPage);
    at("item-search").addEventListener("input", firstPage);
    at("item-back").addEventListener("click", () => { page -= 1; showItems(); });
    at("item-next").addEventListener("click", () => { page += 1; showItems(); });
    showGroup();
  }

  // Configs.
  const showConfigs = () => {
    const a = Number(at("config-a").value), b = Number(at("config-b").value);
    const rows = [];
    for (const [key, values] of Object.entries(data.configs)) {
      if (values[a] === values[b]) continue;
      const row = make("tr");
      const name = make("th", key);
      name.scope = "row";
      row.append(name, make("td", values[a] ?? "absent"), make("td", values[b] ?? "absent"));
      rows.push(row);
    }
    const keys = data.shared + Object.keys(data.configs).length;
    at("config-count").textContent = `${rows.length} of ${keys} keys differ.`;
    document.querySelector("#config-table tbody").replaceChildren(...rows);
    at("config-table").hidden = rows.length === 0;
  };
  const labels = data.runs.map((label, index) => [String(index), label]);
  options(at("config-a"), labels);
  options(at("config-b"), labels);
  at("config-b").value = String(labels.length - 1);
  at("config-a").addEventListener("change", showConfigs);
  at("config-b").addEventListener("change", showConfigs);
  showConfigs();
})();
