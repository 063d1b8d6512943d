#!/usr/bin/env python3
"""A peer of penstock-serve bench: ONNX Runtime behind FastAPI, pictures through
Pillow, as an ordinary Python service has them.

    server.py --model peer.json --port 7002 [--workers 2] [--threads 1] [--inline 0|1]

Runs under uvicorn with uvloop and httptools. --workers are processes, --threads
the intra-op threads of a run. A request's work goes to Starlette's thread pool,
so that one process can run several at a time (ONNX Runtime and Pillow let go of
the interpreter's lock); with --inline 1 it is done on the event loop, which
saves the hand-over where every core has a process of its own.

Routes: POST /v2/models/NAME/infer (JSON, or the binary tensor extension), POST
/v1/models/NAME/predict (a picture), GET /ready.

Needs: fastapi, uvicorn, uvloop, httptools, onnxruntime, NumPy, Pillow.
"""
import argparse
import io
import json
import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before ONNX Runtime is loaded
os.environ.setdefault("OMP_NUM_THREADS", "1")  # NumPy's, not ONNX Runtime's

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, Request, Response
from PIL import Image
from starlette.concurrency import run_in_threadpool

HEAD = "inference-header-content-length"


class Model:
    def __init__(self, spec, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.spec = spec
        self.session = onnxruntime.InferenceSession(spec["model"], options, providers=["CPUExecutionProvider"])
        self.names = [o.name for o in self.session.get_outputs()]
        self.labels = [(l["name"], l["threshold"]) for l in spec["labels"]]
        # x * scale, minus mean, over std, in one multiplication and one sum
        std = np.array(spec["std"], np.float32)
        self.factor = (np.float32(spec["scale"]) / std)[:, None, None]
        self.shift = (np.array(spec["mean"], np.float32) / std)[:, None, None]

    def run(self, data):
        return self.session.run(None, {self.spec["input"]: data})

    def predict(self, body):
        s = self.spec
        image = Image.open(io.BytesIO(body)).convert("L" if s["channels"] == 1 else "RGB")
        pixels = np.asarray(image.resize((s["width"], s["height"]), Image.BILINEAR))
        planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        data = np.ascontiguousarray(planes * self.factor - self.shift, dtype=np.float32)[None]
        scores = self.run(data)[self.names.index(s["scores"])][0].tolist()
        predictions = [{"label": name, "score": score, "threshold": threshold, "positive": score >= threshold}
                       for (name, threshold), score in zip(self.labels, scores)]
        return Response(json.dumps({"model": {"name": s["name"]}, "predictions": predictions}), media_type="application/json")

    def infer(self, body, head):
        request = json.loads(body if head is None else body[:head])
        tensor = request["inputs"][0]
        if head is None:
            data = np.array(tensor["data"], np.float32)
        else:
            data = np.frombuffer(body, np.float32, offset=head, count=tensor["parameters"]["binary_data_size"] // 4) \
                if head % 4 == 0 else np.frombuffer(body[head:], np.float32)
        outputs = self.run(data.reshape(tensor["shape"]))
        answer = {"model_name": self.spec["name"], "model_version": "1"}
        if head is None:
            answer["outputs"] = [{"name": n, "datatype": "FP32", "shape": o.shape, "data": o.ravel().tolist()}
                                 for n, o in zip(self.names, outputs)]
            return Response(json.dumps(answer), media_type="application/json")
        answer["outputs"] = [{"name": n, "datatype": "FP32", "shape": o.shape, "parameters": {"binary_data_size": o.nbytes}}
                             for n, o in zip(self.names, outputs)]
        text = json.dumps(answer).encode()
        return Response(b"".join([text] + [o.tobytes() for o in outputs]), media_type="application/octet-stream",
                        headers={HEAD: str(len(text))})


def application():
    """Made in every worker of uvicorn."""
    settings = json.loads(os.environ["PEER_SETTINGS"])
    with open(settings["model"]) as f:
        model = Model(json.load(f), settings["threads"])
    app, name, inline = FastAPI(), model.spec["name"], settings["inline"]

    async def work(function, *args):
        return function(*args) if inline else await run_in_threadpool(function, *args)

    @app.get("/ready")
    async def ready():
        return Response("ready\n")

    @app.post(f"/v1/models/{name}/predict")
    async def predict(request: Request):
        return await work(model.predict, await request.body())

    @app.post(f"/v2/models/{name}/infer")
    async def infer(request: Request):
        head = request.headers.get(HEAD)
        return await work(model.infer, await request.body(), None if head is None else int(head))

    return app


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--port", type=int, required=True)
    p.add_argument("--workers", type=int, default=2)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--inline", type=int, default=0)
    args = p.parse_args()
    os.environ["PEER_SETTINGS"] = json.dumps({"model": args.model, "threads": args.threads, "inline": bool(args.inline)})
    uvicorn.run("server:application", factory=True, app_dir=os.path.dirname(os.path.abspath(__file__)), host="127.0.0.1",
                port=args.port, workers=args.workers, loop="uvloop", http="httptools", access_log=False,
                log_level="warning", timeout_keep_alive=600)


if __name__ == "__main__":
    main()
