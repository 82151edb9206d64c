"use strict";
// The Wheeler dynamics, arithmetic coding, the format of a frame and links to frames. Plain JavaScript without anything
// else: it runs in a page, in a worker and in Node. docs/frame_format.md and docs/page.md say what is computed here.
//
// A frame is a Float32Array of h * w cells in [-1, 1], row by row. Numbers of hundreds of bits are BigInt.

const Wheeler = (() => {

// ---- the dynamics ---------------------------------------------------------------------------------------------------

const PUSH = Math.fround(0.35), CLIMB = Math.fround(0.2), STILL = 1e-4, LANES = 16;
const WINDOW = 20, FIRST_CHECK = 60, CHECK_EVERY = 10, MAX_PERIOD = 10;

/** One tick of the torus `cells` into `out`: the bits of wheeler_cpu.py in float32, rule v0.2. roles (Int8Array), if
 * given, gets what each cell of `cells` is: -1 minimum, 1 maximum, 0 slope. */
function tick(cells, out, h, w, roles) {
  const fround = Math.fround;
  for (let i = 0; i < h; i++) {
    const row = i * w, up = (i ? i - 1 : h - 1) * w, down = (i < h - 1 ? i + 1 : 0) * w;
    for (let j = 0; j < w; j++) {
      const v = cells[row + j], a = cells[up + j], b = cells[down + j];
      const c = cells[row + (j ? j - 1 : w - 1)], d = cells[row + (j < w - 1 ? j + 1 : 0)];
      const high = a > b ? a : b, low = a < b ? a : b, right = c > d ? c : d, left = c < d ? c : d;
      const hi = high > right ? high : right, lo = low < left ? low : left;
      const role = v <= lo ? -1 : v >= hi ? 1 : 0;
      if (roles) roles[row + j] = role;
      else out[row + j] = v + fround(fround((role || hi) - v) * (role ? PUSH : CLIMB));
    }
  }
}

/** Mean change of a tick, added up in the order that wheeler_cpu.py documents. */
function meanChange(old, now, h, w) {
  const columns = new Float32Array(w), lanes = new Float32Array(LANES);
  for (let i = 0; i < h * w; i++) columns[i % w] += Math.abs(Math.fround(now[i] - old[i]));
  for (let j = 0; j < w; j++) lanes[j % LANES] += columns[j];
  return lanes.reduce((sum, lane) => Math.fround(sum + lane), 0) / (h * w);
}

/** The period of the last WINDOW role maps, the oldest first; 0 if they have none. */
function periodOf(maps) {
  const matches = new Int32Array(MAX_PERIOD + 1), n = maps[0].length;
  for (let i = 0; i < n; i++) {
    if (maps.every(map => map[i] === maps[0][i])) continue;
    for (let p = 2; p <= MAX_PERIOD; p++) {
      let same = true;
      for (let t = 0; same && t < WINDOW - p; t++) same = maps[t][i] === maps[t + p][i];
      matches[p] += same;
    }
  }
  return Math.max(0, matches.findIndex((count, p) => p > 1 && count * 100 >= n));
}

/** Run a frame to its attractor: {history, ticks, state, period}, the input first in the history. */
function run(frame, h, w, maxTicks = 1000) {
  const history = [Float32Array.from(frame)], maps = [];
  for (let i = 0; i < maxTicks; i++) {
    const old = history[i], now = new Float32Array(h * w);
    tick(old, now, h, w);
    history.push(now);
    if (meanChange(old, now, h, w) < STILL) return {history, ticks: i + 1, state: "CONVERGED", period: 0};
    if (i <= FIRST_CHECK - WINDOW) continue;
    maps.push(new Int8Array(h * w));
    tick(now, null, h, w, maps[maps.length - 1]);
    if (maps.length > WINDOW) maps.shift();
    const period = i >= FIRST_CHECK && i % CHECK_EVERY === 0 ? periodOf(maps) : 0;
    if (period) return {history, ticks: i + 1, state: "OSCILLATING", period};
  }
  return {history, ticks: maxTicks, state: "CHAOTIC", period: -1};
}

// ---- arithmetic coding ----------------------------------------------------------------------------------------------

const LEAST = 1n << 48n, ONE = 1 << 24;

const bitsOfNumber = (h, w) => h * w / 2 + 256;
const log2 = n => {                                             // of a BigInt above 0
  const drop = Math.max(0, n.toString(16).length * 4 - 64);
  return Math.log2(Number(n >> BigInt(drop))) + drop;
};

/** Narrows the interval of all numbers below 2^bits, low to low + r * 2^k, by one choice after another. With a number
 * it reads, and `left` is that number less the low end; without one it writes. */
class Coder {
  constructor(bits, number = 0n) {
    Object.assign(this, {bits, low: 0n, left: number, r: LEAST, k: BigInt(bits - 48)});
  }
  /** Keep the share from start to end of total; false where the interval cannot be narrowed further. */
  narrow(start, end, total) {
    const unit = this.r / BigInt(total), begin = unit * BigInt(start), moved = begin << this.k;
    this.low += moved;
    this.left -= moved;
    this.r = end === total ? this.r - begin : unit * BigInt(end - start);
    while (this.r < LEAST && this.k >= 16n) {
      this.r <<= 16n;
      this.k -= 16n;
    }
    return this.r >= LEAST;
  }
  /** Where in 0 .. total - 1 the number lies. */
  place(total) {
    const unit = this.r / BigInt(total), place = unit > 0n ? Number((this.left >> this.k) / unit) : 0;
    return Math.min(place, total - 1);
  }
  /** The next choice of `total` equal ones. */
  choice(total) {
    const choice = this.place(total);
    this.narrow(choice, choice + 1, total);
    return choice;
  }
  get size() { return this.r < LEAST ? 0n : this.r << this.k; }
  get spent() { return this.bits - Number(this.k) - Math.log2(Math.max(1, Number(this.r))); }
}

/** The shortest bytes all of whose continuations, as numbers of `bits` bits, lie from low to low + size. */
function shortestBytes(low, size, bits) {
  for (let length = 1; length < bits / 8; length++) {
    const unit = 1n << BigInt(bits - 8 * length), start = (low + unit - 1n) / unit;
    if ((start + 1n) * unit > low + size) continue;
    return Uint8Array.from(start.toString(16).padStart(2 * length, "0").match(/../g), pair => parseInt(pair, 16));
  }
  return new Uint8Array(bits / 8);
}

const numberOf = bytes => BigInt("0x0" + Array.from(bytes, byte => byte.toString(16).padStart(2, "0")).join(""));

// ---- tiles ----------------------------------------------------------------------------------------------------------

const TILE = 8, FENCE = 0b01001001, WEIGHTS_TOLD = 740;         // a row of 8 cells as a byte: the first is the high bit
const isFence = i => FENCE >> 7 - i % TILE & 1;
const once = make => { let made; return () => made ??= make(); };

/** The place of the largest value, the first of equal ones. */
function largest(values) {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}

/** {count, cells (count x 64 Int8Array), numbers (Map), book (256 of redundant frames), headers}: the 12,847 tiles. */
const tileWords = once(() => {
  const beside = row => (row << 1 | row >> 7 | row >> 1 | row << 7) & 255;
  const rows = [...Array(256).keys()].filter(row => !(row & beside(row)));
  let tiles = [[0, FENCE]];
  for (let i = 1; i <= TILE; i++) {
    const fits = i < TILE ? rows.filter(row => row >> 7 === isFence(i)) : [FENCE];
    tiles = tiles.flatMap(tile => {
      const last = tile[i], done = last | beside(last) | tile[i - 1];
      return fits.filter(row => !(row & last) && (row | done) === 255).map(row => [...tile, row]);
    });
  }
  const count = tiles.length, cells = new Int8Array(count * 64), numbers = new Map();
  tiles.forEach((tile, n) => {
    for (let c = 0; c < 64; c++) cells[n * 64 + c] = tile[1 + (c >> 3)] >> 7 - c % 8 & 1 ? -1 : 1;
    numbers.set(String.fromCharCode(...tile.slice(1, 9)), n);
  });
  // The 256 of redundant frames: again and again the one that differs in the most cells from all that were chosen.
  const low = tiles.map(tile => tile[1] << 24 | tile[2] << 16 | tile[3] << 8 | tile[4]);
  const high = tiles.map(tile => tile[5] << 24 | tile[6] << 16 | tile[7] << 8 | tile[8]);
  const ones = x => {
    x -= x >>> 1 & 0x55555555;
    x = (x & 0x33333333) + (x >>> 2 & 0x33333333);
    return Math.imul(x + (x >>> 4) & 0x0F0F0F0F, 0x01010101) >>> 24;
  };
  const nearest = new Uint8Array(count).fill(64), book = [0];
  while (book.length < 256) {
    const last = book[book.length - 1];
    for (let n = 0; n < count; n++)
      nearest[n] = Math.min(nearest[n], ones(low[n] ^ low[last]) + ones(high[n] ^ high[last]));
    book.push(largest(nearest));
  }
  const taken = new Set(book);
  return {count, cells, numbers, book, headers: [...Array(count).keys()].filter(n => !taken.has(n))};
});

/** Tiles of a frame in raster order, 64 cells each. */
function splitTiles(frame, h, w) {
  const tiles = [];
  for (let top = 0; top < h; top += TILE)
    for (let left = 0; left < w; left += TILE)
      tiles.push(Float32Array.from({length: 64}, (_, c) => frame[(top + (c >> 3)) * w + left + c % 8]));
  return tiles;
}

function putTile(frame, w, place, number) {
  const across = w / TILE, start = Math.floor(place / across) * TILE * w + place % across * TILE;
  for (let c = 0; c < 64; c++) frame[start + (c >> 3) * w + c % 8] = tileWords().cells[number * 64 + c];
}

/** The number of the tile word that the signs of 64 cells are, -1 where they are none. */
function tileNumber(cells) {
  const rows = [0, 0, 0, 0, 0, 0, 0, 0];
  for (let c = 0; c < 64; c++) rows[c >> 3] |= (cells[c] < 0) << 7 - c % 8;
  return tileWords().numbers.get(String.fromCharCode(...rows)) ?? -1;
}

/** Products of 64 cells with all tile words, or those listed. */
function likenesses(cells, numbers) {
  const {count, cells: words} = tileWords(), out = new Float64Array(numbers ? numbers.length : count);
  for (let n = 0; n < out.length; n++) {
    const start = (numbers ? numbers[n] : n) * 64;
    for (let c = 0; c < 64; c++) out[n] += words[start + c] * cells[c];
  }
  return out;
}

/** {rows of words, weights} that a tile word says as a header; null where it is none. */
function headerOf(number, h) {
  const place = tileWords().headers.indexOf(number), rows = Math.floor(place / WEIGHTS_TOLD);
  return place < 0 || rows >= h / TILE ? null : {rows, weights: place % WEIGHTS_TOLD};
}

const headerNumber = (rows, weights) => tileWords().headers[rows * WEIGHTS_TOLD + weights];
const meaningCount = (h, w, rows) => rows === h / TILE ? 0 : (h / TILE - rows) * (w / TILE) - 1;

// ---- the words' cells -----------------------------------------------------------------------------------------------

const OCCUPIED = 0, DOMINATED = 1, NEEDY = 2, W_OCCUPIED = 0.85, W_NEEDY = 0.45;

/** The cells (true for -1) of a row, of all that may follow, that agree best with a field of w numbers: the largest sum
 * of the field at +1 cells, less that at -1 cells, less that of the next row, `below`, under needy cells. */
function agreeing(above, barred, mayNeed, field, below) {
  const last = above.length - 1, none = -(2 ** 40), cells = [false];
  const best = Array.from(above, () => [0, 0, 0, 0]);           // from the cell on, by the state before the next one
  const covers = (j, state) => barred(j) || above[j] === OCCUPIED || state === 0;
  const next = (covered, state) => covered ? 1 : state === 2 ? 3 : 2;
  const choices = (j, state) => {                               // what -1 and +1 can reach
    const covered = covers(j, state), minus = covered ? none : best[j][0] - field[j];
    if (above[j] === NEEDY || state === 3 || state === 2 && !mayNeed(j - 1)) return [minus, none];
    const plus = best[j][next(covered, state)] + field[j];
    return [minus, state === 2 ? plus - below[j - 1] : plus];
  };
  best[last] = [0, 0, mayNeed(last) ? -below[last] : none, none];
  for (let j = last; j > 0; j--) best[j - 1] = best[j - 1].map((_, state) => Math.max(...choices(j, state)));
  for (let j = 1, state = 1; j <= last; j++) {
    const [minus, plus] = choices(j, state);
    cells.push(minus > plus);
    state = cells[j] ? 0 : next(covers(j, state), state);
  }
  return cells;
}

/** Visit the cells of the band of the lowest `rows` rows of tiles of a frame in raster order. `reads`: the coder writes
 * what the signs say; else signs are set as the coder's number says. Returns how many cells no frame can have; where
 * they are many, coder.lost says after how many bits.
 *
 * free {size, field}: once the coder's interval is no larger than `size` (BigInt), rows agree with the field of the
 * frame's h * w cells instead. */
function walk(frame, h, w, rows, coder, reads, free = null) {
  const high = rows * TILE, top = (h - high) * w, occupied = (i, j) => i === 0 && isFence(j) || j === 0 && isFence(i);
  const barred = (i, j) => occupied((i + high - 1) % high, j) || occupied((i + 1) % high, j) ||
                           occupied(i, (j + w - 1) % w) || occupied(i, (j + 1) % w);
  const mayNeed = (i, j) => i < high - 1 && !barred(i + 1, j);
  const sums = new Float64Array(4 * w);
  let above = new Uint8Array(w).fill(DOMINATED), wrong = 0, lately = 0;
  const fixed = (i, j) => {
    const at = top + i * w + j, minus = Boolean(occupied(i, j));
    if (reads) wrong += frame[at] < 0 !== minus;
    else frame[at] = minus ? -1 : 1;
  };
  for (let j = 0; j < w && high; j++) fixed(0, j);
  for (let i = 1; i < high; i++) {
    fixed(i, 0);
    sums.set([1, 1, mayNeed(i, w - 1) ? W_NEEDY : 0, 0], 4 * (w - 1));
    for (let j = w - 1; j > 0; j--) {
      const at = 4 * j, covered = barred(i, j) || above[j] === OCCUPIED, lone = above[j] === NEEDY;
      const occupy = covered ? 0 : W_OCCUPIED * sums[at], closed = lone ? 0 : sums[at + 1];
      const open = covered || lone ? closed : sums[at + 2];
      const needy = (covered || lone ? closed : sums[at + 3]) * (mayNeed(i, j - 1) ? W_NEEDY : 0);
      sums.set([closed, occupy + open, occupy + needy, occupy], at - 4);
    }
    const line = n => free.field.subarray(top + n * w, top + n * w + w);
    const agreed = free && free.size >= LEAST && coder.size <= free.size ? agreeing(
      above, j => barred(i, j), j => mayNeed(i, j), line(i), line(Math.min(i + 1, high - 1))) : null;
    const row = new Uint8Array(w).fill(DOMINATED);
    let state = 1;
    for (let j = 1; j < w; j++) {
      const at = 4 * j, cell = top + i * w + j, covered = barred(i, j) || above[j] === OCCUPIED || state === 0;
      const occupy = covered ? 0 : W_OCCUPIED * sums[at];
      const must = above[j] === NEEDY || state === 3 || state === 2 && !mayNeed(i, j - 1);
      const rest = covered ? sums[at + 1] : sums[at + (state === 2 ? 3 : 2)];
      const leave = must ? 0 : (state === 2 ? W_NEEDY : 1) * rest;
      let minus = leave === 0;
      if (minus || occupy === 0) {
        const differs = reads && frame[cell] < 0 !== minus;
        wrong += differs;
        lately += (differs - lately) / 32;
        if (lately > 0.3) coder.lost ??= coder.spent;           // from here on the cells are noise
      } else {
        const q = Math.min(Math.max(Math.floor(occupy / (occupy + leave) * ONE), 1), ONE - 1);
        minus = reads ? frame[cell] < 0 : agreed ? agreed[j] : coder.place(ONE) < q;
        coder.narrow(minus ? 0 : q, minus ? q : ONE, ONE);
      }
      if (!reads) frame[cell] = minus ? -1 : 1;
      if (state >= 2 && !minus) row[j - 1] = NEEDY;
      if (minus) row[j] = OCCUPIED;
      state = minus ? 0 : covered ? 1 : state === 2 ? 3 : 2;
    }
    if (state >= 2) row[w - 1] = NEEDY;
    above = row;
  }
  return wrong;
}

/** A copy of a frame with 0 in -1 cells that have two or more -1 neighbours: no written frame has such cells. */
function plausible(frame, h, w) {
  const at = (i, j) => frame[(i + h) % h * w + (j + w) % w] < 0;
  return Float32Array.from(frame, (v, n) => {
    const i = Math.floor(n / w), j = n % w;
    return v < 0 && at(i - 1, j) + at(i + 1, j) + at(i, j - 1) + at(i, j + 1) >= 2 ? 0 : v;
  });
}

// ---- links ----------------------------------------------------------------------------------------------------------

/** The signs of a frame as bytes. A frame that the project wrote becomes one arithmetic code: its rows of words, its
 * tiles, its words' cells. Any other becomes a bit a cell. */
function pack(frame, h, w) {
  const bits = bitsOfNumber(h, w), top = h / TILE, numbers = splitTiles(frame, h, w).map(tileNumber);
  for (let rows = 0; rows <= top; rows++) {
    const tiles = numbers.slice(0, (top - rows) * w / TILE), coder = new Coder(bits);
    if (tiles.includes(-1)) continue;
    coder.narrow(rows, rows + 1, top + 1);
    for (const tile of tiles) coder.narrow(tile, tile + 1, tileWords().count);
    if (walk(frame, h, w, rows, coder, true) === 0) return shortestBytes(coder.low, coder.size, bits);
  }
  const signs = new Uint8Array(h * w / 8);
  for (let i = 0; i < h * w; i++) signs[i >> 3] |= (frame[i] < 0) << 7 - i % 8;
  return signs;
}

/** The frame of `pack`; null where the bytes are none. */
function unpack(bytes, h, w) {
  const frame = new Float32Array(h * w), bits = bitsOfNumber(h, w), top = h / TILE;
  if (bytes.length === h * w / 8) return frame.map((_, i) => bytes[i >> 3] >> 7 - i % 8 & 1 ? -1 : 1);
  if (!bytes.length || 8 * bytes.length > bits) return null;
  const coder = new Coder(bits, numberOf(bytes) << BigInt(bits - 8 * bytes.length)), rows = coder.choice(top + 1);
  for (let k = 0; k < (top - rows) * w / TILE; k++) putTile(frame, w, k, coder.choice(tileWords().count));
  walk(frame, h, w, rows, coder, false);
  const again = pack(frame, h, w);                              // bytes that were damaged mostly differ from their own
  return again.length === bytes.length && again.every((byte, i) => byte === bytes[i]) ? frame : null;
}

/** Frame -> base64url, and back (null where the text is no frame). */
function toLink(frame, h, w) {
  const binary = String.fromCharCode(...pack(frame, h, w));
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function fromLink(text, h, w) {
  if (!/^[A-Za-z0-9_-]+$/.test(text) || text.length > h * w / 4) return null;
  try {
    const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    return unpack(Uint8Array.from(binary, c => c.charCodeAt(0)), h, w);
  } catch {
    return null;                                                // a length that base64 cannot have
  }
}

// ---- checksums and hashes -------------------------------------------------------------------------------------------

const crcTable = once(() => Uint32Array.from({length: 256}, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? n >>> 1 ^ 0xEDB88320 : n >>> 1;
  return n;
}));

function crc32(bytes) {
  let crc = 0xFFFFFFFF;
  for (const byte of bytes) crc = crc >>> 8 ^ crcTable()[(crc ^ byte) & 255];
  return (crc ^ 0xFFFFFFFF) >>> 0;
}

/** SHAKE-256 of bytes, `length` bytes of it (FIPS 202). */
function shake256(bytes, length) {
  const rate = 136, mask = (1n << 64n) - 1n, state = new Array(25).fill(0n), out = [];
  const turn = (x, n) => n ? (x << BigInt(n) | x >> BigInt(64 - n)) & mask : x;
  const permute = () => {
    for (let round = 0, lfsr = 1; round < 24; round++) {
      const parity = [0, 1, 2, 3, 4].map(x => state[x] ^ state[x + 5] ^ state[x + 10] ^ state[x + 15] ^ state[x + 20]);
      for (let n = 0; n < 25; n++) state[n] ^= parity[(n + 4) % 5] ^ turn(parity[(n + 1) % 5], 1);
      for (let t = 0, x = 1, y = 0, moved = state[1]; t < 24; t++) {
        [x, y] = [y, (2 * x + 3 * y) % 5];
        [moved, state[x + 5 * y]] = [state[x + 5 * y], turn(moved, (t + 1) * (t + 2) / 2 % 64)];
      }
      for (let y = 0; y < 25; y += 5) {
        const row = state.slice(y, y + 5);
        for (let x = 0; x < 5; x++) state[y + x] = row[x] ^ (row[(x + 1) % 5] ^ mask) & row[(x + 2) % 5];
      }
      for (let j = 0; j < 7; j++) {
        if (lfsr & 1) state[0] ^= 1n << BigInt(2 ** j - 1);
        lfsr = lfsr << 1 ^ (lfsr >> 7) * 0x171;
      }
    }
  };
  const padded = new Uint8Array((Math.floor(bytes.length / rate) + 1) * rate);
  padded.set(bytes);
  padded[bytes.length] ^= 0x1F;
  padded[padded.length - 1] ^= 0x80;
  for (let start = 0; start < padded.length; start += rate) {
    for (let n = 0; n < rate; n++) state[n >> 3] ^= BigInt(padded[start + n]) << BigInt(8 * (n % 8));
    permute();
  }
  while (out.length < length) {
    for (let n = 0; n < rate; n++) out.push(Number(state[n >> 3] >> BigInt(8 * (n % 8)) & 255n));
    permute();
  }
  return Uint8Array.from(out.slice(0, length));
}

return {tick, run, Coder, bitsOfNumber, log2, numberOf, TILE, WEIGHTS_TOLD, isFence, tileWords, splitTiles, putTile,
         tileNumber, likenesses, largest, headerOf, headerNumber, meaningCount, walk, plausible, pack, unpack,
        toLink, fromLink, crc32, shake256, once};
})();

if (typeof module !== "undefined") module.exports = Wheeler;
