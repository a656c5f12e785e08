// The player of a call, whose scrubber is the bar. The spoken word is highlighted. Without this file the
// page is complete, and the browser's own player works. moments.js tells it what to seek.

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

const main = one("main");
const drawing = one(".bar svg");
const scrub = one(".scrub");
const words = timed(".said [data-start]");
const speech = timed(drawing ? ".bar :is(.agent, .user, .transfer_target)" : ".turn .head [data-start]");
const silences = timed(".bar .silence");
const sounds = all(".listen audio");
let player = sounds[0];
let spoken;

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
  history.replaceState(null, "", `#t=${Math.max(0, Math.min(time, scrub.max)).toFixed(1)}`);
  last(words, time)?.element.scrollIntoView({ block: "nearest" });
}

function fail() {
  player = undefined;
  document.body.classList.replace("hearable", "unplayable");
}

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
document.addEventListener("moment", ({ detail }) => seek(detail.start, detail.isPlayed));
