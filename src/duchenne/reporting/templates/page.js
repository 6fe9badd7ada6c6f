"use strict";

// A header that is pressed sorts its table by the cells' data-sort; pressed again, the other way round.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[head.cellIndex].dataset.sort;
      const rows = [...body.rows].sort((a, b) => {
        const order = key(a) - key(b); // NaN where one is not a number
        return Number.isNaN(order) ? key(a).localeCompare(key(b)) : order;
      });
      body.append(...(down ? rows.reverse() : rows));
    });
  }
}

// Rows that hold all the words of the box stay.
for (const box of document.querySelectorAll("input[data-filters]")) {
  const rows = [...document.getElementById(box.dataset.filters).tBodies[0].rows];
  box.closest("p").hidden = false;
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    box.closest("p").querySelector("output").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  });
}

// The point of a map under the pointer, or reached by the arrow keys, shows its face and its words.
for (const map of document.querySelectorAll(".map")) {
  const points = JSON.parse(map.querySelector("script").textContent).sort((a, b) => a[0] - b[0]);
  const tip = map.querySelector(".tip");
  const face = tip.querySelector(".face");
  const mark = map.querySelector(".here");
  let current = -1;
  const show = (i) => {
    const [x, y, tile, words] = points[(current = i)];
    mark.style.left = tip.style.left = `${100 * x}%`;
    mark.style.top = tip.style.top = `${100 * y}%`;
    tip.style.translate = `${-100 * x}% 1rem`; // never over the edge
    tip.querySelector(".words").textContent = words;
    if (face) {
      const columns = Number(face.dataset.columns);
      face.hidden = tile < 0;
      face.style.setProperty("--column", tile % columns);
      face.style.setProperty("--line", Math.floor(tile / columns));
    }
    tip.hidden = mark.hidden = false;
  };
  const hide = () => { tip.hidden = mark.hidden = true; };
  map.addEventListener("pointermove", (event) => {
    const box = map.getBoundingClientRect();
    const far = ([x, y]) => Math.hypot(x * box.width + box.left - event.clientX, y * box.height + box.top - event.clientY);
    const away = points.map(far);
    const nearest = away.indexOf(Math.min(...away));
    if (away[nearest] < 20) show(nearest); else hide();
  });
  map.addEventListener("pointerleave", hide);
  map.addEventListener("blur", hide);
  map.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") hide();
    if (!step) return;
    event.preventDefault();
    show((current + step + points.length) % points.length);
    mark.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
}
