"use strict";
// Writes texts into frames: the tokenizer, the encoder (in floats), the meaning tiles, the words. docs/frame_format.md,
// "Meaning tiles" and "Writing".

const Writer = (() => {

const W = typeof require === "function" ? require("./wheeler.js") : Wheeler;
const R = typeof require === "function" ? require("./reader.js") : Reader;
const D = typeof require === "function" ? require("./damaged.js") : Damaged;
const LONGEST = 3;                                              // tokens of an n-gram

// ---- the tokenizer: byte-level BPE ----------------------------------------------------------------------------------

const PIECES = new RegExp(String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|` +
                          String.raw`\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+`, "gu");

function bpe(model) {
  if (!model.bpe) {
    const ranks = new Map(model.merges.map((pair, rank) => [pair, rank]));
    const numbers = new Map(model.tokens.map((token, id) => [token, id]));
    model.special.forEach(id => numbers.delete(model.tokens[id]));
    model.bpe = piece => {
      const parts = Array.from(new TextEncoder().encode(piece), byte => model.letters[byte]);
      for (;;) {
        let best = Infinity, place = -1;
        for (let i = 0; i + 1 < parts.length; i++) {
          const rank = ranks.get(`${parts[i]} ${parts[i + 1]}`) ?? Infinity;
          if (rank < best) [best, place] = [rank, i];
        }
        if (place < 0) return parts.map(part => numbers.get(part));
        parts.splice(place, 2, parts[place] + parts[place + 1]);
      }
    };
  }
  return model.bpe;
}

/** {ids, text}: token ids of a text, the end token last, and what of the text is in them: its first max_seq_len - 1
 * tokens, without half a character. */
function encode(model, text) {
  const ids = (text.match(PIECES) ?? []).flatMap(bpe(model)), most = model.max_seq_len - 1;
  let end = Math.min(ids.length, most);
  const first = id => model.bytes.get(model.tokens[id][0]);
  if (ids.length > most) while (end && first(ids[end]) >= 128 && first(ids[end]) < 192) end--;
  const kept = ids.slice(0, end);
  return {ids: [...kept, model.eos_token_id], text: model.textOf(kept)};
}

// ---- the encoder and the meaning ------------------------------------------------------------------------------------

/** What the encoder's layers make of each token: a list of Float64Array. */
function states(model, of, ids) {
  const {d_model: d, width, rope} = model;
  let x = ids.map(id => Float64Array.from(of.embedding.subarray(id * d, id * d + d)));
  for (let k = 0; k < model.encoder_layers; k++) {
    const all = x.map(row => D.product(of[`${k}.query_key_value`], D.normed(row, of[`${k}.norm_self`])));
    const mixed = x.map(() => new Float64Array(d));
    for (let low = 0; low < d; low += width) {
      const [queries, keys] = [low, d + low].map(start => all.map((row, t) =>
        D.turned(row.slice(start, start + width), rope[t])));
      queries.forEach((query, t) => mixed[t].set(D.attended(
        keys.map(key => key.reduce((sum, value, i) => sum + value * query[i], 0) / Math.sqrt(width)), width,
        (s, i) => all[s][2 * d + low + i]), low));
    }
    x = x.map((row, t) => {
      const out = D.product(of[`${k}.out`], mixed[t]), y = row.map((value, i) => value + out[i]);
      const wide = D.gelu(D.product(of[`${k}.up`], D.normed(y, of[`${k}.norm_mlp`])));
      const last = D.product(of[`${k}.down`], wide);
      return y.map((value, i) => value + last[i]);
    });
  }
  return x.map(row => D.normed(row, of.norm_text));
}

/** The numbers of the first `count` meaning tiles of a text. */
function meaningTiles(model, of, ids, count) {
  const {t, dim} = model, {cells, count: words} = W.tileWords(), table = t["table.weight"];
  const total = new Float64Array(dim);
  const unit = x => {
    const length = Math.sqrt(x.reduce((sum, value) => sum + value * value, 0));
    return x.map(value => value / Math.max(length, 1e-12));
  };
  const context = states(model, of, ids).map(row => D.product(of.context, row));
  ids.forEach((id, at) => {
    if (id === model.eos_token_id) return;
    const share = model.says[id] / ids.slice(0, at + 1).filter(other => other === id).length;
    for (let i = 0; i < dim; i++) total[i] += share * (table[id * dim + i] + context[at][i] * 0.06 / Math.sqrt(dim));
  });
  const meaning = unit(unit(total).map((value, i) => value - t.centre[i]));
  if (!model.codes) {
    model.codes = new Float32Array(Math.ceil(words / 4) * 4 * R.CODE);          // `product` takes four rows at a time
    for (let n = 0; n < words; n++) model.codes.set(model.codeOf(cells.subarray(n * 64, n * 64 + 64)), n * R.CODE);
  }
  const projected = n => {
    const row = model.projection(n);
    return meaning.reduce((sum, value, i) => sum + value * row[i], 0);
  };
  return Array.from({length: count}, (_, k) => W.largest(
    D.product(model.codes, Float64Array.from({length: R.CODE}, (_, c) => projected(k * R.CODE + c)))));
}

// ---- words ----------------------------------------------------------------------------------------------------------

/** [start, end, total] of every token's frequencies, given the numbers of meaning tiles. heard(share): meanwhile. */
async function charges(model, ids, tiles, heard) {
  const decoder = new R.Decoder(model, tiles), inputs = [model.bos_token_id, ...ids.slice(0, -1)], out = [];
  const cache = new R.Cache(model);
  for (let start = 0; start < ids.length; start += 32) {        // many tokens at once: fewer loads
    const part = inputs.slice(start, start + 32), logits = decoder.read(part);
    part.forEach((_, r) => {
      const {out: place, total} = cache.mix(R.frequencies(logits(r))), token = ids[start + r];
      let from = 0;
      for (let v = 0; v < token; v++) from += place[v];
      cache.say(token);
      out.push([from, from + place[token], total]);
    });
    await heard?.(Math.min(1, (start + 32) / ids.length));
  }
  return out;
}

const costOf = rows => rows.reduce((sum, [start, end, total]) => sum + Math.log2(total / (end - start)), 16);

/** The last step of MurmurHash3: 32 bits, one to one. */
function hash(x) {
  x = Math.imul(x ^ x >>> 16, 0x85EBCA6B);
  x = Math.imul(x ^ x >>> 13, 0xC2B2AE35);
  return x ^ x >>> 16;
}

/** For each of `size` cells the sum of -1 and +1 of a text's n-grams, the end token left out (Int32Array). */
function ngramField(ids, size) {
  const tokens = ids.slice(0, -1), field = new Int32Array(size), found = [];
  let runs = tokens.map(() => 0);
  for (let n = 1; n <= LONGEST && n <= tokens.length; n++) {
    runs = runs.slice(0, tokens.length - n + 1).map((run, t) => hash(Math.imul(run, 31) + tokens[t + n - 1] + 1));
    found.push(...new Set(runs));
  }
  for (let word = 0; word < size / 32; word++) {
    const place = hash(word + 1);
    for (const key of found) {
      const bits = hash(key ^ place);
      for (let c = 0; c < 32; c++) field[32 * word + c] += bits >>> 31 - c & 1 ? -1 : 1;
    }
  }
  return field;
}

/** The frame: header, meaning tiles, words in `rows` rows of tiles; {frame, fits}. */
function finish(model, ids, rows, tiles, found) {
  const {side} = model, frame = new Float32Array(side * side).fill(1), bits = W.bitsOfNumber(side, side);
  const weights = Number(model.fingerprint % BigInt(W.WEIGHTS_TOLD));
  if (rows < side / W.TILE) W.putTile(frame, side, 0, W.headerNumber(rows, weights));
  tiles.slice(0, W.meaningCount(side, side, rows)).forEach((tile, k) => W.putTile(frame, side, k + 1, tile));
  if (!rows) return {frame, fits: false};
  const text = new W.Coder(bits), check = R.checksum(ids);
  for (const [start, end, total] of [...found, [check, check + 1, R.CHECKSUM]])
    if (!text.narrow(start, end, total)) break;
  const free = {size: text.size / 4n, field: ngramField(ids, side * side)};
  for (let attempt = 0; ; attempt++) {
    const bytes = W.shake256(new TextEncoder().encode(`([${ids.join(", ")}], ${attempt})`), bits / 8);
    const salt = W.numberOf(bytes.reverse());                   // the middle half of the text's interval
    const held = new W.Coder(bits, text.low + text.size / 4n + (text.size / 2n * salt >> BigInt(bits)));
    W.walk(frame, side, side, rows, held, false, free);
    const fits = text.size > 0n && text.low <= held.low && held.low + held.size <= text.low + text.size;
    const alone = rows === side / W.TILE && W.headerOf(W.tileNumber(W.splitTiles(frame, side, side)[0]), side);
    if (!alone || attempt === 7) return {frame, fits};          // words alone may not look like a header
  }
}

/** Rows of words that a text of so many tokens takes, mostly. */
function usualRows(model, least, tokens) {
  const top = model.room.length - 1;
  for (let rows = least; rows < top; rows++) if (model.room[rows] - 4 > 2.4 * tokens + 16) return rows;
  return top;
}

/** Write a text, as FrameCode.write does: {frame, fits, rows, tiles, cost, tokens, text}. `text` is what of it is in
 * the frame, if it was too long; where its words do not fit the frame has the meaning alone. heard(share). */
async function write(model, given, heard) {
  const of = await model.part("writer"), {ids, text} = encode(model, given), {side, room} = model;
  const top = side / W.TILE, least = Math.floor(top / 2);
  const all = meaningTiles(model, of, ids, W.meaningCount(side, side, 0));
  const count = rows => all.slice(0, W.meaningCount(side, side, rows));
  const about = {text, tokens: ids.length}, usual = usualRows(model, least, ids.length);
  let fails = least - 1, fits = 0, found = null, cost = 0, lowest = Infinity;
  for (;;) {
    if (fits && fits - 1 === fails) {
      const done = finish(model, ids, fits, all, found);
      if (done.fits) return {...done, ...about, rows: fits, tiles: count(fits), cost: costOf(found)};
      [fails, fits] = [fits, 0];                                // this frame holds less than others do
    }
    if (fails >= top) break;
    const rows = fits ? fits - 1 : Math.max(usual, fails + 1);
    const tried = await charges(model, ids, count(rows), heard);
    cost = costOf(tried);
    lowest = Math.min(lowest, cost);
    if (cost > room[rows] - 4) {
      let more = rows + 1;
      while (more < top && room[more] - 4 < cost) more++;
      fails = Math.max(Math.min(more, top) - 1, rows);
      continue;
    }
    [fits, found] = [rows, tried];
    if (0.94 * cost > room[rows - 1] - 4) fails = rows - 1;     // a row of tiles more saves less
  }
  return {...finish(model, ids, 0, all, []), ...about, rows: 0, tiles: all, cost: lowest};
}

return {encode, meaningTiles, charges, write};
})();

if (typeof module !== "undefined") module.exports = Writer;
