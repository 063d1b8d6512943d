#!/usr/bin/env python3
"""Sends each model's tensors by tritonclient over every way there is, and
compares the answers: with what is wanted, and with each other.

    vectors.py HTTP GRPC FOLDER...       HTTP and GRPC are addresses, a FOLDER is one that models.py wrote

Prints "ok MODEL ROUTE DIFFERENCE" for each, with the greatest difference
relative to max(1, |wanted|), or "FAIL MODEL ROUTE why". Models with FP16 or
BF16, which cannot travel as JSON, have no route json.
"""
import json
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

TOLERANCE = 2e-4
HALVES = {"FP16", "BF16"}


def load(folder):
    """The model's inputs and outputs: name, datatype, array."""
    described = json.loads((folder / "tensors.json").read_text())

    def array(t):
        a = np.frombuffer((folder / t["file"]).read_bytes(), dtype=t["npy"]).reshape(t["shape"])
        return a.view(ml_dtypes.bfloat16) if t["datatype"] == "BF16" else a

    return ([(t["name"], t["datatype"], array(t)) for t in described[side]] for side in ("inputs", "outputs"))


def infer(client, module, model, inputs, outputs, **how):
    sent = []
    for name, datatype, array in inputs:
        tensor = module.InferInput(name, array.shape, datatype)
        tensor.set_data_from_numpy(array, **how)
        sent.append(tensor)
    wanted = [module.InferRequestedOutput(name, **how) for name, _, _ in outputs]
    answer = client.infer(model, sent, outputs=wanted)
    return {name: answer.as_numpy(name) for name, _, _ in outputs}


def difference(got, want):
    assert got.shape == want.shape, f"shape {got.shape}, want {want.shape}"
    if want.size == 0:
        return 0.0
    got, want = got.astype(np.float64), want.astype(np.float64)
    return float(np.max(np.abs(got - want) / np.maximum(1, np.abs(want))))


def routes(http, grpc, name, inputs, outputs):
    """Each way with its name."""
    yield "binary", lambda: infer(http, tritonclient.http, name, inputs, outputs, binary_data=True)
    yield "grpc", lambda: infer(grpc, tritonclient.grpc, name, inputs, outputs)
    if not any(datatype in HALVES for _, datatype, _ in inputs + outputs):
        yield "json", lambda: infer(http, tritonclient.http, name, inputs, outputs, binary_data=False)


def try_model(http, grpc, folder):
    name = folder.name
    inputs, outputs = load(folder)
    first = None
    for route, ask in routes(http, grpc, name, inputs, outputs):
        try:
            got = ask()
            worst = max(difference(got[n], want) for n, _, want in outputs)
            assert worst <= TOLERANCE, f"differs by {worst}"
            first = first or got
            for n, _, _ in outputs:
                assert got[n].tobytes() == first[n].tobytes(), f"{n} is not what came over the first route"
            yield name, route, worst
        except (AssertionError, InferenceServerException) as e:
            yield name, route, e


def main(http_address, grpc_address, *folders):
    with tritonclient.http.InferenceServerClient(http_address, network_timeout=30) as http:
        with tritonclient.grpc.InferenceServerClient(grpc_address) as grpc:
            for folder in folders:
                for name, route, result in try_model(http, grpc, Path(folder)):
                    word = "ok" if isinstance(result, float) else "FAIL"
                    print(word, name, route, result, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
