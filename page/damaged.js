"use strict";
// Reads any frame, damaged ones and redundant ones too: every way that it could be read, and the gist where none gives
// a checksum that agrees. docs/frame_format.md, "Reading damaged frames" and "Redundant frames".

const Damaged = (() => {

const W = typeof require === "function" ? require("./wheeler.js") : Wheeler;
const R = typeof require === "function" ? require("./reader.js") : Reader;
const LENGTHS = 3, REDUNDANT_MEANING = 7, GIST_TRUST = 1.5;
const SYMBOL_BITS = 13, MOST_TRIED = 2 ** 24, MOST_WAYS = 64;    // of frames against erasures

// ---- redundant frames: Reed-Solomon over GF(2^bits), generator 2, first root 2^0 ------------------------------------

/** The arithmetic of GF(2^bits) with a polynomial. */
function fieldOf(bits, polynomial) {
  const order = 2 ** bits - 1, powers = new Uint16Array(2 * order), logs = new Uint16Array(order + 1);
  for (let n = 0, x = 1; n < order; n++) {
    powers[n] = powers[n + order] = x;
    logs[x] = n;
    x = x << 1 ^ (x >> bits - 1) * polynomial;
  }
  const times = (a, b) => a && b ? powers[logs[a] + logs[b]] : 0;
  const over = (a, b) => a ? powers[logs[a] + order - logs[b]] : 0;
  const valueAt = (factors, x) => factors.reduceRight((sum, factor) => times(sum, x) ^ factor, 0);
  return {order, powers, times, over, valueAt};
}

const bytesField = W.once(() => fieldOf(8, 0x11d)), symbolsField = W.once(() => fieldOf(SYMBOL_BITS, 0x201b));

/** A word of symbols, the last `spare` of them redundancy, without its errors; `erased`: places that are unknown.
 * null where there are too many errors. */
function corrected(word, spare, erased, {powers, times, over, valueAt} = bytesField()) {
  const root = place => powers[word.length - 1 - place];
  const syndromesOf = symbols => Array.from({length: spare}, (_, j) =>
    symbols.reduce((sum, symbol) => times(sum, powers[j]) ^ symbol, 0));
  const syndromes = syndromesOf(word), size = spare + 2;
  // Berlekamp and Massey's algorithm, which begins with the erasures.
  let locator = new Uint16Array(size), length = erased.length;
  locator[0] = 1;
  for (const place of erased) {
    const old = locator;
    locator = old.map((factor, i) => factor ^ (i ? times(old[i - 1], root(place)) : 0));
  }
  let before = locator.slice();
  for (let step = erased.length; step < spare; step++) {
    let gap = 0;
    for (let i = 0; i <= step; i++) gap ^= times(locator[i], syndromes[step - i]);
    before = new Uint16Array([0, ...before.slice(0, size - 1)]);
    if (!gap) continue;
    const next = locator.map((factor, i) => factor ^ times(gap, before[i]));
    if (2 * length <= step + erased.length) {
      length = step + 1 + erased.length - length;
      before = locator.map(factor => over(factor, gap));
    }
    locator = next;
  }
  // Forney's formula at the roots of the locator
  const out = Array.from(word), product = Array.from({length: spare}, (_, n) =>
    syndromes.slice(0, n + 1).reduce((sum, syndrome, j) => sum ^ times(syndrome, locator[n - j]), 0));
  const slope = locator.map((factor, i) => i % 2 ? factor : 0).slice(1);
  for (let place = 0; place < word.length; place++) {
    const x = over(1, root(place));
    if (valueAt(locator, x)) continue;
    if (!valueAt(slope, x)) return null;
    out[place] ^= times(root(place), over(valueAt(product, x), valueAt(slope, x)));
  }
  return syndromesOf(out).some(Boolean) ? null : out;
}

/** {payload, meaning}: bytes of a redundant frame and how many of them are meaning; null where none is sure. */
function redundantBytes(model, cells) {
  const {book} = W.tileWords(), places = [0, 1, 2].map(i => Math.floor(i * cells.length / LENGTHS));
  const scores = cells.map(tile => W.likenesses(tile, book)), kept = scores.filter((_, i) => !places.includes(i));
  const length = W.largest(book.map((_, n) => places.reduce((sum, place) => sum + scores[place][n], 0)));
  const spare = cells.length - LENGTHS - length, word = kept.map(W.largest);
  if (length < 3 || spare < 0) return null;
  const gaps = kept.map(row => {
    const [first, second] = Float64Array.from(row).sort().slice(-2).reverse();
    return first - second;
  });
  const doubtful = gaps.map((_, i) => i).sort((a, b) => gaps[a] - gaps[b] || a - b);
  const weights = Array.from({length: 8}, (_, i) => Number(model.fingerprint >> BigInt(8 * i) & 255n));
  for (let erased = 0; erased <= spare; erased += 2) {
    const all = spare ? corrected(word, spare, doubtful.slice(0, erased)) : word;
    if (!all) continue;
    const data = all.slice(0, length), payload = data.slice(0, -2), wanted = data[length - 2] | data[length - 1] << 8;
    for (const meaning of [REDUNDANT_MEANING, 0])
      if ((W.crc32([...payload, ...weights, meaning]) & 65535) === wanted) return {payload, meaning};
  }
  return null;
}

/** The matrix (rows) that gives the symbols at places `others` of a word of `count` from those at places `known`. */
function unknownFromKnown(count, known, others) {
  const {order, powers, times, over} = symbolsField(), places = [...others, ...known];
  const rows = others.map((_, i) => Uint16Array.from(places, place => powers[i * (count - 1 - place) % order]));
  rows.forEach((_, k) => {                                      // Gauss-Jordan elimination
    const pivot = rows.findIndex((row, i) => i >= k && row[k]), by = rows[pivot][k];
    [rows[k], rows[pivot]] = [rows[pivot], rows[k]];
    rows[k] = rows[k].map(symbol => over(symbol, by));
    rows.forEach((row, i) => {
      const factor = row[k];
      if (i !== k && factor) rows[k].forEach((symbol, j) => row[j] ^= times(factor, symbol));
    });
  });
  return rows.map(row => row.slice(others.length));
}

/** The words that agree with tiles, where fewer than `length` symbols are known: every way to choose some of those that
 * each tile leaves possible (Uint8Array of flags), `most` ways at most. told: the symbol of each tile, -1 if unknown. */
function completed(told, possible, length, most) {
  const {times} = symbolsField(), counts = possible.map(flags => flags.reduce((sum, flag) => sum + flag));
  const all = told.map((_, k) => k), known = all.filter(k => told[k] >= 0);
  const left = all.filter(k => told[k] < 0 && counts[k] && counts[k] < 1 << SYMBOL_BITS);
  left.sort((a, b) => counts[a] - counts[b] || a - b);
  const chosen = left.slice(0, length - known.length), checks = left.slice(chosen.length);
  const ways = chosen.reduce((product, k) => product * counts[k], 1);
  if (chosen.length < length - known.length || ways > (checks.length ? most : MOST_WAYS - 1)) return [];
  const places = [...known, ...chosen], others = all.filter(k => !places.includes(k));
  const matrix = unknownFromKnown(told.length, places, others), rows = checks.map(k => matrix[others.indexOf(k)]);
  const sum = (row, symbols) => symbols.reduce((total, symbol, i) => total ^ times(row[i], symbol), 0);
  const choices = chosen.map(k => Int32Array.from([...possible[k].keys()].filter(symbol => possible[k][symbol])));
  const tables = choices.map((choice, m) => rows.map(row => choice.map(symbol => times(row[known.length + m], symbol))));
  const flags = checks.map(k => possible[k]), words = [], taken = [];
  const search = (sums, m) => {                                 // false: too many agree
    const last = m === chosen.length - 1, [first] = sums, [of] = flags, [table] = tables[m];
    for (let c = 0; c < choices[m].length; c++) {
      if (last && of && !of[first ^ table[c]]) continue;
      const next = sums.map((value, j) => value ^ tables[m][j][c]);
      taken[m] = choices[m][c];
      if (!last) {
        if (!search(next, m + 1)) return false;
      } else if (next.every((symbol, j) => flags[j][symbol])) {
        const word = told.slice(), symbols = [...known.map(k => told[k]), ...taken];
        places.forEach((k, i) => word[k] = symbols[i]);
        others.forEach((k, i) => word[k] = sum(matrix[i], symbols));
        if (words.push(word) === MOST_WAYS) return false;
      }
    }
    return true;
  };
  return search(rows.map(row => sum(row, known.map(k => told[k]))), 0) ? words : [];
}

/** Whether the known symbols, two more than the data at least, are of one word; -1: unknown. */
function fits(told, length) {
  const {times} = symbolsField(), all = told.map((_, k) => k), known = all.filter(k => told[k] >= 0);
  const places = known.slice(0, length), others = all.filter(k => !places.includes(k)), more = known.slice(length);
  if (more.length < 2) return false;
  const matrix = unknownFromKnown(told.length, places, others);
  return more.every(k => places.reduce((sum, place, i) => sum ^ times(matrix[others.indexOf(k)][i], told[place]), 0) ===
    told[k]);
}

/** What tiles of -1, 1 or 0 (unknown) say as a frame against erasures, the likeliest first: lists of symbols. */
function* symbolsOf([first, ...tiles]) {
  const {book} = W.tileWords(), count = tiles.length, told = [], possible = [];
  let strange = 0;                                              // tiles of no symbol: they count as erased
  for (const tile of tiles) {
    const size = knownCells(tile), scores = W.likenesses(tile).subarray(0, 1 << SYMBOL_BITS);
    const flags = Uint8Array.from(scores, score => score === size), sum = flags.reduce((a, b) => a + b);
    told.push(sum === 1 && size >= W.TILE ? flags.indexOf(1) : -1);
    possible.push(sum ? flags : flags.fill(1));
    strange += !sum;
  }
  const filled = strange > Math.floor(count / 4);               // by noise; or it is a plain frame
  const known = told.filter(symbol => symbol >= 0).length, every = Array.from({length: count}, (_, n) => n + 1);
  const likeness = W.likenesses(first, book), whole = knownCells(first);
  const named = every.filter(n => likeness[255 - n] === whole), lengths = named.length ? named : every;
  const lost = told.map((_, k) => k).filter(k => told[k] < 0);
  for (const length of lengths) {
    if (filled && !fits(told, length)) continue;
    if (known >= length) {
      const word = told.map(symbol => Math.max(0, symbol));
      const all = count > length ? corrected(word, count - length, lost, symbolsField()) : word;
      if (all) yield all.slice(0, length);
      if (all && length + 2 <= known) return;                   // two symbols more than needed agree
    } else if (length < count) {
      for (const word of completed(told, possible, length, Math.floor(MOST_TRIED / lengths.length)))
        yield word.slice(0, length);
    }
  }
}

/** A plausible frame, with 0 also in -1 cells beside those that are not: the edge of an area that had been erased. */
function withoutEdges(frame, side) {
  const clean = W.plausible(frame, side, side), gone = clean.map((value, n) => value === 0 && frame[n] !== 0);
  return clean.map((value, n) => {
    const row = n - n % side, size = side * side, near = [(n + side) % size, (n + size - side) % size,
      row + (n + 1) % side, row + (n + side - 1) % side];
    return value < 0 && near.some(other => gone[other]) ? 0 : value;
  });
}

/** What of a frame may be left where an area was erased: see `views` in wheeler/frame/cells.py. */
function* views(frame, side) {
  const seen = withoutEdges(frame, side), size = Float64Array.from(frame, Math.abs);
  yield seen;
  if (!size.some(value => value > 0 && value < 0.99)) return;
  yield seen.map((value, n) => size[n] < 0.5 ? 0 : value);
  const around = x => x.map((_, n) => {
    let sum = 0;
    for (let i = -2; i <= 2; i++) for (let j = -2; j <= 2; j++)
      sum += x[(Math.floor(n / side) + i + side) % side * side + (n + j + side) % side];
    return sum;
  });
  const quiet = around(around(size).map(sum => Number(sum < 0.62 * 25)));
  yield seen.map((value, n) => quiet[n] ? 0 : value);
}

const knownCells = tile => tile.reduce((sum, cell) => sum + Math.abs(cell), 0);

/** Whether tiles of -1, 1 or 0 (unknown) are those of a redundant frame, damaged perhaps. */
function seemsRedundant(tiles) {
  const {book} = W.tileWords(), told = tiles.filter(tile => knownCells(tile) > 32);
  const scores = told.map(tile => W.likenesses(tile)), nearest = scores.map(W.largest);
  const near = scores.reduce((sum, row, i) => sum + row[nearest[i]] / knownCells(told[i]), 0);
  const share = test => nearest.filter(test).length > 0.9 * told.length;
  return near > 0 && near >= 0.8 * told.length && (share(n => book.includes(n)) || share(n => n < 1 << SYMBOL_BITS));
}

// ---- every way to read a frame --------------------------------------------------------------------------------------

/** {foreign, candidates} of a frame: whether other weights wrote it, and what it may say. */
function look(model, frame) {
  const {side, fingerprint} = model, top = side / W.TILE;
  const cells = W.splitTiles(W.plausible(frame, side, side), side, side);
  const header = W.headerOf(W.tileNumber(cells[0]), side);
  const told = W.WEIGHTS_TOLD, half = told / 2, least = Math.floor(top / 2);     // half-way round: a frame of a film
  const turn = header && (header.weights - Number(fingerprint % BigInt(told)) + told) % told, film = turn === half;
  if (turn === 0 || film) {
    const way = header.rows ? R.candidate(model, frame, cells, header.rows) : null;
    return {foreign: false, candidates: way ? [{...way, film}] : []};
  }
  const found = redundantBytes(model, cells);
  if (found) {
    const {payload, meaning} = found, words = payload.slice(meaning);
    const size = 1n << BigInt(W.bitsOfNumber(side, side) - 8 * words.length);
    const tiles = payload.slice(0, meaning).map(byte => W.tileWords().book[byte]);
    return {foreign: false, candidates: [{number: W.numberOf(words) * size + size / 2n, size, tiles}]};
  }
  const symbols = [];
  for (const seen of views(frame, side)) {
    for (const some of symbolsOf(W.splitTiles(seen.map(Math.sign), side, side))) {
      const size = 1n << BigInt(W.bitsOfNumber(side, side) - SYMBOL_BITS * some.length);
      const number = some.reduce((all, symbol) => all << BigInt(SYMBOL_BITS) | BigInt(symbol), 0n);
      if (symbols.push({number: number * size + size / 2n, size, tiles: []}) === MOST_WAYS) break;
    }
    if (symbols.length) return {foreign: false, candidates: symbols};
  }
  const shown = header && cells.slice(0, 1 + W.meaningCount(side, side, header.rows));
  if (shown?.every(tile => W.tileNumber(tile) >= 0)) return {foreign: true, candidates: []};
  const every = Array.from({length: top}, (_, i) => R.candidate(model, frame, cells, i + 1));
  every.push(...every.slice(least - 1, top - 1).map(way => ({...way, film: true})));
  return {foreign: false, candidates: every.sort((a, b) => a.wrong - b.wrong)};    // the likeliest first
}

/** What a frame says, as FrameCode.read does: {text, exact, foreign, tiles, bits, ids, part}. part: where a frame of a
 * film belongs, [film, place from 0, frames]; null if not exact. hears({text, share, gist}): while it is read; may be a
 * promise. */
async function read(model, frame, hears) {
  const {foreign, candidates} = look(model, frame);
  const nothing = {text: "", exact: false, foreign, tiles: 0, bits: 0, ids: [], part: null};
  if (foreign || frame.every(cell => cell < 0) || frame.every(cell => cell > 0)) return nothing;
  for (const [k, way] of candidates.entries()) {
    const most = W.bitsOfNumber(model.side, model.side) - (way.size ? W.log2(way.size) : 0);
    const found = await R.decode(model, way, (ids, bits) => hears?.(
      {text: model.textOf(ids), share: (k + bits / most) / candidates.length, gist: false}));
    if (found.exact) return {...nothing, ...found, text: model.textOf(found.ids), tiles: way.tiles.length};
  }
  const {ids, tiles} = await gist(model, frame, hears);
  return {...nothing, text: model.textOf(ids), ids, tiles};
}

// ---- the gist -------------------------------------------------------------------------------------------------------

/** Cells of the meaning tiles of a frame, damaged or not: 0 where a cell says nothing. */
function meaningCells(model, frame) {
  const {side} = model, eighths = W.plausible(frame, side, side).map(value => R.rint(value * 8) / 8);
  const cells = W.splitTiles(eighths, side, side), header = W.headerOf(W.tileNumber(cells[0]), side);
  const signs = W.plausible(frame, side, side).map(Math.sign);
  if (header) return cells.slice(1, 1 + W.meaningCount(side, side, header.rows));
  if (seemsRedundant(W.splitTiles(signs, side, side))) return [];
  const half = cells.slice(1, 1 + W.meaningCount(side, side, Math.floor(side / W.TILE / 2))), near = [];
  for (const tile of half) {
    const known = tile.reduce((sum, cell) => sum + Math.abs(cell), 0), alike = W.likenesses(tile);
    if (known > 32) near.push(alike[W.largest(alike)] / known);
  }
  return near.length && near.reduce((a, b) => a + b) / near.length > 0.7 ? half : [];
}

/** Products of floats with the rows of a matrix. */
function product(matrix, x) {
  const width = x.length, out = new Float64Array(matrix.length / width);
  for (let n = 0; n < out.length; n += 4) {                     // four rows at a time: fewer loads
    const p = n * width, q = p + width, s = q + width, t = s + width;
    let a = 0, b = 0, c = 0, d = 0;
    for (let i = 0; i < width; i++) {
      const value = x[i];
      a += value * matrix[p + i];
      b += value * matrix[q + i];
      c += value * matrix[s + i];
      d += value * matrix[t + i];
    }
    out[n] = a, out[n + 1] = b, out[n + 2] = c, out[n + 3] = d;
  }
  return out;
}

function normed(x, weight) {
  const mean = x.reduce((a, b) => a + b) / x.length, off = x.map(value => value - mean);
  const inverse = 1 / Math.sqrt(off.reduce((sum, value) => sum + value * value, 0) / x.length + 1e-5);
  return off.map((value, i) => value * inverse * weight[i]);
}

const gelu = x => x.map(value => value * R.normal(value));

/** What softmax(scores) makes of values, `width` numbers each; `value(s, i)` is the i-th of the s-th. */
function attended(scores, width, value) {
  const top = Math.max(...scores), weights = scores.map(score => Math.exp(score - top));
  const total = weights.reduce((a, b) => a + b), out = new Float64Array(width);
  for (let s = 0; s < scores.length; s++) for (let i = 0; i < width; i++) out[i] += weights[s] / total * value(s, i);
  return out;
}

/** The part of products that is one head's queries or keys, turned by the position. */
function turned(part, [cosine, sine]) {
  const half = part.length / 2;
  return part.map((value, i) => i < half ? value * cosine[i] - part[i + half] * sine[i] :
                                           value * cosine[i - half] + part[i - half] * sine[i - half]);
}

/** A decoder layer in floats at position t; cache: keys and values of those before. */
function layerStep(model, of, k, x, t, cache) {
  const {d_model: d, num_heads: heads, width, rope, t: own} = model, out = new Float64Array(d);
  const all = product(of[`${k}.query_key_value`], normed(x, own[`${k}.norm_self`]));
  cache.push({keys: new Float64Array(d), values: all.slice(2 * d)});
  for (let low = 0; low < d; low += width) {
    cache[t].keys.set(turned(all.slice(d + low, d + low + width), rope[t]), low);
    const query = turned(all.slice(low, low + width), rope[t]), scores = cache.map(({keys}) =>
      query.reduce((sum, value, i) => sum + value * keys[low + i], 0) / Math.sqrt(width));
    out.set(attended(scores, width, (s, i) => cache[s].values[low + i]), low);
  }
  const mixed = product(of[`${k}.out`], out), y = x.map((value, i) => value + mixed[i]);
  const wide = gelu(product(of[`${k}.up`], normed(y, own[`${k}.norm_mlp`]))), last = product(of[`${k}.down`], wide);
  return y.map((value, i) => value + last[i]);
}

/** The text that the meaning tiles tell, token by token: {ids, tiles}. */
async function gist(model, frame, hears) {
  const cells = meaningCells(model, frame), {t, dim, d_model: d, usual} = model, ids = [], said = new Float64Array(dim);
  const tiles = cells.reduce((sum, tile) => sum + tile.reduce((a, cell) => a + Math.min(Math.abs(cell), 1), 0) / 64, 0);
  if (!tiles) return {ids, tiles};
  const of = await model.part("gist"), estimate = model.estimate(cells, tiles), caches = [];
  const {trust, sharp, sums} = model.told(estimate, tiles), vectors = t["table.weight"], size = model.vocab_size;
  const odds = product(vectors, sums).map((value, v) =>
    t.prior[v] + sharp * (model.says[v] * value - model.squares[v] / 2));
  while (ids.length < model.max_seq_len && ids.at(-1) !== model.eos_token_id) {
    const at = ids.length, token = at ? ids[at - 1] : model.bos_token_id;
    if (at && token !== model.eos_token_id) {
      const share = model.says[token] / ids.reduce((count, id) => count + (id === token), 0);
      for (let i = 0; i < dim; i++) said[i] += vectors[token * dim + i] * share;
    }
    const both = Float64Array.from({length: 2 * dim}, (_, i) =>
      i < dim ? estimate[i] * trust : said[i - dim] * Math.sqrt(dim) / usual);
    const told = product(t["inject.weight"], both);
    let x = told.map((value, i) => value / Math.sqrt(2 * dim) + t.embedding[token * d + i]);
    for (let k = 0; k < model.decoder_layers; k++) x = layerStep(model, of, k, x, at, caches[k] ??= []);
    x = normed(x, t.norm_out);
    const plain = product(of.head, x), gone = product(vectors, said);
    const gate = x.reduce((sum, value, i) => sum + value * t["gate.weight"][i], t["gate.bias"][0]);
    const by = GIST_TRUST * 2 * R.sigmoid(gate), known = new Set([...ids, model.pad_token_id]);
    const logits = plain.map((value, v) => known.has(v) ? value :
      value + by * (model.never[v] - softplus(sharp * model.says[v] * gone[v] - odds[v])));
    ids.push(W.largest(logits));
    await hears?.({text: model.textOf(ids), share: Math.min(1, ids.length / 120), gist: true});
  }
  return {ids, tiles};
}

const softplus = x => x > 20 ? x : Math.log1p(Math.exp(x));

return {read, look, gist, corrected, product, normed, gelu, attended, turned};
})();

if (typeof module !== "undefined") module.exports = Damaged;
