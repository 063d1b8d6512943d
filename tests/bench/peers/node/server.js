// A peer of penstock-serve bench: ONNX Runtime behind Node's own http, pictures
// through sharp (libvips, libjpeg-turbo), as an ordinary Node service has them.
//
//   node server.js --model peer.json --port 7001 [--workers 2] [--threads 1] [--shrink 0|1]
//
// onnxruntime-node runs a session on the thread that calls it, so that more
// than one run at a time needs more than one process: node's cluster. --shrink
// lets libjpeg scale while it decodes, sharp's default, which is faster and less
// exact. Routes: POST /v2/models/NAME/infer (JSON, or the binary tensor
// extension), POST /v1/models/NAME/predict (a picture), GET /ready.
"use strict";
const cluster = require("node:cluster");
const fs = require("node:fs");
const http = require("node:http");
const { parseArgs } = require("node:util");

const { values: flags } = parseArgs({
  options: {
    model: { type: "string" },
    port: { type: "string" },
    workers: { type: "string", default: "2" },
    threads: { type: "string", default: "1" },
    shrink: { type: "string", default: "1" },
  },
});

const HEAD = "inference-header-content-length";

function primary() {
  for (let i = 0; i < Number(flags.workers); i++) cluster.fork();
  cluster.on("exit", (worker, code) => process.exit(code || 1));
  process.on("SIGTERM", () => process.exit(0)); // the workers end with their channel
}

async function worker() {
  const ort = require("onnxruntime-node");
  const sharp = require("sharp");
  sharp.concurrency(1);
  sharp.cache(false); // every request is a new picture
  const spec = JSON.parse(fs.readFileSync(flags.model, "utf8"));
  const session = await ort.InferenceSession.create(spec.model, {
    intraOpNumThreads: Number(flags.threads),
    interOpNumThreads: 1,
    executionMode: "sequential",
  });

  const run = (shape, data) => session.run({ [spec.input]: new ort.Tensor("float32", data, shape) });

  async function picture(body) {
    const { width, height, channels, mean, std, scale } = spec;
    let image = sharp(body).resize(width, height, {
      fit: "fill", kernel: "linear", fastShrinkOnLoad: flags.shrink === "1",
    });
    image = channels === 1 ? image.greyscale() : image.toColourspace("srgb");
    const { data, info } = await image.removeAlpha().raw().toBuffer({ resolveWithObject: true });
    const plane = width * height;
    const out = new Float32Array(plane * channels);
    for (let c = 0; c < channels; c++) {
      const from = info.channels === 1 ? 0 : c;
      const a = scale / std[c], b = mean[c] / std[c];
      for (let i = 0, k = from; i < plane; i++, k += info.channels) out[c * plane + i] = data[k] * a - b;
    }
    return out;
  }

  async function predict(body) {
    const data = await picture(body);
    const outputs = await run([1, spec.channels, spec.height, spec.width], data);
    const scores = outputs[spec.scores].data;
    const predictions = spec.labels.map((l, i) => ({
      label: l.name, score: scores[i], threshold: l.threshold, positive: scores[i] >= l.threshold,
    }));
    return { type: "application/json", body: Buffer.from(JSON.stringify({ model: { name: spec.name }, predictions })) };
  }

  async function infer(body, headLength) {
    const head = JSON.parse(headLength === undefined ? body.toString() : body.toString("utf8", 0, headLength));
    const input = head.inputs[0];
    let data;
    if (headLength === undefined) {
      data = Float32Array.from(input.data);
    } else {
      const at = body.byteOffset + headLength; // a copy: a Float32Array must begin at a multiple of 4
      data = new Float32Array(body.buffer.slice(at, at + input.parameters.binary_data_size));
    }
    const outputs = await run(input.shape, data);
    const names = Object.keys(outputs);
    const describe = (name, extra) => ({ name, datatype: "FP32", shape: outputs[name].dims, ...extra });
    const answer = { model_name: spec.name, model_version: "1" };
    if (headLength === undefined) {
      answer.outputs = names.map((n) => describe(n, { data: Array.from(outputs[n].data) }));
      return { type: "application/json", body: Buffer.from(JSON.stringify(answer)) };
    }
    answer.outputs = names.map((n) => describe(n, { parameters: { binary_data_size: outputs[n].data.byteLength } }));
    const text = Buffer.from(JSON.stringify(answer));
    const parts = names.map((n) => Buffer.from(outputs[n].data.buffer, outputs[n].data.byteOffset, outputs[n].data.byteLength));
    return { type: "application/octet-stream", head: text.length, body: Buffer.concat([text, ...parts]) };
  }

  async function answer(request) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
    switch (request.url) {
      case "/ready": return { type: "text/plain", body: Buffer.from("ready\n") };
      case `/v1/models/${spec.name}/predict`: return predict(body);
      case `/v2/models/${spec.name}/infer`: {
        const length = request.headers[HEAD];
        return infer(body, length === undefined ? undefined : Number(length));
      }
    }
    return { status: 404, type: "text/plain", body: Buffer.from("no such route\n") };
  }

  const server = http.createServer((request, response) => {
    answer(request).catch((error) => ({ status: 500, type: "text/plain", body: Buffer.from(String(error)) })).then((a) => {
      const headers = { "Content-Type": a.type, "Content-Length": a.body.length };
      if (a.head !== undefined) headers[HEAD] = a.head;
      response.writeHead(a.status || 200, headers);
      response.end(a.body);
    });
  });
  server.keepAliveTimeout = 600_000;
  server.listen(Number(flags.port), "127.0.0.1");
}

if (cluster.isPrimary) primary();
else worker();
