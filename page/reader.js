"use strict";
// Reads the words of a frame: the decoder in whole numbers, which gives the same bits on every machine. A worker runs
// it (worker.js); so does Node. docs/frame_format.md describes what is computed here.

const Reader = (() => {

const W = typeof require === "function" ? require("./wheeler.js") : Wheeler;
const {fround} = Math, CODE = 24, SIGNAL = 10, SLOPE = 0.75, CHECKSUM = 65536;
const rint = x => x + 6755399441055744 - 6755399441055744;     // half to even, below 2^51

// ---- functions with the same bits on every machine: wheeler/frame/plain_math.py -------------------------------------

function exp(x) {
  if (x < -708) return 0;
  if (x > 709) return Infinity;
  const high = 6.93147180369123816490e-01, low = 1.90821492927058770002e-10, k = Math.floor(x / (high + low) + 0.5);
  const r = x - k * high - k * low;
  let total = 1;
  for (let n = 18; n > 0; n--) total = 1 + total * r / n;
  for (let n = Math.abs(k); n > 0; n--) total *= k < 0 ? 0.5 : 2;
  return total;
}

const sigmoid = x => x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));

function softplus(x) {
  const y = exp(-Math.abs(x)), z = y / (2 + y);
  let total = 0, power = z;
  for (let n = 1; n < 36; n += 2) {
    total += power / n;
    power *= z * z;
  }
  return Math.max(x, 0) + 2 * total;
}

/** Probability that a normal variable is below x. */
function normal(x) {
  if (Math.abs(x) > 8.5) return x < 0 ? 0 : 1;
  let total = 0, term = x, n = 1;
  while (total + term !== total) {
    total += term;
    n += 2;
    term *= x * x / n;
  }
  return 0.5 + total * exp(-x * x / 2) * 0.3989422804014327;
}

function cosineAndSine(x) {
  const high = 3.14159265346825122834e00, low = 1.21542010130123844986e-10, k = Math.floor(x / (high + low) + 0.5);
  const r = x - k * high - k * low, sign = k % 2 ? -1 : 1;
  let cosine = 1, sine = 1;
  for (let n = 24; n > 0; n -= 2) {
    cosine = 1 - cosine * r * r / (n * (n - 1));
    sine = 1 - sine * r * r / (n * (n + 1));
  }
  return [sign * cosine, sign * sine * r];
}

// 256 entries a unit
const tables = W.once(() => ({
  normal: Float32Array.from({length: 4097}, (_, i) => normal(i / 256 - 8)),
  softplus: Float32Array.from({length: 8193}, (_, i) => softplus(i / 256 - 16)),
  exponent: Int32Array.from({length: 3841}, (_, i) => rint(2 ** 20 * exp(-i / 256))),
  frequency: frequencyTable(),
}));

/** floor(2^24 exp(-d / 64)), at least 1, for d = 0 .. 1087; in whole numbers of 160 bits. */
function frequencyTable() {
  let step = 0n, term = 1n << 160n, value = term;               // e^(-1/64): a series
  for (let n = 1n; term; n++) {
    step += term;
    term = -term / (64n * n);
  }
  return Int32Array.from({length: 1088}, () => {
    const now = Number(value >> 136n);
    value = value * step >> 160n;
    return Math.max(1, now);
  });
}

// ---- files of weights: wheeler/page.py ------------------------------------------------------------------------------

const halves = W.once(() => Float32Array.from({length: 65536}, (_, bits) => {
  const power = bits >> 10 & 31, rest = bits & 1023;
  return (bits >> 15 ? -1 : 1) * (power ? (1024 + rest) * 2 ** (power - 25) : rest * 2 ** -24);
}));

/** What a file says (an object) and its tensors by name; `given`: tensors whose rest this file has. */
function openPart(bytes, given) {
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const about = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length))), tensors = {};
  for (const [name, {kind, shape, at}] of Object.entries(about.tensors)) {
    const size = shape.reduce((a, b) => a * b, 1), data = bytes.subarray(4 + length + at), word = new Uint32Array(size);
    const planes = {levels: 0, half: 2, float: 4, "rest 13": 3, "rest 0": 4}[kind];
    for (let k = 0; k < planes; k++) for (let i = 0; i < size; i++) word[i] |= data[k * size + i] << 8 * k;
    if (kind === "levels") tensors[name] = {levels: new Int8Array(data.slice(0, size).buffer), width: shape[1]};
    else if (kind === "half") tensors[name] = new Float32Array(size).map((_, i) => halves()[word[i]]);
    else if (kind === "float") tensors[name] = new Float32Array(word.buffer);
    else tensors[name] = withRest(given[name], word, Number(kind.slice(5)));
    const scales = name.endsWith(".scales") && tensors[name.slice(0, -7)];
    if (scales) scales.scales = tensors[name];
  }
  return {...about, tensors};
}

/** The floats of which a matrix has the levels: sorted by the levels' sizes, what they lack as bits. */
function withRest({levels, scales, width}, word, shift) {
  const out = new Float32Array(levels.length).map((_, i) => levels[i] * scales[Math.floor(i / width)]);
  const next = new Uint32Array(129), bits = new Int32Array(out.buffer);
  for (const level of levels) next[Math.abs(level) + 1]++;
  for (let n = 1; n < 129; n++) next[n] += next[n - 1];
  for (let i = 0; i < bits.length; i++) {
    const folded = word[next[Math.abs(levels[i])]++];
    bits[i] = (bits[i] >> shift) + (folded >>> 1 ^ -(folded & 1)) << shift;
  }
  return out;
}

// ---- vectors as levels ----------------------------------------------------------------------------------------------

/** Float32Array -> levels -127 .. 127 into `out` from `start`; returns their scale. */
function quantise(x, out, start = 0) {
  let top = 0;
  for (let i = 0; i < x.length; i++) top = Math.max(top, Math.abs(x[i]));
  if (top < fround(1e-30)) return out.fill(0, start, start + x.length), 0;
  const inverse = fround(127 / top);
  for (let i = 0; i < x.length; i++) out[start + i] = rint(fround(x[i] * inverse));
  return fround(top / 127);
}

function matrixOf(weight, width) {
  const levels = new Int8Array(weight.length), scales = new Float32Array(weight.length / width);
  for (let n = 0; n < scales.length; n++)
    scales[n] = quantise(weight.subarray(n * width, (n + 1) * width), levels, n * width);
  return {levels, scales, width};
}

const HIGH = 2 ** 26;

/** The levels of a matrix, two rows in one float64: low + high * 2^26. A product with levels is below 2^24, so sums of
 * both rows are exact and one multiplication does for two. Rows are filled up to a multiple of 8. */
function packedRows(matrix) {
  const {levels, scales, width} = matrix, out = new Float64Array(Math.ceil(scales.length / 8) * 4 * width);
  for (let i = 0; i < levels.length; i++) {
    const row = Math.floor(i / width);
    out[(row >> 1) * width + i % width] += row % 2 ? levels[i] * HIGH : levels[i];
  }
  return matrix.packed = out;
}

/** Exact products of `rows` rows of levels x with a matrix, rows * N. */
function products(matrix, x, rows = 1) {
  const {width, scales: {length: n}, packed = packedRows(matrix)} = matrix, values = Float64Array.from(x);
  const pairs = packed.length / width, sums = new Float64Array((rows + 1) * pairs), out = new Int32Array(rows * n);
  for (let v = 0; v < pairs; v += 4) {
    const a = v * width, b = a + width, c = b + width, d = c + width;
    for (let r = 0; r < rows; r += 2) {                         // two rows at a time: fewer loads
      let a0 = 0, b0 = 0, c0 = 0, d0 = 0, a1 = 0, b1 = 0, c1 = 0, d1 = 0;
      const first = r * width, second = first + width, at = r * pairs + v, next = at + pairs;
      if (r + 1 === rows) for (let k = 0; k < width; k++) {
        const value = values[first + k];
        a0 += value * packed[a + k];
        b0 += value * packed[b + k];
        c0 += value * packed[c + k];
        d0 += value * packed[d + k];
      } else for (let k = 0; k < width; k++) {
        const one = values[first + k], two = values[second + k];
        const p = packed[a + k], q = packed[b + k], s = packed[c + k], t = packed[d + k];
        a0 += one * p;
        b0 += one * q;
        c0 += one * s;
        d0 += one * t;
        a1 += two * p;
        b1 += two * q;
        c1 += two * s;
        d1 += two * t;
      }
      sums[at] = a0, sums[at + 1] = b0, sums[at + 2] = c0, sums[at + 3] = d0;
      sums[next] = a1, sums[next + 1] = b1, sums[next + 2] = c1, sums[next + 3] = d1;
    }
  }
  for (let r = 0; r < rows; r++) for (let v = 0; v < n; v += 2) {
    const sum = sums[r * pairs + (v >> 1)], high = Math.round(sum / HIGH);
    out[r * n + v] = sum - high * HIGH;
    if (v + 1 < n) out[r * n + v + 1] = high;
  }
  return out;
}

/** Products (Float64Array) of a float vector, in two steps of levels. */
function productsTwice(matrix, vector) {
  const out = new Float64Array(matrix.scales.length), levels = new Int8Array(vector.length);
  let left = Float32Array.from(vector);
  for (let step = 0; step < 2; step++) {
    const scale = quantise(left, levels), sums = products(matrix, levels);
    for (let v = 0; v < out.length; v++) out[v] += sums[v] * (scale * matrix.scales[v]);
    left = left.map((value, i) => value - fround(levels[i] * scale));
  }
  return out;
}

function laneSum(x) {
  const lanes = new Float32Array(16), whole = x.length - x.length % 16;
  for (let i = 0; i < whole; i++) lanes[i % 16] += x[i];
  let total = 0;
  for (let i = 0; i < 16; i++) total = fround(total + lanes[i]);
  for (let i = whole; i < x.length; i++) total = fround(total + x[i]);
  return total;
}

function norm(x, weight) {
  const mean = fround(laneSum(x) / x.length), off = x.map(value => value - mean);
  const square = fround(laneSum(off.map(value => value * value)) / x.length);
  const inverse = fround(1 / fround(Math.sqrt(fround(square + fround(1e-5)))));
  return off.map((value, i) => fround(value * inverse) * weight[i]);
}

// ---- the model ------------------------------------------------------------------------------------------------------

/** A model from reader.bin, unpacked. `more(name)`: a promise of another file's bytes. */
class Model {
  constructor(bytes, more) {
    const {tensors: t, ...about} = openPart(bytes);
    Object.assign(this, about, {t, more, parts: {}, dim: t.centre.length, width: about.d_model / about.num_heads});
    this.fingerprint = (BigInt(`0x${this.weights}`) + BigInt(this.format)) % (1n << 64n);
    const {dim} = this, weight = Float64Array.from(t.weight, exp), table = t["table.weight"];
    Object.assign(this, {says: Float32Array.from(weight), usual: exp(t.length[0]), sharpness: exp(t.sharpness[0])});
    this.never = Float32Array.from(t.prior, prior => softplus(-prior));
    this.evidence = matrixOf(table.map((value, i) => value * this.says[Math.floor(i / dim)]), dim);
    this.squares = weight.map((w, v) => {
      let sum = 0;
      for (let i = v * dim; i < (v + 1) * dim; i++) sum += table[i] * table[i];
      return sum * (w * w);
    });
    const columns = (start, factor) => {
      const part = new Float32Array(this.d_model * dim), both = t["inject.weight"];
      return part.map((_, i) => both[Math.floor(i / dim) * 2 * dim + start + i % dim] * fround(factor));
    };
    this.injectEstimate = matrixOf(columns(0, (2 * dim) ** -0.5), dim);
    this.injectSaid = matrixOf(columns(dim, 2 ** -0.5 / this.usual), dim);
    this.rope = Array.from({length: this.max_seq_len}, (_, at) => {
      const turns = Array.from({length: this.width / 2}, (_, j) =>
        cosineAndSine(at * exp(-2 * j / this.width * 9.210340371976184)));
      return [0, 1].map(which => Float32Array.from(turns, turn => turn[which]));
    });
    const letters = [...Array(256).keys()], shown = n => n > 32 && n < 127 || n > 160 && n !== 173;
    const hidden = letters.filter(n => !shown(n));              // bytes that byte-level BPE writes as other letters
    this.letters = letters.map(n => String.fromCodePoint(shown(n) ? n : 256 + hidden.indexOf(n)));
    this.bytes = new Map(this.letters.map((letter, n) => [letter, n]));
    const {cells, count} = W.tileWords();
    this.mean = new Float64Array(64).map((_, c) => {
      let sum = 0;
      for (let n = c; n < cells.length; n += 64) sum += cells[n];
      return sum / count;
    });
  }

  /** The tensors of another file, loaded when they are first asked for; those of gist.bin without the levels. */
  part(name) {
    return this.parts[name] ??= this.more(name).then(bytes => {
      const part = openPart(bytes, this.t);
      if (part.weights !== this.weights) throw new Error(`${name}.bin belongs to other weights`);
      return part.tensors;
    }).catch(error => {
      delete this.parts[name];
      throw error;
    });
  }

  textOf(ids) {
    const letters = ids.filter(id => !this.special.includes(id)).map(id => this.tokens[id]).join("");
    return new TextDecoder("utf-8", {ignoreBOM: true}).decode(Uint8Array.from(letters, c => this.bytes.get(c)));
  }

  /** Row `n` of the projections of all tiles: `dim` signs. */
  projection(n) {
    const {dim} = this, size = 2 ** Math.ceil(Math.log2(dim)), block = Math.floor(n / size), row = n % size;
    this.signs ??= [];
    const bits = this.signs[block] ??= W.shake256(new TextEncoder().encode(`meaning ${block}`), Math.ceil(dim / 8));
    const parity = x => (x ^= x >> 8, x ^= x >> 4, 0x6996 >> (x & 15) & 1);
    return Int8Array.from({length: dim}, (_, i) => parity(row & i) ^ bits[i >> 3] >> 7 - i % 8 & 1 ? -1 : 1);
  }

  /** The code of 64 cells: their mean taken off, in the basis. */
  codeOf(cells) {
    const code = new Float64Array(CODE), {basis} = this.t;
    for (let c = 0; c < 64; c++)
      for (let i = 0; i < CODE; i++) code[i] += (cells[c] - this.mean[c] * Math.abs(cells[c])) * basis[c * CODE + i];
    return code;
  }

  /** What tiles (a list of 64 cells each) tell of a meaning, if they count as so many. */
  estimate(tiles, count = tiles.length) {
    const out = new Float64Array(this.dim);
    tiles.forEach((cells, k) => this.codeOf(cells).forEach((value, c) => {
      const row = this.projection(k * CODE + c);
      for (let i = 0; i < out.length; i++) out[i] += value * row[i];
    }));
    return out.map(value => value * (Math.sqrt(this.dim) / (SLOPE * CODE) / Math.max(count, 1e-6)));
  }

  /** What an estimate that comes from so many tiles tells: sums (of the size of token sums), sharp, trust. */
  told(estimate, count) {
    const {dim, usual} = this, signal = SIGNAL * Math.max(count, 1e-6);
    return {trust: 1 / (1 + dim / signal), sharp: this.sharpness / (usual * usual * (1 / signal + 1 / dim)),
            sums: estimate.map((value, i) => usual * (value / Math.sqrt(dim) + this.t.centre[i]))};
  }
}

/** The decoder in whole numbers, told by the numbers of some meaning tiles. */
class Decoder {
  constructor(model, tiles) {
    const {t, dim, d_model: d, max_seq_len: length} = model, {cells} = W.tileWords();
    Object.assign(this, {model, told: tiles.length > 0, said: new Float32Array(dim), seen: [], at: 0});
    this.layers = Array.from({length: model.decoder_layers}, (_, k) => {
      const of = name => t[`${k}.${name}`];
      return {query: of("query_key_value"), out: of("out"), up: of("up"), down: of("down"), normSelf: of("norm_self"),
              normMlp: of("norm_mlp"), keys: new Int8Array(d * length), values: new Int8Array(d * length),
              keyScales: new Float32Array(model.num_heads * length),
              valueScales: new Float32Array(model.num_heads * length)};
    });
    if (!this.told) return;
    const estimate = model.estimate(tiles.map(tile => cells.subarray(tile * 64, tile * 64 + 64)));
    const {trust, sharp, sums} = model.told(estimate, tiles.length);
    this.constant = Float32Array.from(productsTwice(model.injectEstimate, estimate.map(value => value * trust)));
    this.odds = Float32Array.from(productsTwice(model.evidence, sums),
                                  (value, v) => t.prior[v] + sharp * (value - model.squares[v] / 2));
    this.sharp = fround(sharp);
  }

  /** Read tokens, each the one before the position whose logits are wanted (bos at the first): a function that gives
   * the logits (Float32Array) of the r-th. */
  read(tokens) {
    const {model, told, seen} = this, {t, dim, d_model: d} = model, first = this.at, rows = tokens.length;
    const saidLevels = new Int8Array(rows * dim), saidScales = new Float32Array(rows);
    tokens.forEach((token, r) => {
      if (first + r) this.say(token);
      saidScales[r] = quantise(this.said, saidLevels, r * dim);
    });
    const x = tokens.map(token => t.embedding.slice(token * d, token * d + d));
    if (told) this.add(x, model.injectSaid, saidLevels, saidScales, this.constant);
    for (const layer of this.layers) {
      let [levels, scales] = levelsOf(x.map(row => norm(row, layer.normSelf)));
      const sums = products(layer.query, levels, rows);
      [levels, scales] = levelsOf(x.map((_, r) => this.attend(layer, sums.subarray(r * 3 * d), scales[r], first + r)));
      this.add(x, layer.out, levels, scales);
      [levels, scales] = levelsOf(x.map(row => norm(row, layer.normMlp)));
      const up = products(layer.up, levels, rows), wide = layer.up.scales.length, {normal} = tables();
      [levels, scales] = levelsOf(x.map((_, r) => new Float32Array(wide).map((_, i) => {
        const value = fround(up[r * wide + i] * fround(scales[r] * layer.up.scales[i]));
        return value * normal[rint(fround(Math.min(Math.max(value, -8), 8) * 256)) + 2048];
      })));
      this.add(x, layer.down, levels, scales);
    }
    this.at += rows;
    const last = x.map(row => norm(row, t.norm_out)), [levels, scales] = levelsOf(last), size = model.vocab_size;
    const head = products(t.head, levels, rows), gone = told && products(model.evidence, saidLevels, rows);
    return r => this.logits(head.subarray(r * size, r * size + size), scales[r], last[r], first + r,
                            gone && gone.subarray(r * size, r * size + size), saidScales[r]);
  }

  /** The sum of what was said, one token more. */
  say(token) {
    const {model, said, seen} = this, {dim} = model, vectors = model.t["table.weight"];
    const times = seen.reduce((count, other) => count + (other === token), 1);
    const share = token === model.eos_token_id ? 0 : fround(model.says[token] / times);
    seen.push(token);
    for (let i = 0; i < dim; i++) said[i] += fround(vectors[token * dim + i] * share);
  }

  /** x (rows of floats) += products of levels with a matrix, and a constant. */
  add(x, matrix, levels, scales, constant) {
    const sums = products(matrix, levels, x.length), n = matrix.scales.length;
    x.forEach((row, r) => {
      for (let i = 0; i < n; i++) {
        const value = fround(sums[r * n + i] * fround(scales[r] * matrix.scales[i]));
        row[i] += constant ? fround(constant[i] + value) : value;
      }
    });
  }

  /** Self-attention of position t to all so far, from its products for queries, keys and values. */
  attend(layer, sums, scale, t) {
    const {num_heads: heads, width, d_model: d, max_seq_len: length, rope} = this.model, {exponent} = tables();
    const [cosine, sine] = rope[t], half = width / 2, root = fround(1 / Math.sqrt(width)), out = new Float32Array(d);
    const value = at => fround(sums[at] * fround(scale * layer.query.scales[at]));
    const turned = start => {
      const part = new Float32Array(width);
      for (let i = 0; i < half; i++) {
        const a = value(start + i), b = value(start + half + i);
        part[i] = fround(a * cosine[i]) - fround(b * sine[i]);
        part[half + i] = fround(b * cosine[i]) + fround(a * sine[i]);
      }
      return part;
    };
    const levels = new Int8Array(width), score = new Float32Array(t + 1);
    for (let h = 0; h < heads; h++) {
      const low = h * width, own = h * length;
      layer.keyScales[own + t] = quantise(turned(d + low), levels);
      for (let i = 0; i < width; i++) layer.keys[(low + i) * length + t] = levels[i];
      layer.valueScales[own + t] = quantise(new Float32Array(width).map((_, i) => value(2 * d + low + i)), levels);
      layer.values.set(levels, (own + t) * width);
      const query = turned(low);
      score.fill(0);
      for (let i = 0; i < width; i++) {
        const keys = layer.keys.subarray((low + i) * length), by = query[i];
        for (let s = 0; s <= t; s++) score[s] += fround(by * keys[s]);
      }
      let top = -Infinity, total = 0;
      for (let s = 0; s <= t; s++) {
        score[s] *= fround(layer.keyScales[own + s] * root);
        top = Math.max(top, score[s]);
      }
      const mixed = out.subarray(low, low + width);
      for (let s = 0; s <= t; s++) {
        const place = Math.min(fround(fround(fround(top - score[s]) * 256) + 0.5), exponent.length - 1);
        const weight = exponent[Math.floor(place)], by = fround(weight * layer.valueScales[own + s]);
        total += weight;
        for (let i = 0; i < width; i++) mixed[i] += fround(by * layer.values[(own + s) * width + i]);
      }
      for (let i = 0; i < width; i++) mixed[i] /= fround(total);
    }
    return out;
  }

  /** Logits from the products with the head and with the tokens' vectors. */
  logits(sums, scale, hidden, t, gone, goneScale) {
    const {model: {t: w, never, evidence}, odds, sharp, seen} = this, head = w.head.scales, {softplus} = tables();
    const plain = v => fround(sums[v] * fround(scale * head[v])), out = new Float32Array(sums.length);
    for (let v = 0; v < out.length; v++) out[v] = plain(v);
    if (!gone) return out;
    const gate = laneSum(hidden.map((value, i) => value * w["gate.weight"][i])) + w["gate.bias"][0];
    const trust = fround(2 * sigmoid(gate)), by = fround(goneScale * sharp);
    for (let v = 0; v < out.length; v++) {
      const x = fround(fround(gone[v] * fround(by * evidence.scales[v])) - odds[v]);
      const place = rint(fround(Math.min(Math.max(x, -16), 16) * 256)) + 4096;
      out[v] += fround(trust * fround(never[v] - Math.max(fround(x - 16), 0)));
      out[v] -= fround(trust * softplus[place]);
    }
    for (let s = 0; s < t; s++) out[seen[s]] = plain(seen[s]);  // what was said gains nothing
    return out;
  }
}

/** Rows of floats -> their levels, one after the other, and scales. */
function levelsOf(rows) {
  const levels = new Int8Array(rows.length * rows[0].length);
  return [levels, Float32Array.from(rows, (row, r) => quantise(row, levels, r * row.length))];
}

// ---- from numbers to words ------------------------------------------------------------------------------------------

/** Logits -> the frequency of every token, and their sum. */
function frequencies(logits) {
  const {frequency} = tables(), out = new Int32Array(logits.length), top = logits[W.largest(logits)];
  let total = 0;
  for (let v = 0; v < out.length; v++) {
    out[v] = frequency[rint(Math.min(fround(fround(top - logits[v]) * 64), 1087))];
    total += out[v];
  }
  return {out, total};
}

const SAID = 200, PAIR = 40, START = 0.95, KEPT = 0.95;         // wheeler/frame/cache.py

/** What follows what, in the primer and in a text so far, as a second opinion beside the decoder's. */
class Cache {
  constructor(model) {
    const counts = model.counts ??= countsOf(model);
    Object.assign(this, {counts, seen: [], weight: START});
  }

  /** How much each token is expected, and the sum of it. */
  expected() {
    const {seen, counts: {single, sum, pairs}} = this, before = seen.at(-1), next = pairs.get(before) ?? new Map();
    const own = seen.filter((_, s) => s && seen[s - 1] === before), kinds = 1 + next.size + own.length;
    const said = sum + SAID * seen.length, out = Float64Array.from(single, count => kinds * count);
    let all = kinds + PAIR * own.length;
    for (const token of seen) out[token] += kinds * SAID;
    for (const [token, times] of next) out[token] += said * times, all += times;
    for (const token of own) out[token] += said * PAIR;
    return {out, total: said * all};
  }

  /** The decoder's frequencies and those of the cache as one. */
  mix(decoder) {
    const cache = this.expected(), ours = this.weight * 2 ** 30 / decoder.total, out = new Int32Array(decoder.out.length);
    const others = (1 - this.weight) * 2 ** 30 / cache.total;
    let total = 0;
    for (let v = 0; v < out.length; v++)
      total += out[v] = 1 + Math.trunc(decoder.out[v] * ours) + Math.trunc(cache.out[v] * others);
    Object.assign(this, {decoder, cache});
    return {out, total};
  }

  /** The next token is known: learn how much the decoder counts. */
  say(token) {
    const {weight, decoder, cache} = this, ours = weight * (decoder.out[token] / decoder.total);
    const others = (1 - weight) * (cache.out[token] / cache.total);
    this.weight = KEPT * (ours / (ours + others)) + (1 - KEPT) * START;
    this.seen.push(token);
  }
}

/** Tokens and pairs of the primer: how often each token stands there, and 1; their sum; what follows each, how often. */
function countsOf({primer, vocab_size: size}) {
  const single = new Int32Array(size).fill(1), pairs = new Map();
  primer.forEach((token, at) => {
    single[token]++;
    if (!at) return;
    const before = primer[at - 1], next = pairs.get(before) ?? pairs.set(before, new Map()).get(before);
    next.set(token, (next.get(token) ?? 0) + 1);
  });
  return {single, pairs, sum: size + primer.length};
}

const checksum = numbers => W.crc32(new Uint8Array(Uint32Array.from(numbers).buffer)) % CHECKSUM;

/** What a frame of a film says before its words: [the film's number, the frame's place from 0, how many frames]. */
function partOf(coder) {
  const film = coder.choice(2 ** 24), count = coder.choice(2 ** coder.choice(32)) + 1;
  return [film, coder.choice(count), count];
}

/** What a number says: {ids, exact, bits, part}. size: of the interval around it; lost: after how many bits it is
 * noise; film: whether a part comes first; heard(ids, bits): after every token, may be a promise. */
async function decode(model, {number, size, tiles, lost, film}, heard) {
  const bits = W.bitsOfNumber(model.side, model.side), coder = new W.Coder(bits, number), ids = [];
  const most = lost ?? (size ? bits - W.log2(size) : Infinity), decoder = new Decoder(model, tiles);
  const part = film ? partOf(coder) : null, cache = new Cache(model);
  while (ids.length < model.max_seq_len) {
    const {out, total} = cache.mix(frequencies(decoder.read([ids.at(-1) ?? model.bos_token_id])(0)));
    const wanted = coder.place(total);
    let start = 0, token = 0;
    while (start + out[token] <= wanted) start += out[token++];
    if (!coder.narrow(start, start + out[token], total) || coder.spent > most) break;
    ids.push(token);
    cache.say(token);
    await heard?.(ids, coder.spent);
    if (token !== model.eos_token_id) continue;
    return {ids, exact: coder.choice(CHECKSUM) === checksum([...ids, ...part ?? []]), bits: coder.spent, part};
  }
  return {ids, exact: false, bits: coder.spent, part};
}

/** What an undamaged frame of these weights may say with so many rows of words. */
function candidate(model, frame, tiles, rows) {
  const {side} = model, coder = new W.Coder(W.bitsOfNumber(side, side));
  const wrong = W.walk(frame, side, side, rows, coder, true), {lost} = coder;
  const numbers = tiles.slice(1, 1 + W.meaningCount(side, side, rows)).map(cells => {
    const number = W.tileNumber(cells);
    return number < 0 ? W.largest(W.likenesses(cells)) : number;                // damaged: the nearest
  });
  return {number: coder.low + coder.size / 2n, size: coder.size, tiles: numbers, lost, wrong};
}

return {Model, Decoder, Cache, decode, candidate, frequencies, checksum, exp, sigmoid, softplus, normal, rint, CODE, CHECKSUM};
})();

if (typeof module !== "undefined") module.exports = Reader;
