// Keys for reviewing: j and k lead through a queue, 1, 2 and 3 say good, bad and unsure. Without this
// file, links and buttons do the same.
"use strict";

(() => {
  const verdicts = { 1: "good", 2: "bad", 3: "unsure" };
  const rows = [...document.querySelectorAll(".to-review li")];
  const links = { j: ".queue a[rel=next]", k: ".queue a[rel=prev]" };

  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input:not([type=radio]), textarea, select");
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    if (links[event.key]) move(event.key);
    else if (verdicts[event.key]) judge(verdicts[event.key]);
  });

  function current() {
    return rows.findIndex((row) => row.contains(document.activeElement));
  }

  function move(key) {
    if (!rows.length) return document.querySelector(links[key])?.click();
    focus(rows[Math.max(0, Math.min(rows.length - 1, current() + (key === "j" ? 1 : -1)))]);
  }

  function focus(row) {
    row.querySelector("a").focus();
    row.scrollIntoView({ block: "nearest" });
  }

  function judge(verdict) {
    const row = rows[current()];
    if (row) return row.querySelector(`button[value=${verdict}]`)?.click();
    const choice = document.querySelector(`.reviewing input[value=${verdict}]`);
    if (!choice) return;
    choice.checked = true;
    choice.form.requestSubmit();
  }
})();
