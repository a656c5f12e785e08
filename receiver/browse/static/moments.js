// The pages of calls and chats: links to moments, #t=83, #turn-10, #tool-3 or #message-3. Opening one marks
// its entry; clicking a word, a time or "copy link" writes it into the address. player.js seeks it.

const one = (selector) => document.querySelector(selector);
// By time: turns are in the order of recognition.
const turns = [...document.querySelectorAll(".turn .head [data-start]")];
turns.sort((a, b) => a.dataset.start - b.dataset.start);

function seek(start, isPlayed) {
  document.dispatchEvent(new CustomEvent("moment", { detail: { start: Number(start), isPlayed } }));
}

function open() {
  const [id, kind, value] = /^(t=|turn-|tool-|note-|message-)([\d.]+)$/.exec(location.hash.slice(1)) ?? [];
  if (!id) return;
  const isTime = kind === "t=";
  const entry = isTime ? turns.findLast((at) => at.dataset.start <= Number(value))?.closest(".turn") : document.getElementById(id);
  const asked = new URLSearchParams(location.search);
  if (one(".pages") && !asked.has("at") && (isTime ? asked.get("t") !== value : !entry)) {
    // The server knows which page of the conversation has it.
    asked.set(isTime ? "t" : "at", value);
    return location.replace(`?${asked}#${id}`);
  }
  mark(entry);
  entry?.scrollIntoView({ block: "center" });
  const start = isTime ? value : entry?.querySelector(".at[data-start]")?.dataset.start;
  if (start) seek(start, false);
}

function mark(entry) {
  one(".here")?.classList.remove("here");
  entry?.classList.add("here");
  if (entry?.matches("details")) entry.open = true;
}

function clicked(event) {
  const link = event.target.closest("a.copy:not(.review-turn)");
  const moment = event.target.closest("[data-start]");
  const entry = event.target.closest(".turn, .tool, .note");
  if (link && navigator.clipboard) {
    navigator.clipboard.writeText(link.href);
    history.replaceState(null, "", link.hash);
    link.classList.add("copied");
    setTimeout(() => link.classList.remove("copied"), 2000);
  } else if (moment && !moment.closest(".bar svg") && getSelection().isCollapsed) {
    const { start } = moment.dataset;
    history.replaceState(null, "", moment.matches(".at") && entry ? `#${entry.id}` : `#t=${Number(start)}`);
    seek(start, true);
  } else return;
  event.preventDefault();
  mark(entry);
}

document.body.classList.add("moments");
one("main").addEventListener("click", clicked);
addEventListener("hashchange", open);
open();
