"use strict";
// What the page does: shows a frame, disturbs it, runs the dynamics, lets the worker read and write. Whatever comes
// from a link, a picture or the model is shown as text, never as HTML.

(() => {

const SIDE = 64, FADE = 12, TICK_MS = 55, REST_MS = 1600, READ_AFTER_MS = 500;
const $ = id => document.getElementById(id);
const canvas = $("picture"), pen = canvas.getContext("2d"), image = pen.createImageData(SIDE, SIDE);
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// The frame as it is kept, its noise, and the run of the dynamics from both. A negative tick: noise that fades in, from
// -FADE on, where there is none yet.
let clean = null, base = null, field = null, run = null, tick = 0, playing = false, loops = true, timer = 0;
let story = null;                                               // the text beside the picture and whether it was read
let job = 0, busy = "", worker = null, readTimer = 0, loaded = false, fromPicture = null;

// ---- the picture ----------------------------------------------------------------------------------------------------

const amplitude = () => Number($("noise").value);
const noisy = share => base.map((value, i) => Math.min(Math.max(value + share * amplitude() * field[i], -1), 1));
const shown = () => tick < 0 ? noisy(1 + tick / FADE) : run.history[tick];

function draw() {
  Pictures.draw(shown(), image);
  pen.putImageData(image, 0, 0);
  $("tick").value = Math.max(0, tick);
  $("tick-value").textContent = Math.max(0, tick);
  $("noise-value").textContent = amplitude();
}

/** Run the dynamics anew from what is kept and its noise. */
function rerun(fresh) {
  if (fresh) field = Float32Array.from({length: SIDE * SIDE}, () => 2 * Math.random() - 1);
  run = Wheeler.run(noisy(1), SIDE, SIDE, 200);
  $("tick").max = run.ticks;
  tick = Math.min(tick, run.ticks);
}

function step() {
  timer = 0;
  if (!playing) return;
  let wait = TICK_MS;
  if (tick < run.ticks) tick++;
  if (tick === 0) wait = 6 * TICK_MS;
  if (tick >= run.ticks) {
    if (!loops) return stop();
    wait = REST_MS;
    timer = setTimeout(() => {
      rerun(true);
      tick = -FADE;
      step();
    }, wait);
    draw();
    return;
  }
  draw();
  performance.getEntriesByName("motion").length || performance.mark("motion");
  timer = setTimeout(step, wait);
}

/** Play from the present tick on; looping: disturb and heal over and over. */
function play(looping) {
  playing = true;
  loops = looping;
  if (tick >= run.ticks) {
    rerun(looping);
    tick = looping ? -FADE : 0;
  }
  $("play").textContent = "Pause";
  $("play").setAttribute("aria-pressed", "true");
  clearTimeout(timer);
  step();
}

function stop() {
  playing = false;
  clearTimeout(timer);
  $("play").textContent = "Play";
  $("play").setAttribute("aria-pressed", "false");
  if (tick > -FADE) tick = Math.max(0, tick);
  draw();
}

/** Show a frame at rest. text: the story in it, if it is known. */
function show(frame, text, from = null) {
  clean = base = Float32Array.from(frame);
  fromPicture = from;
  if (!amplitude()) $("noise").value = 0.9;
  forget();
  rerun(true);
  tick = -FADE;
  story = text === undefined ? null : text;
  tell(story ?? "", story === null ? "" : "This is the story that was written into the picture.", "");
  stop();
}

// ---- painting -------------------------------------------------------------------------------------------------------

const cursor = {x: 32, y: 48};
let last = null;

const brush = () => Number(document.querySelector("input[name=brush]:checked").value);

function dab(x, y) {
  const size = Number($("size").value), from = -Math.floor((size - 1) / 2);
  for (let i = Math.max(0, y + from); i < Math.min(SIDE, y + from + size); i++)
    for (let j = Math.max(0, x + from); j < Math.min(SIDE, x + from + size); j++) base[i * SIDE + j] = brush();
}

/** Paint what is shown from cell to cell; it is kept from then on, and the noise is in it. */
function paint(to, from = to) {
  if (base !== run.history[0] || tick || amplitude()) {
    base = Float32Array.from(shown());
    $("noise").value = 0;
    stop();
  }
  const steps = Math.max(1, Math.abs(to.x - from.x), Math.abs(to.y - from.y));
  for (let s = 0; s <= steps; s++)
    dab(Math.round(from.x + (to.x - from.x) * s / steps), Math.round(from.y + (to.y - from.y) * s / steps));
  run = {history: [base], ticks: 0};
  tick = 0;
  draw();
  changed();
}

function healed() {
  rerun(false);
  tick = 0;
  if (calm.matches) tick = run.ticks;
  draw();
  if (!calm.matches) play(false);
  readSoon();
}

function cellAt(event) {
  const box = canvas.getBoundingClientRect();
  return {x: Math.floor((event.clientX - box.left) / box.width * SIDE),
          y: Math.floor((event.clientY - box.top) / box.height * SIDE)};
}

canvas.addEventListener("pointerdown", event => {
  if (event.button) return;
  event.preventDefault();
  canvas.focus({preventScroll: true, focusVisible: false});
  canvas.setPointerCapture(event.pointerId);
  last = cellAt(event);
  paint(last);
});
canvas.addEventListener("pointermove", event => {
  if (!last) return;
  const now = cellAt(event);
  paint(now, last);
  last = now;
});
for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => {
  if (last) healed();
  last = null;
});

function showCursor(visible) {
  const mark = $("cursor"), size = Number($("size").value), from = -Math.floor((size - 1) / 2);
  mark.hidden = !visible;
  mark.style.left = `${(cursor.x + from) / SIDE * 100}%`;
  mark.style.top = `${(cursor.y + from) / SIDE * 100}%`;
  mark.style.width = mark.style.height = `${size / SIDE * 100}%`;
}

let keyed = false;
const STEPS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
canvas.addEventListener("keydown", event => {
  const move = STEPS[event.key];
  if (!move && event.key !== " " && event.key !== "Enter") return;
  event.preventDefault();
  if (move) {
    const by = event.shiftKey ? 8 : 1;
    cursor.x = Math.min(Math.max(cursor.x + by * move[0], 0), SIDE - 1);
    cursor.y = Math.min(Math.max(cursor.y + by * move[1], 0), SIDE - 1);
  } else {
    paint({...cursor});
    keyed = true;
  }
  showCursor(true);
});
canvas.addEventListener("keyup", event => {
  if (!keyed || event.key !== " " && event.key !== "Enter") return;
  keyed = false;
  healed();
});
canvas.addEventListener("blur", () => showCursor(false));
canvas.addEventListener("focus", () => showCursor(canvas.matches(":focus-visible")));

// ---- the text -------------------------------------------------------------------------------------------------------

function tell(text, verdict, kind) {
  $("text").textContent = text;
  $("text").classList.remove("old");
  $("verdict").textContent = verdict;
  $("verdict").className = kind;
}

const say = sentence => { $("status").textContent = sentence; };

/** What stands beside the picture is older than the picture. */
function changed() {
  forget();
  $("text").classList.add("old");
  $("verdict").textContent = "The picture has changed since this was read.";
  $("verdict").className = "";
  say("");
}

/** End what the worker does: its answer is not wanted any more. */
function forget() {
  job++;
  busy = "";
  clearTimeout(readTimer);
  $("progress").hidden = true;
  $("read").disabled = $("write").disabled = false;
}

/** Read once the hand rests, where the network is here already. */
function readSoon() {
  clearTimeout(readTimer);
  if (loaded) readTimer = setTimeout(read, READ_AFTER_MS);
}

function ask(message, doing) {
  forget();
  busy = doing;
  if (!worker) {
    try {
      worker = new Worker("worker.js");
    } catch {
      busy = "";
      return say("Browsers read pictures only on a page that comes from a server, not from a file.");
    }
    worker.onmessage = ({data}) => heard(data);
    worker.onerror = event => {
      event.preventDefault();
      worker.terminate();
      worker = null;
      loaded = false;
      forget();
      say("Something went wrong while reading. Try again.");
    };
  }
  $("progress").hidden = false;
  $("progress").removeAttribute("value");
  worker.postMessage({job, ...message});
  say(doing);
}

function read() {
  if (loops && playing) stop();
  const frame = Float32Array.from(playing ? run.history[run.ticks] : shown());
  ask({kind: "read", frame}, "Reading …");
  $("read").disabled = true;
}

function write() {
  const text = $("own").value.trim();
  if (!text) return say("There is no text yet.");
  ask({kind: "write", text: text.toWellFormed?.() ?? text}, "Writing …");
  $("write").disabled = true;
}

const NAMES = {reader: "the network", gist: "what a gist needs", writer: "what writing needs"};

function heard(data) {
  if (data.kind === "loading") {
    const mega = bytes => (bytes / 1e6).toFixed(1);
    if (!busy) return;
    say(`Loading ${NAMES[data.name]}: ${mega(data.loaded)}${data.total ? ` of ${mega(data.total)}` : ""} MB`);
    if (data.total) $("progress").value = data.loaded / data.total;
    return;
  }
  if (data.job !== job) return;
  loaded = loaded || data.kind !== "failed";
  if (data.kind === "heard") {
    if (data.text !== undefined) {
      performance.getEntriesByName("word").length || performance.mark("word");
      tell(data.text, data.gist ? "The words are lost. The gist:" : "", data.gist ? "bad" : "");
    }
    $("progress").value = Math.min(1, data.share);
    if ($("status").textContent !== busy) say(busy);
    return;
  }
  forget();
  if (data.kind === "failed") return say(data.why);
  if (data.kind === "read") return wasRead(data);
  const holds = data.fits ? `Its words take ${Math.round(data.cost)} bits` :
    `Its words would take ${Math.round(data.cost)} bits, more than a picture holds: only its meaning is in this one`;
  show(data.frame, data.text);
  $("examples").value = "";
  tell(data.text, data.fits ? "Written. Disturb it, or read it back." : "Too long: the picture has the gist alone.",
       data.fits ? "good" : "bad");
  say(`${holds}; ${data.tiles.length} tiles tell its meaning.${data.tokens > 255 ? " The text was cut." : ""}`);
  if (!calm.matches) play(true);
}

function wasRead({text, exact, foreign, tiles, bits, part}) {
  const strange = fromPicture && fromPicture.weights && fromPicture.weights !== EXAMPLES.weights;
  const none = fromPicture && !exact && !fromPicture.weights && !Pictures.hasFence(clean, SIDE);
  story = text;
  if (foreign || strange && !exact)
    tell("", "Another network wrote this picture. Only the one that wrote a picture can read it.", "bad");
  else if (none || !text) tell("", "Nothing can be read from this picture.", "bad");
  else if (exact) tell(text, "✓ Word for word: the checksum agrees.", "good");
  else tell(text, "✗ The words are lost: the checksum does not agree. This is the gist.", "bad");
  const place = part ? `Frame ${part[1] + 1} of ${part[2]} of a longer text; ` : "";
  if (text && !none) say(exact ? `${place}${Math.round(bits)} bits of words; ${tiles} tiles tell the meaning.` :
    `${Number(tiles.toFixed(1))} tiles tell the meaning.`);
  else say("");
}

// ---- links and files ------------------------------------------------------------------------------------------------

/** Show what the address names; false where it names nothing. */
function fromAddress() {
  if (!location.hash.startsWith("#f=")) return false;
  const frame = Wheeler.fromLink(location.hash.slice(3), SIDE, SIDE);
  if (!frame) {
    showExample(0);
    say("That link holds no picture: it is cut or damaged. Here is another story.");
    return true;
  }
  show(frame);
  $("examples").value = "";
  read();
  return true;
}

async function openFile(file) {
  try {
    const {frame, weights} = await Pictures.read(file, SIDE);
    show(frame, undefined, {weights});
    $("examples").value = "";
    read();
  } catch (error) {
    say(error.message);
  }
}

function showExample(n) {
  const {frame, text} = EXAMPLES.stories[n];
  show(Wheeler.fromLink(frame, SIDE, SIDE), text);
  $("examples").value = n;
  say("");
}

async function copyLink() {
  const frame = shown(), {hash} = new URL(`#f=${Wheeler.toLink(frame, SIDE, SIDE)}`, location.href);
  history.replaceState(null, "", hash);
  try {
    await navigator.clipboard.writeText(location.href);
    say(`A link of ${location.href.length} characters is copied. The picture is in it.`);
  } catch {
    say("The link stands in the address bar now. The picture is in it.");
  }
}

async function save() {
  const file = await Pictures.png(shown(), SIDE, EXAMPLES.weights), link = document.createElement("a");
  const url = URL.createObjectURL(file);
  link.href = url;
  link.download = "story.png";
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
  say("Saved as story.png.");
}

// ---- controls -------------------------------------------------------------------------------------------------------

// Shown where another picture was opened or written, and not to be chosen.
$("examples").add(Object.assign(new Option("Ten stories", ""), {hidden: true}));
EXAMPLES.stories.forEach(({title}, n) => $("examples").add(new Option(title, n)));
$("examples").addEventListener("change", () => {
  showExample(Number($("examples").value));
  if (!calm.matches) play(true);
});
$("play").addEventListener("click", () => playing ? stop() : play(amplitude() > 0));
$("restore").addEventListener("click", () => {
  base = clean;
  rerun(false);
  tick = -FADE;
  stop();
  if (story !== null) changed();
  readSoon();
});
$("noise").addEventListener("input", () => {
  stop();
  rerun(false);
  tick = 0;
  draw();
});
$("tick").addEventListener("input", () => {
  const wanted = Number($("tick").value);
  stop();
  tick = wanted;
  draw();
});
$("size").addEventListener("input", () => { $("size-value").textContent = $("size").value; });
$("read").addEventListener("click", read);
$("write").addEventListener("click", write);
$("link").addEventListener("click", copyLink);
$("save").addEventListener("click", save);
$("open").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  if ($("file").files.length) openFile($("file").files[0]);
  $("file").value = "";
});
for (const name of ["dragover", "dragleave", "drop"]) addEventListener(name, event => {
  event.preventDefault();
  $("board").classList.toggle("dropping", name === "dragover");
  if (name === "drop" && event.dataTransfer.files.length) openFile(event.dataTransfer.files[0]);
});
addEventListener("hashchange", fromAddress);

if (!fromAddress()) {
  showExample(0);
  if (!calm.matches) play(true);
}
})();
