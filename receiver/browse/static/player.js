// The pages of calls and chats: a player whose scrubber is the bar, and links to moments. Click a word
// or a time to hear it; the spoken word is highlighted. Without this file the page is complete, and the
// browser's own player works.

const one = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];
// Elements by their time: words and turns are in the order of recognition.
const timed = (selector) =>
  all(selector)
    .map((element) => ({ element, start: Number(element.dataset.start), end: Number(element.dataset.end ?? 0) }))
    .sort((a, b) => a.start - b.start);
const last = (list, time) => list.findLast(({ start }) => start <= time);
const isOn = (name) => one(`.options [name=${name}]`).checked;
const minutes = (time) => `${Math.floor(time / 60)}:${String(Math.floor(time % 60)).padStart(2, "0")}`;
const address = (hash) => history.replaceState(null, "", location.pathname + location.search + hash);

const main = one("main");
const drawing = one(".bar svg");
const scrub = one(".scrub");
const words = timed(".said [data-start]");
const turns = timed(".turn .head [data-start]");
const speech = drawing ? timed(".bar :is(.agent, .user, .transfer_target)") : turns;
const silences = timed(".bar .silence");
const sounds = all(".listen audio");
let player = sounds[0];
let spoken;

// Links to moments: #t=83, #turn-10, #message-3

function open() {
  const [id, kind, value] = /^(t=|turn-|tool-|note-|message-)([\d.]+)$/.exec(location.hash.slice(1)) ?? [];
  if (!id) return;
  const isTime = kind === "t=";
  const entry = isTime ? last(turns, Number(value))?.element.closest(".turn") : document.getElementById(id);
  const asked = new URLSearchParams(location.search);
  if (one(".pages") && !asked.has("at") && (isTime ? asked.get("t") !== value : !entry)) {
    // The server knows which page of the conversation has it.
    asked.set(isTime ? "t" : "at", value);
    return location.replace(`?${asked}#${id}`);
  }
  mark(entry);
  entry?.scrollIntoView({ block: "center" });
  const start = isTime ? value : entry?.querySelector(".at[data-start]")?.dataset.start;
  if (start) seek(Number(start));
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
    address(link.hash);
    link.classList.add("copied");
    setTimeout(() => link.classList.remove("copied"), 2000);
  } else if (moment && !drawing?.contains(moment) && getSelection().isCollapsed) {
    const start = Number(moment.dataset.start);
    address(moment.matches(".at") && entry ? `#${entry.id}` : `#t=${start}`);
    seek(start, true);
  } else return;
  event.preventDefault();
  mark(entry);
}

// The player

const acts = {
  play: () => (player.paused ? player.play().catch(() => {}) : player.pause()),
  back: () => seek(player.currentTime - 5),
  forward: () => seek(player.currentTime + 5),
  next: () => seek(speech.find(({ start }) => start > player.currentTime + 0.1)?.start ?? player.currentTime),
};

function pressed(event) {
  const busy = "input, select, textarea, audio" + (event.key === " " ? ", button, a, summary" : "");
  const shortcut = event.key === " " ? "Space" : event.key;
  const button = all(".player button").find((each) => each.getAttribute("aria-keyshortcuts") === shortcut);
  if (!player || !button || event.target.closest(busy) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  button.click();
}

function seek(time, isPlayed = false) {
  if (!scrub) return;
  const at = Math.max(0, Math.min(time, scrub.max));
  show(at);
  if (!player) return;
  player.currentTime = at;
  if (isPlayed) player.play().catch(() => {});
}

function show(time) {
  for (const end of ["x1", "x2"]) one(".playhead")?.setAttribute(end, `${(100 * time) / scrub.max}%`);
  const clock = one(".player .clock");
  const text = `${minutes(time)} / ${minutes(scrub.max)}`;
  if (clock && clock.textContent !== text) {
    clock.textContent = text;
    scrub.value = time;
    scrub.setAttribute("aria-valuetext", text.replace("/", "of"));
  }
  // During a silence, no word is highlighted.
  const word = last(words, time);
  const now = word && time <= Math.max(word.start, word.end) + 0.3 ? word.element : undefined;
  if (now === spoken) return;
  spoken?.classList.remove("spoken");
  now?.classList.add("spoken");
  if (player && !player.paused && isOn("follow")) now?.scrollIntoView({ block: "nearest" });
  spoken = now;
}

function heard({ type, target }) {
  if (type === "play") {
    for (const other of sounds) if (other !== target) other.pause();
    if (player) player = target;
    requestAnimationFrame(step);
  }
  if (target !== player) return;
  if (!drawing && isFinite(target.duration)) scrub.max = target.duration;
  one("[data-do=play]").textContent = target.paused ? "Play" : "Pause";
  show(target.currentTime);
}

// Each frame while it plays: events of time are too rare for words.
function step() {
  if (!player || player.paused) return;
  const silence = isOn("skip") && last(silences, player.currentTime - 0.5);
  if (silence && player.currentTime < silence.end - 0.5) player.currentTime = silence.end - 0.3;
  show(player.currentTime);
  requestAnimationFrame(step);
}

function drag(event) {
  const box = drawing.getBoundingClientRect();
  const time = (scrub.max * (event.clientX - box.left)) / box.width;
  if (event.type === "pointerdown") drawing.setPointerCapture(event.pointerId);
  if (!drawing.hasPointerCapture(event.pointerId)) return;
  seek(time, event.type === "pointerup");
  if (event.type !== "pointerup") return;
  address(`#t=${Math.max(0, Math.min(time, scrub.max)).toFixed(1)}`);
  last(words, time)?.element.scrollIntoView({ block: "nearest" });
}

function fail() {
  player = undefined;
  document.body.classList.replace("hearable", "unplayable");
}

document.body.classList.add("moments");
if (player) {
  document.body.classList.add("hearable");
  show(0);
  if (player.error) fail();
}
// A second recording has the browser's own player, which says what failed.
main.addEventListener("error", ({ target }) => target === sounds[0] && fail(), true);
for (const name of ["play", "pause", "timeupdate", "seeked", "durationchange"]) main.addEventListener(name, heard, true);
for (const name of ["pointerdown", "pointermove", "pointerup"]) drawing?.addEventListener(name, drag);
one(".player")?.addEventListener("click", ({ target }) => acts[target.dataset.do]?.());
scrub?.addEventListener("input", () => seek(scrub.valueAsNumber));
one("[name=speed]")?.addEventListener("change", ({ target }) => {
  for (const sound of sounds) sound.playbackRate = Number(target.value);
});
document.addEventListener("keydown", pressed);
main.addEventListener("click", clicked);
addEventListener("hashchange", open);
open();
