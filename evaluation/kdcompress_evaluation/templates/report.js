"use strict";

/* Theme: as the system says, or as chosen. */
const theme = document.getElementById("theme");
const remember = (value) => { try { value === undefined || localStorage.setItem("kdcompress-theme", value); return localStorage.getItem("kdcompress-theme"); } catch { return value; } };
const themes = ["auto", "light", "dark"];
const setTheme = (name) => {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  theme.lastChild.textContent = name;
};
theme.hidden = false;
theme.addEventListener("click", () => {
  const next = themes[(themes.indexOf(theme.lastChild.textContent) + 1) % themes.length];
  setTheme(next);
  remember(next);
});
setTheme(themes.includes(remember()) ? remember() : "auto");

/* Tables: a button in every heading that sorts; what is missing stays last. */
const columnOf = (table, wanted) => {
  const taken = [];
  for (const [r, row] of [...table.tHead.rows].entries()) {
    let column = 0;
    for (const cell of row.cells) {
      while (taken[r]?.[column]) column += 1;
      if (cell === wanted) return column;
      for (let i = r; i < r + cell.rowSpan; i += 1) for (let j = column; j < column + cell.colSpan; j += 1) (taken[i] ??= [])[j] = true;
      column += cell.colSpan;
    }
  }
  return 0;
};
const valueIn = (row, column) => {
  const text = row.cells[column].dataset.value ?? "";
  return text === "" || Number.isNaN(Number(text)) ? text : Number(text);
};
const compare = (a, b, up) => {
  if (a === "" || b === "") return (a === "") - (b === "");
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
  return up ? order : -order;
};
for (const table of document.querySelectorAll("table.sortable")) {
  for (const head of table.tHead.querySelectorAll("th[data-sort]")) {
    const column = columnOf(table, head);
    const button = document.createElement("button");
    button.type = "button";
    const picture = head.querySelector("svg");
    const old = head.querySelector(":scope > span");
    button.append(...(old ?? head).childNodes);
    old?.remove();
    head.prepend(button);
    if (picture) head.append(picture);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].sort((a, b) => compare(valueIn(a, column), valueIn(b, column), up));
      table.tBodies[0].append(...rows);
    });
  }
}

/* Plots: point at a mark, or walk with the arrow keys; press to follow a variant through the page. */
const tip = document.getElementById("tip");
const charts = [...document.querySelectorAll("svg.chart")];
const everywhere = (variant) => document.querySelectorAll(`[data-variant="${variant}"]`);
const middle = (mark) => {
  const box = (mark.querySelector("use") ?? mark).getBoundingClientRect();
  return [box.left + box.width / 2, box.top + box.height / 2];
};
const light = (variant) => {
  for (const element of document.querySelectorAll(".lit")) element.classList.remove("lit");
  for (const chart of charts) chart.classList.toggle("dim", variant !== null);
  if (variant !== null) for (const element of everywhere(variant)) element.classList.add("lit");
};
const show = (mark) => {
  light(mark.dataset.variant);
  tip.textContent = mark.dataset.told;
  tip.hidden = false;
  const [x, y] = middle(mark);
  const width = document.documentElement.clientWidth;
  const left = Math.min(Math.max(8, x - tip.offsetWidth / 2), width - tip.offsetWidth - 8);
  const above = y - tip.offsetHeight - 14;
  tip.style.left = `${left + scrollX}px`;
  tip.style.top = `${(above > 4 ? above : y + 16) + scrollY}px`;
};
const hide = () => { tip.hidden = true; light(null); };
const pin = (variant) => {
  const on = [...everywhere(variant)].some((element) => element.classList.contains("pinned"));
  for (const element of everywhere(variant)) element.classList.toggle("pinned", !on);
  for (const label of document.querySelectorAll(`.pin[data-of="${variant}"]`)) label.remove();
  if (on) return;
  for (const chart of charts) {
    const mark = chart.querySelector(`.mark[data-variant="${variant}"]`);
    if (!mark) continue;
    const figure = chart.parentElement, frame = figure.getBoundingClientRect(), [x, y] = middle(mark);
    const label = document.createElement("span");
    label.className = "pin";
    label.dataset.of = variant;
    label.textContent = mark.dataset.told.split("\n")[0];
    figure.append(label);
    const half = label.offsetWidth / 2;
    const left = Math.min(Math.max(half, x - frame.left), frame.width - half);
    label.style.left = `${(100 * left) / frame.width}%`;
    label.style.top = `${y - frame.top}px`;
  }
};
for (const chart of charts) {
  const marks = [...chart.querySelectorAll(".mark")];
  const near = (event) => {
    const measured = marks.map((mark) => { const [x, y] = middle(mark); return [Math.hypot(x - event.clientX, y - event.clientY), mark]; });
    const [distance, mark] = measured.reduce((best, one) => (one[0] < best[0] ? one : best), [Infinity, null]);
    return distance < 26 ? mark : null;
  };
  chart.addEventListener("pointermove", (event) => { const mark = near(event); mark ? show(mark) : hide(); chart.style.cursor = mark ? "pointer" : ""; });
  chart.addEventListener("pointerleave", hide);
  chart.addEventListener("click", (event) => { const mark = near(event); if (mark) { show(mark); pin(mark.dataset.variant); } });
  chart.addEventListener("focusin", (event) => { const mark = event.target.closest(".mark"); if (mark?.matches(":focus-visible")) show(mark); });
  chart.addEventListener("focusout", hide);
  chart.addEventListener("keydown", (event) => {
    const mark = event.target.closest(".mark");
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    if (mark && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); pin(mark.dataset.variant); }
    if (event.key === "Escape") hide();
    if (!mark || !steps[event.key]) return;
    event.preventDefault();
    const ordered = [...marks].sort((a, b) => middle(a)[0] - middle(b)[0]);
    const next = ordered[(ordered.indexOf(mark) + steps[event.key] + ordered.length) % ordered.length];
    mark.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}
for (const item of document.querySelectorAll(".chartkey li")) {
  item.addEventListener("pointerenter", () => light(item.dataset.variant));
  item.addEventListener("pointerleave", () => light(null));
  item.addEventListener("click", () => pin(item.dataset.variant));
}

/* Print: everything open, except the single utterances of every other variant. */
let closed = [];
addEventListener("beforeprint", () => { closed = [...document.querySelectorAll("section:not(#utterances) details:not([open]), header details:not([open])")]; for (const one of closed) one.open = true; });
addEventListener("afterprint", () => { for (const one of closed) one.open = false; });
