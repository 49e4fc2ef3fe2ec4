
"use strict";
(() => {
const $ = id => document.getElementById(id);
const time = /(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)/;
const local = text => {
  const found = time.exec(text);
  const options = {dateStyle: "medium", timeStyle: "long"};
  return found ? new Date(found[1] + "T" + found[2] + "Z").toLocaleString(undefined, options) : "";
};
for (const element of document.querySelectorAll("time")) {
  if (time.test(element.textContent)) element.title = local(element.textContent) + " (your time)";
}
for (const title of document.querySelectorAll("svg title")) {
  if (time.test(title.textContent)) title.textContent += " (" + local(title.textContent) + ")";
}

const body = document.querySelector("tbody");
if (body) {
  const rows = [...body.rows];
  const units = {d: 86400, h: 3600, m: 60, s: 1};
  const seconds = text => [...text.matchAll(/([\d.]+)([dhms])/g)]
    .reduce((sum, [, number, unit]) => sum + number * units[unit], 0);
  const keys = [Number, null, null, null, null, seconds, null, null, Number];
  const texts = rows.map(row => row.textContent.toLowerCase());
  for (const {cells: {4: start}} of rows) start.title = local(start.textContent) + " (your time)";

  const heads = [...document.querySelectorAll("th")];
  heads.slice(0, keys.length).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = keys[column];
      const values = new Map(rows.map(row => {
        const text = row.cells[column].textContent;
        return [row, key ? (text === "" ? -1 : key(text)) : text];
      }));
      const order = (a, b) => values.get(a) < values.get(b) ? -1 : values.get(a) > values.get(b) ? 1 : 0;
      body.append(...[...rows].sort((a, b) => down ? order(b, a) : order(a, b)));
    });
  });

  const filter = () => {
    const words = $("words").value.toLowerCase().split(/\s+/).filter(Boolean);
    const outcome = $("outcome").value;
    let count = 0;
    rows.forEach((row, i) => {
      row.hidden = outcome && (row.className || "s") !== outcome || !words.every(word => texts[i].includes(word));
      count += row.hidden ? 0 : 1;
    });
    $("count").textContent = (count === rows.length ? "" : count + " of ") + rows.length + " executions";
  };
  $("filter").hidden = false;
  $("filter").addEventListener("submit", event => event.preventDefault());
  $("words").addEventListener("input", filter);
  $("outcome").addEventListener("change", filter);
  filter();

  const open = () => {
    const found = /^#e(\d+)$/.exec(location.hash);
    const row = found && rows.find(row => row.cells[0].textContent === found[1]);
    if (row) {
      row.hidden = false;
      row.querySelectorAll("details").forEach(details => details.open = true);
      row.scrollIntoView({block: "center"});
    }
  };
  addEventListener("hashchange", open);
  open();
}
})();
