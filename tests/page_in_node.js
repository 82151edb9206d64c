"use strict";
// Runs the scripts of page/ in Node for tests/test_page.py: node page_in_node.js FOLDER, a JSON list of calls on
// standard input, a JSON list of results on standard output. FOLDER: the page as wheeler/page.py builds it.

const fs = require("fs"), path = require("path"), zlib = require("zlib");

const folder = path.resolve(process.argv[2]), use = name => require(path.join(folder, `${name}.js`));
const Wheeler = use("wheeler");
const unpacked = name => new Uint8Array(zlib.gunzipSync(fs.readFileSync(path.join(folder, `${name}.bin`))));
const floats = text => new Float32Array(Uint8Array.from(Buffer.from(text, "base64")).buffer);
const text = frame => Buffer.from(Float32Array.from(frame).buffer).toString("base64");
let model = null;
const loaded = () => model ??= new (use("reader").Model)(unpacked("reader"), async name => unpacked(name));

const CALLS = {
  run({frame, h, w}) {
    const {history, ticks, state, period} = Wheeler.run(floats(frame), h, w);
    return {ticks, state, period, final: text(history[ticks])};
  },
  toLink: ({frame}) => Wheeler.toLink(floats(frame), 64, 64),
  fromLink({link}) {
    const frame = Wheeler.fromLink(link, 64, 64);
    return frame && text(frame);
  },
  async read({frame}) {
    const heard = [], found = await use("damaged").read(loaded(), floats(frame), ({share}) => { heard.push(share); });
    return {...found, heard: heard.length, whole: heard.every(share => share >= 0 && share <= 1.001)};
  },
  async png({frame, weights}) {
    const file = await use("pictures").png(floats(frame), 64, weights);
    return Buffer.from(await file.arrayBuffer()).toString("base64");
  },
  encode: ({text}) => use("writer").encode(loaded(), text),
  async write({text: given}) {
    const {frame, ...rest} = await use("writer").write(loaded(), given);
    return {...rest, frame: text(frame)};
  },
};

(async () => {
  const out = [];
  for (const {call, ...given} of JSON.parse(fs.readFileSync(0, "utf8"))) out.push(await CALLS[call](given));
  process.stdout.write(JSON.stringify(out));
})();
