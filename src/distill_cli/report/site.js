// Sorting and filtering the table of runs, pictures in full size, copying commands.
(function () {
  "use strict";
  const table = document.getElementById("table");
  const body = table.tBodies[0];
  const original = Array.from(body.rows);
  const heads = Array.from(table.tHead.rows[0].cells);
  const keys = heads.map((head) => head.dataset.key);
  const form = document.getElementById("filters");
  const search = document.getElementById("search");
  const sorter = document.getElementById("sort");
  const choices = Array.from(form.querySelectorAll("select[data-filter]"));
  const marked = Array.from(document.querySelectorAll("[data-runs]")).filter((e) => !body.contains(e));
  let order = { key: "", down: false };

  function cell(row, key) {
    return row.cells[keys.indexOf(key)];
  }

  function shown(row) {
    const text = row.textContent.toLowerCase();
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    return words.every((word) => text.includes(word)) &&
      choices.every((c) => !c.value || cell(row, c.dataset.filter).innerText.trim() === c.value ||
        cell(row, c.dataset.filter).dataset.v === c.value);
  }

  // Hides what belongs to runs that the filters leave out, in charts and galleries too.
  function filter() {
    const runs = new Set();
    let count = 0;
    for (const row of original) {
      row.hidden = !shown(row);
      if (!row.hidden) {
        count += 1;
        runs.add(row.dataset.runs);
      }
    }
    for (const element of marked) {
      const on = element.dataset.runs.split(" ").some((run) => runs.has(run));
      element.classList.toggle("off", !on);
    }
    for (const group of document.querySelectorAll(".group, figure.chart")) {
      const members = Array.from(group.querySelectorAll("[data-runs]"));
      const off = members.length > 0 && members.every((m) => m.classList.contains("off"));
      group.classList.toggle("off", off);
    }
    document.getElementById("count").textContent = count + " of " + original.length + " rows";
  }

  function sort() {
    const head = heads[keys.indexOf(order.key)];
    const numeric = head && head.dataset.type === "n";
    const rows = original.slice();
    if (head) {
      rows.sort(function (a, b) {
        const x = cell(a, order.key).dataset.v;
        const y = cell(b, order.key).dataset.v;
        if (x === "" || y === "") { return (x === "") - (y === ""); }  // without a value: last
        const by = numeric ? Number(x) - Number(y) : x.localeCompare(y);
        return order.down ? -by : by;
      });
    }
    for (const h of heads) {
      const state = order.down ? "descending" : "ascending";
      if (h.dataset.key) { h.setAttribute("aria-sort", h === head ? state : "none"); }
    }
    sorter.value = order.key;
    body.append(...rows);
  }

  function sortBy(key, down) {
    order = { key: key, down: down };
    sort();
  }

  for (const head of heads) {
    if (!head.dataset.key) { continue; }
    head.querySelector("button").addEventListener("click", function () {
      const first = head.dataset.type === "n";  // numbers from the largest down
      const again = order.key === head.dataset.key;
      sortBy(head.dataset.key, again ? !order.down : first);
    });
  }
  sorter.addEventListener("change", function () {
    const head = heads[keys.indexOf(sorter.value)];
    sortBy(sorter.value, Boolean(head) && head.dataset.type === "n");
  });
  form.addEventListener("input", filter);
  form.addEventListener("change", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", function () {
    setTimeout(function () { filter(); sortBy("", false); }, 0);
  });

  const dialog = document.getElementById("zoom");
  document.addEventListener("click", function (event) {
    const picture = event.target.closest("button.picture");
    if (picture) {
      const image = picture.querySelector("img");
      dialog.querySelector("img").src = image.src;
      dialog.querySelector("img").alt = image.alt;
      dialog.querySelector("p").textContent = image.alt;
      dialog.showModal();
    } else if (event.target === dialog || event.target.closest("#zoom button")) {
      dialog.close();
    }
    const copy = event.target.closest("button.copy");
    if (copy) { copyText(copy); }
  });

  // The clipboard is denied to some pages opened from disk: then by way of a selected field.
  function copyText(button) {
    const done = function () {
      button.textContent = "Copied";
      setTimeout(function () { button.textContent = "Copy"; }, 1500);
    };
    const byHand = function () {
      const field = document.createElement("textarea");
      field.value = button.dataset.copy;
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
      done();
    };
    if (navigator.clipboard) {
      navigator.clipboard.writeText(button.dataset.copy).then(done, byHand);
    } else {
      byHand();
    }
  }

  function openTarget() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.tagName === "DETAILS") {
      target.open = true;
      target.scrollIntoView();
    }
  }
  window.addEventListener("hashchange", openTarget);
  openTarget();
  filter();
})();
