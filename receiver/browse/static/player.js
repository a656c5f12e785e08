// The page of a call: click a word or a turn to hear it; the spoken word is highlighted and scrolled to.
// Without this file the page is complete, and the browser's own player works.
"use strict";

(() => {
  const players = [...document.querySelectorAll(".listen audio")];
  const drawing = document.querySelector(".bar svg");
  const playhead = drawing && drawing.querySelector(".playhead");
  const seconds = drawing ? Number(drawing.dataset.seconds) : 0;
  const conversation = document.querySelector(".conversation");
  const follow = document.querySelector(".follow input");
  // Words are in the order of recognition: sort them by time for the binary search.
  const words = [...document.querySelectorAll(".said [data-start]")]
    .map((element) => ({
      element,
      start: Number(element.dataset.start),
      end: Number(element.dataset.end || element.dataset.start),
    }))
    .sort((a, b) => a.start - b.start);
  let player = players[0];
  let spoken = null;

  placeMarks();
  if (drawing) drawing.addEventListener("click", clickedDrawing);
  if (!player) return;

  if (follow) follow.closest(".follow").hidden = false;
  document.body.classList.add("hearable");
  for (const each of players) {
    each.addEventListener("play", () => started(each));
    each.addEventListener("timeupdate", () => each === player && show(each.currentTime));
    each.addEventListener("seeked", () => each === player && show(each.currentTime));
  }
  document.querySelector("main").addEventListener("click", (event) => {
    const timed = event.target.closest("[data-start]");
    if (!timed || timed.closest(".bar")) return;
    if (timed.tagName === "A") event.preventDefault();
    if (timed.tagName === "SPAN" && timed.closest("summary")) event.preventDefault();
    // Do not play while text is being selected.
    if (String(document.getSelection()).length > 1) return;
    seek(Number(timed.dataset.start));
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== " " || event.target !== document.body) return;
    event.preventDefault();
    player.paused ? player.play() : player.pause();
  });

  function placeMarks() {
    // A path has no x in percent: place the marks of interruptions now and on each resize.
    if (!drawing) return;
    const place = () => {
      for (const mark of drawing.querySelectorAll("[data-x]")) {
        const x = (Number(mark.dataset.x) / 100) * drawing.clientWidth;
        mark.setAttribute("transform", `translate(${x} 0)`);
      }
    };
    place();
    new ResizeObserver(place).observe(drawing);
  }

  function clickedDrawing(event) {
    const box = drawing.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * seconds;
    if (player) seek(at);
    const word = wordAt(at);
    if (word) reveal(word.element);
  }

  function seek(time) {
    player.currentTime = time;
    show(time);
    player.play().catch(() => {});
  }

  function started(each) {
    for (const other of players) if (other !== each) other.pause();
    player = each;
    const step = () => {
      if (each.paused || each !== player) return;
      show(each.currentTime);
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  function wordAt(time) {
    let low = 0;
    let high = words.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (words[middle].start <= time) low = middle + 1;
      else high = middle;
    }
    return words[low - 1];
  }

  function show(time) {
    if (playhead) {
      const x = `${Math.min(100, (100 * time) / seconds)}%`;
      playhead.setAttribute("x1", x);
      playhead.setAttribute("x2", x);
      playhead.setAttribute("visibility", "visible");
    }
    const word = wordAt(time);
    // During a silence, no word is highlighted.
    const now = word && time <= word.end + 0.3 ? word.element : null;
    if (now === spoken) return;
    if (spoken) spoken.classList.remove("spoken");
    if (now) {
      now.classList.add("spoken");
      if (follow && follow.checked && !player.paused) reveal(now);
    }
    spoken = now;
  }

  function reveal(element) {
    const box = element.getBoundingClientRect();
    const listen = document.querySelector(".listen").getBoundingClientRect();
    if (box.top > Math.max(60, listen.bottom) && box.bottom < innerHeight - 60) return;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    element.scrollIntoView({ block: "center", behavior: still ? "auto" : "smooth" });
  }
})();
