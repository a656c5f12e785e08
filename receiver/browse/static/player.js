// The pages of calls and chats: a player whose scrubber is the bar, and links to moments. Click a word
// or a time to hear it; the spoken word is highlighted. Without this file the page is complete, and the
// browser's own player works.
"use strict";

(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector) => document.querySelector(selector);
  const drawing = one(".bar svg");
  const controls = one(".player");
  const clock = one(".player .clock");
  const option = (name) => one(`.options [name=${name}]`);
  const spans = (selector) =>
    all(selector)
      .map((element) => ({
        element,
        start: Number(element.dataset.start),
        end: Number(element.dataset.end || element.dataset.start),
      }))
      // Words and utterances are in the order of recognition.
      .sort((a, b) => a.start - b.start);
  const words = spans(".said [data-start]");
  const turns = spans(".turn .head [data-start]");
  const speech = drawing ? spans(".bar .agent, .bar .user, .bar .transfer_target") : turns;
  const silences = spans(".bar .silence");
  const sounds = all(".listen audio");
  let player = null;
  let seconds = drawing ? Number(drawing.dataset.seconds) : 0;
  let spoken = null;

  document.body.classList.add("moments");
  placeMarks();
  for (const sound of sounds) listenTo(sound);
  if (sounds[0] && !sounds[0].error) useControls(sounds[0]);
  one("main").addEventListener("click", clicked);
  if (drawing) drawing.addEventListener("pointerdown", drag);
  addEventListener("hashchange", open);
  open();

  // Links to moments: #t=83, #turn-10, #message-3.

  function open() {
    const [, kind, value] = /^#(t=|turn-|tool-|note-|message-)([\d.]+)$/.exec(location.hash) || [];
    if (!kind) return;
    const id = location.hash.slice(1);
    const turn = kind === "t=" ? last(turns, Number(value)) : null;
    const asked = new URLSearchParams(location.search);
    if (kind === "t=" && one(".pages") && !asked.has("at") && asked.get("t") !== value) {
      // The server knows which page has this second.
      asked.set("t", value);
      location.replace(`?${asked}#${id}`);
      return;
    }
    const entry = turn ? turn.element.closest(".turn") : document.getElementById(id);
    if (!entry && /turn|tool|note/.test(kind) && one(".pages") && !/[?&]at=/.test(location.search)) {
      location.replace(`${location.search ? `${location.search}&` : "?"}at=${value}#${id}`);
      return;
    }
    if (entry) {
      mark(entry);
      if (entry.tagName === "DETAILS") entry.open = true;
      const timed = entry.querySelector(".at[data-start]");
      if (kind !== "t=" && timed) seek(Number(timed.dataset.start));
      reveal(entry, true);
    }
    if (kind === "t=") seek(Number(value));
  }

  function mark(entry) {
    for (const marked of all(".here")) marked.classList.remove("here");
    entry.classList.add("here");
  }

  function address(hash) {
    history.replaceState(null, "", `${location.pathname}${location.search}${hash}`);
  }

  function clicked(event) {
    const link = event.target.closest("a.copy");
    if (link) return copy(event, link);
    const timed = event.target.closest("[data-start]");
    // A click that selects text plays nothing.
    if (!timed || timed.closest(".bar") || String(document.getSelection()).length > 1) return;
    event.preventDefault();
    const time = Number(timed.dataset.start);
    const entry = timed.closest(".turn, .tool, .note");
    address(timed.matches(".at") && entry ? `#${entry.id}` : `#t=${time}`);
    if (entry) mark(entry);
    seek(time, true);
  }

  function copy(event, link) {
    // Without https there is no clipboard: the link is followed, and its address can be copied.
    if (!navigator.clipboard) return;
    event.preventDefault();
    const turn = link.closest(".turn");
    if (turn) {
      address(link.getAttribute("href").replace(/^\?[^#]*/, ""));
      mark(turn);
    }
    navigator.clipboard.writeText(link.href).then(() => {
      link.textContent = "copied";
      link.classList.add("copied");
      setTimeout(() => {
        link.textContent = "copy link";
        link.classList.remove("copied");
      }, 2000);
    });
  }

  // The player

  function listenTo(sound) {
    sound.addEventListener("play", () => started(sound));
    for (const event of ["timeupdate", "seeked", "pause"])
      sound.addEventListener(event, () => sound === player && show(sound.currentTime));
    sound.addEventListener("error", () => failed(sound));
    if (sound.error) failed(sound);
  }

  function failed(sound) {
    // The browser says so of a second one.
    if (sound !== sounds[0]) return;
    sound.hidden = true;
    one(".listen .dead").hidden = false;
    player = null;
    document.body.classList.remove("hearable");
    for (const part of all(".player, .options, .scrub")) part.hidden = true;
  }

  function useControls(sound) {
    player = sound;
    sound.controls = false;
    sound.hidden = true;
    document.body.classList.add("hearable");
    for (const part of all(".player, .options, .scrub")) part.hidden = false;
    const act = {
      play: () => (player.paused ? player.play().catch(() => {}) : player.pause()),
      back: () => seek(player.currentTime - 5),
      forward: () => seek(player.currentTime + 5),
      next: () => {
        const turn = speech.find((each) => each.start > player.currentTime + 0.1);
        if (turn) seek(turn.start);
      },
    };
    const keys = { " ": "play", ArrowLeft: "back", ArrowRight: "forward", n: "next" };
    controls.addEventListener("click", (event) => act[event.target.dataset.do]?.());
    for (const scrub of all(".scrub"))
      scrub.addEventListener("input", () => seek(Number(scrub.value)));
    option("speed").addEventListener("change", () => {
      for (const each of sounds) each.playbackRate = Number(option("speed").value);
    });
    sound.addEventListener("durationchange", () => {
      if (!drawing && isFinite(sound.duration)) seconds = sound.duration;
      show(sound.currentTime);
    });
    document.addEventListener("keydown", (event) => {
      const name = keys[event.key];
      const busy = "input, select, textarea, audio" + (event.key === " " ? ", button, a, summary" : "");
      if (!player || !name || event.target.closest(busy)) return;
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      act[name]();
    });
    show(0);
  }

  function seek(time, play = false) {
    const at = Math.max(0, Math.min(time, seconds || time));
    show(at);
    if (!player) return;
    player.currentTime = at;
    if (play) player.play().catch(() => {});
  }

  function started(sound) {
    for (const other of sounds) if (other !== sound) other.pause();
    if (player) player = sound;
    const step = () => {
      if (sound.paused || sound !== player) return;
      skipSilence();
      show(sound.currentTime);
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  function skipSilence() {
    const silence = option("skip").checked && last(silences, player.currentTime - 0.5);
    if (silence && player.currentTime < silence.end - 0.5) player.currentTime = silence.end - 0.3;
  }

  function drag(event) {
    const box = drawing.getBoundingClientRect();
    const at = (e) => Math.max(0, Math.min(1, (e.clientX - box.left) / box.width)) * seconds;
    const move = (e) => seek(at(e));
    const up = (e) => {
      drawing.removeEventListener("pointermove", move);
      address(`#t=${at(e).toFixed(1)}`);
      seek(at(e), true);
      const word = last(words, at(e));
      if (word) reveal(word.element);
    };
    drawing.setPointerCapture(event.pointerId);
    drawing.addEventListener("pointermove", move);
    drawing.addEventListener("pointerup", up, { once: true });
    drawing.addEventListener("pointercancel", () => drawing.removeEventListener("pointermove", move), {
      once: true,
    });
  }

  // What is shown of a time

  function last(list, time) {
    let low = 0;
    let high = list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (list[middle].start <= time) low = middle + 1;
      else high = middle;
    }
    return list[low - 1];
  }

  function show(time) {
    const playhead = drawing && drawing.querySelector(".playhead");
    if (playhead) {
      const x = `${Math.min(100, (100 * time) / seconds)}%`;
      playhead.setAttribute("x1", x);
      playhead.setAttribute("x2", x);
      playhead.setAttribute("visibility", "visible");
    }
    if (player) showControls(time);
    const word = last(words, time);
    // During a silence, no word is highlighted.
    const now = word && time <= word.end + 0.3 ? word.element : null;
    if (now === spoken) return;
    if (spoken) spoken.classList.remove("spoken");
    if (now) {
      now.classList.add("spoken");
      if (player && !player.paused && option("follow").checked) reveal(now);
    }
    spoken = now;
  }

  function showControls(time) {
    const text = `${minutes(time)} / ${minutes(seconds)}`;
    one("[data-do=play]").textContent = player.paused ? "Play" : "Pause";
    if (clock.textContent === text) return;
    clock.textContent = text;
    for (const scrub of all(".scrub")) {
      scrub.max = seconds || 1;
      scrub.value = time;
      scrub.setAttribute("aria-valuetext", text.replace("/", "of"));
    }
  }

  function minutes(time) {
    const whole = Math.floor(time);
    return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
  }

  function placeMarks() {
    // A path has no x in percent: place the marks of interruptions now and on each resize.
    if (!drawing) return;
    const place = () => {
      for (const mark of all("[data-x]", drawing)) {
        const x = (Number(mark.dataset.x) / 100) * drawing.clientWidth;
        mark.setAttribute("transform", `translate(${x} 0)`);
      }
    };
    place();
    new ResizeObserver(place).observe(drawing);
  }

  function reveal(element, always = false) {
    const box = element.getBoundingClientRect();
    const listen = one(".listen")?.getBoundingClientRect().bottom ?? 0;
    const fits = box.top > Math.max(60, listen) && box.bottom < innerHeight - 60;
    if (fits && !always) return;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    element.scrollIntoView({ block: "center", behavior: still || always ? "auto" : "smooth" });
  }
})();
