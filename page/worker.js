"use strict";
// Reads and writes frames beside the page, so that the page never waits. Messages in: {job, kind: "read", frame} and
// {job, kind: "write", text}; a new job ends the one before. Messages out: {job, kind: "loading", name, loaded, total},
// {job, kind: "heard", text, share, gist}, and last {job, kind: "read" or "written", ...} or {kind: "failed", why}.

importScripts("wheeler.js", "reader.js", "damaged.js", "writer.js");

let latest = 0, model = null;

class Stale extends Error {}

/** Lets messages in, and ends a job that is not wanted any more. */
function pause(job) {
  return new Promise((resolve, reject) => {
    const {port1, port2} = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      if (job === latest) resolve();
      else reject(new Stale());
    };
    port2.postMessage(0);
  });
}

/** The unpacked bytes of a file of weights. */
async function load(name) {
  const say = (loaded, total) => postMessage({job: latest, kind: "loading", name, loaded, total});
  let loaded = 0, response;
  try {
    response = await fetch(`${name}.bin`);
  } catch {
    throw new Error("The network could not be loaded: is there a connection?");
  }
  if (!response.ok) throw new Error(`The file ${name}.bin is not beside this page: the folder is incomplete.`);
  const total = Number(response.headers.get("content-length"));
  say(0, total);
  const counted = new TransformStream({transform(chunk, out) {
    loaded += chunk.length;
    say(loaded, total);
    out.enqueue(chunk);
  }});
  try {
    const plain = response.body.pipeThrough(counted).pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(plain).arrayBuffer());
  } catch {
    throw new Error(`The file ${name}.bin did not arrive whole. Try again.`);
  }
}

const ready = () => model ??= load("reader").then(bytes => new Reader.Model(bytes, load)).catch(error => {
  model = null;
  throw error;
});

onmessage = async ({data: {job, kind, frame, text}}) => {
  latest = job;
  let shown = 0;
  const hears = async found => {
    if (performance.now() - shown > 30) {
      postMessage({job, kind: "heard", ...found});
      shown = performance.now();
    }
    await pause(job);
  };
  try {
    const loaded = await ready();
    await pause(job);
    const {ids, ...found} = kind === "read" ? await Damaged.read(loaded, frame, hears) :
      await Writer.write(loaded, text, share => hears({share}));
    postMessage({job, kind: kind === "read" ? "read" : "written", ...found});
  } catch (error) {
    if (!(error instanceof Stale)) postMessage({job, kind: "failed", why: error.message});
  }
};
