"use strict";
// Frames as colours and as PNG files. Reading them takes a page, for its canvas; Node can write them.

const Pictures = (() => {

const W = typeof require === "function" ? require("./wheeler.js") : Wheeler;
const STOPS = [[24, 22, 68], [44, 91, 137], [96, 155, 146], [240, 185, 102], [255, 246, 220]];    // -1 .. +1
const LEVELS = 255, LARGEST = 32, MOST_BYTES = 1 << 23;
const QUIET = 2, MARK = 5, MARGIN = QUIET + MARK + 2;           // cells around a frame, with its marks
// Of 5 x 5 cells, a row after the other: upper left, upper right, and both below.
const MARKS = ["#####".repeat(5), "###### # ####### # ######", "######   ##   ##   ######", "######   ##   ##   ######"];
const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

/** Colours of LEVELS values from -1 to +1, three bytes each: those of the project's pictures. */
const palette = (() => {
  const out = new Uint8Array(3 * LEVELS);
  for (let n = 0; n < LEVELS; n++) {
    const at = 4 * n / (LEVELS - 1), low = Math.min(3, Math.floor(at));
    for (let c = 0; c < 3; c++) {
      const value = STOPS[low][c] + (STOPS[low + 1][c] - STOPS[low][c]) * (at - low), floor = Math.floor(value);
      out[3 * n + c] = value - floor === 0.5 ? floor + floor % 2 : Math.round(value);
    }
  }
  return out;
})();

/** 0 .. 254 of a value from -1 to 1: in float32 and to the even of two that are as near, as Python does. */
function levelOf(value) {
  const exact = Math.fround(Math.fround(Math.min(Math.max(value, -1), 1) + 1) * ((LEVELS - 1) / 2));
  const level = Math.round(exact);
  return level - exact === 0.5 ? level - level % 2 : level;
}

/** Draw a frame into the pixels of an ImageData of the same size. */
function draw(frame, image) {
  for (let i = 0; i < frame.length; i++) {
    const at = 3 * levelOf(frame[i]);
    image.data[4 * i] = palette[at];
    image.data[4 * i + 1] = palette[at + 1];
    image.data[4 * i + 2] = palette[at + 2];
    image.data[4 * i + 3] = 255;
  }
}

/** {width, height, weights}: what a PNG file says of itself; null where it is none. weights: the project's note. */
function about(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 33 || SIGNATURE.some((byte, i) => bytes[i] !== byte)) return null;
  if (view.getUint32(12) !== 0x49484452) return null;           // IHDR
  const found = {width: view.getUint32(16), height: view.getUint32(20), weights: ""};
  for (let at = 8; at + 12 <= bytes.length;) {
    const length = view.getUint32(at), name = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (name === "tEXt" && at + 12 + length <= bytes.length && length < 1000) {
      const [key, note] = String.fromCharCode(...bytes.subarray(at + 8, at + 8 + length)).split("\0");
      if (key === "wheeler" && note) found.weights = note.trim().split(/\s+/).pop();
    }
    at += 12 + length;
  }
  return found;
}

/** The frame that a PNG file shows, {frame, weights}; an Error with a sentence where it shows none. Colours of frames
 * or greys, with the marks around the frame or without, enlarged by a whole factor up to 32. */
async function read(file, side) {
  if (file.size > MOST_BYTES)
    throw new Error(`That file has more than ${MOST_BYTES >> 20} MB: it is no picture of a story.`);
  const bytes = new Uint8Array(await file.arrayBuffer()), head = about(bytes);
  if (!head) throw new Error("That file is no PNG picture.");
  const {width, height, weights} = head, whole = side + 2 * MARGIN;
  const fits = cells => width === height && width > 0 && width % cells === 0 && width <= LARGEST * cells;
  // Before it takes memory:
  if (!fits(side) && !fits(whole))
    throw new Error(`That picture has ${width} × ${height} pixels; a story has ${side} × ${side}, or ${whole} × ` +
                    `${whole} with its marks, or a whole multiple.`);
  const factor = width / (fits(side) ? side : whole), start = fits(side) ? 0 : MARGIN * factor, size = side * factor;
  let image;
  try {
    image = await createImageBitmap(new Blob([bytes], {type: "image/png"}),
                                    {premultiplyAlpha: "none", colorSpaceConversion: "none"});
  } catch {
    throw new Error("That picture is damaged and cannot be opened.");
  }
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = size;
  const pen = canvas.getContext("2d", {willReadFrequently: true});
  pen.drawImage(image, -start, -start);
  image.close();
  return {frame: cellsOf(pen.getImageData(0, 0, size, size).data, side, factor), weights};
}

/** Pixels (RGBA) -> the cells of a frame. An Error where the colours are those of no frame. */
function cellsOf(data, side, factor) {
  const low = Math.floor(factor / 4), high = factor - low, count = (high - low) ** 2;      // edges may be blurred
  const colours = new Float64Array(3 * side * side), grey = new Float32Array(side * side);
  let colourful = 0, far = 0;
  for (let i = 0; i < side * side; i++) {
    const top = Math.floor(i / side) * factor, left = i % side * factor, own = colours.subarray(3 * i, 3 * i + 3);
    for (let y = low; y < high; y++) for (let x = low; x < high; x++)
      for (let c = 0; c < 3; c++) own[c] += data[4 * ((top + y) * side * factor + left + x) + c] / count;
    const value = (0.299 * own[0] + 0.587 * own[1] + 0.114 * own[2] - 136.8) / 108.9;
    grey[i] = Math.abs(value) < 0.01 ? 0 : Math.min(Math.max(value, -1), 1);
    colourful += (Math.max(...own) - Math.min(...own)) / (side * side);
  }
  if (colourful < 8) return grey;
  const nearest = grey.map((_, i) => {
    let best = Infinity, level = 0;
    for (let n = 0; n < LEVELS; n++) {
      const distance = (colours[3 * i] - palette[3 * n]) ** 2 + (colours[3 * i + 1] - palette[3 * n + 1]) ** 2 +
                       (colours[3 * i + 2] - palette[3 * n + 2]) ** 2;
      if (distance < best) [best, level] = [distance, n];
    }
    far += Math.sqrt(best) / (side * side);
    return 2 * level / (LEVELS - 1) - 1;
  });
  if (far <= 30) return nearest;
  if (hasFence(grey, side)) return grey;                        // spoilt colours
  throw new Error("The colours of that picture are not those of a story.");
}

/** Whether the first row and column are those of every frame; cells of 0 say nothing. */
function hasFence(frame, side) {
  let known = 0, right = 0;
  for (let i = 0; i < side; i++) for (const value of [frame[i], frame[i * side]]) {
    known += Math.abs(value) > 0.25;
    right += value * (W.isFence(i) ? -1 : 1) > 0.25;
  }
  return known > side / 2 && right / known > 0.8;
}

/** The levels of a frame with its marks around it, (side + 18)^2. */
function marked(frame, side) {
  const whole = side + 2 * MARGIN, far = whole - QUIET - MARK, out = new Uint8Array(whole * whole).fill(LEVELS - 1);
  for (let i = 0; i < side; i++) for (let j = 0; j < side; j++)
    out[(i + MARGIN) * whole + j + MARGIN] = levelOf(frame[i * side + j]);
  MARKS.forEach((mark, n) => {
    const top = n < 2 ? QUIET : far, left = n % 2 ? far : QUIET;
    for (let k = 0; k < mark.length; k++) if (mark[k] === "#")
      out[(top + Math.floor(k / MARK)) * whole + left + k % MARK] = 0;
  });
  return out;
}

/** A PNG file (Blob) of a frame with its marks, `scale` pixels a cell, and the weights' name noted: the picture that
 * sample.py writes of it. */
async function png(frame, side, weights, scale = 8) {
  const whole = side + 2 * MARGIN, width = whole * scale, levels = marked(frame, side);
  const rows = new Uint8Array((width + 1) * width);             // a filter byte of 0 before each row
  for (let y = 0; y < width; y++) for (let x = 0; x < width; x++)
    rows[y * (width + 1) + 1 + x] = levels[Math.floor(y / scale) * whole + Math.floor(x / scale)];
  const packed = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const header = new Uint8Array(13), size = new DataView(header.buffer);
  size.setUint32(0, width);
  size.setUint32(4, width);
  header.set([8, 3], 8);                                        // 8 bits, a palette
  const chunk = (name, data) => {
    const out = new Uint8Array(data.length + 12), view = new DataView(out.buffer);
    view.setUint32(0, data.length);
    out.set(Array.from(name, c => c.charCodeAt(0)), 4);
    out.set(data, 8);
    view.setUint32(data.length + 8, W.crc32(out.subarray(4, data.length + 8)));
    return out;
  };
  const note = Uint8Array.from(`wheeler\0${weights}`, c => c.charCodeAt(0));
  return new Blob([Uint8Array.from(SIGNATURE), chunk("IHDR", header), chunk("PLTE", palette), chunk("tEXt", note),
                   chunk("IDAT", new Uint8Array(await new Response(packed).arrayBuffer())),
                   chunk("IEND", new Uint8Array())], {type: "image/png"});
}

return {draw, read, png, hasFence};
})();

if (typeof module !== "undefined") module.exports = Pictures;
