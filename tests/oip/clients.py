#!/usr/bin/env python3
"""Every call of tritonclient that the Open Inference Protocol has, over HTTP and
gRPC, and the exact form of what is refused.

    clients.py HTTP GRPC FOLDER     HTTP and GRPC are addresses; FOLDER is the model types of models.py

The server serves types, roots (square roots of x [n] as y) and has a name,
empty, under which nothing is loaded. Prints "ok CHECK" or "FAIL CHECK why".
"""
import json
import sys
import traceback
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from vectors import load

CHECKS = []


def check(f):
    CHECKS.append(f)
    return f


class Way:
    """One of the two clients, with what differs between them."""

    def __init__(self, name, module, client, codes):
        self.name, self.module, self.client, self.codes = name, module, client, codes

    def input(self, name="x", datatype="FP32", values=(4, 9), kind=np.float32, **how):
        array = np.array(values, kind)
        tensor = self.module.InferInput(name, array.shape, datatype)
        tensor.set_data_from_numpy(array, **how)
        return tensor

    def roots(self, *inputs, **how):
        return self.client.infer("roots", list(inputs) or [self.input()], **how)

    def every_datatype(self, folder):
        inputs, _ = load(folder)
        return [self.input(name, datatype, array, array.dtype) for name, datatype, array in inputs]

    def metadata(self, model, version=""):
        got = self.client.get_model_metadata(model, version) if self.name == "http" else self.client.get_model_metadata(model, version, as_json=True)
        return got

    def refused(self, kind, says, ask):
        """What ask() raises has the code of the kind and says so."""
        try:
            answer = ask()
        except InferenceServerException as e:
            assert str(e.status()) == self.codes[kind], f"status {e.status()}, want {self.codes[kind]}: {e.message()}"
            assert says in e.message(), f"{e.message()!r} does not say {says!r}"
            return
        raise AssertionError(f"was answered: {answer}")


HTTP = {"bad": "400", "format": "415", "unknown": "404", "none": "503"}
GRPC = {"bad": "StatusCode.INVALID_ARGUMENT", "unknown": "StatusCode.NOT_FOUND", "none": "StatusCode.UNAVAILABLE"}


@check
def server_is_live(way):
    assert way.client.is_server_live()


@check
def server_is_not_ready_while_a_model_is_missing(way):
    assert not way.client.is_server_ready()


@check
def model_is_ready_with_and_without_its_version(way):
    version = way.metadata("roots")["versions"][0]
    assert way.client.is_model_ready("roots") and way.client.is_model_ready("roots", version)
    assert not way.client.is_model_ready("empty")


@check
def another_version_is_not_ready(way):
    if way.name == "http":
        assert not way.client.is_model_ready("roots", "7")
    else:
        way.refused("unknown", "version", lambda: way.client.is_model_ready("roots", "7"))


@check
def server_metadata(way):
    got = way.client.get_server_metadata() if way.name == "http" else way.client.get_server_metadata(as_json=True)
    assert got["name"] == "penstock-serve" and got["version"] and got["extensions"] == ["binary_tensor_data"], got


@check
def model_metadata(way):
    got = way.metadata("types")
    assert got["name"] == "types" and len(got["versions"]) == 1 and len(got["versions"][0]) == 64 and got["platform"] == "onnx_onnxruntime", got
    assert len(got["inputs"]) == len(got["outputs"]) == 13
    half = next(i for i in got["inputs"] if i["name"] == "x_bf16")
    assert half["datatype"] == "BF16" and [int(d) for d in half["shape"]] == [-1, 2], half
    assert way.metadata("types", got["versions"][0]) == got


@check
def metadata_of_what_is_not_there(way):
    way.refused("unknown", '"nobody"', lambda: way.metadata("nobody"))
    way.refused("unknown", "version", lambda: way.metadata("roots", "7"))
    way.refused("none", "no model is loaded", lambda: way.metadata("empty"))


@check
def answer_of_default_outputs(way):
    answer = way.roots()
    assert answer.as_numpy("y").tolist() == [2, 3] and answer.as_numpy("another") is None


@check
def request_id_is_echoed_and_names_are_there(way):
    answer = way.roots(request_id="the id \u00e9")
    got = answer.get_response() if way.name == "http" else answer.get_response(as_json=True)
    assert got["id"] == "the id \u00e9" and got["model_name"] == "roots" and len(got["model_version"]) == 64, got


@check
def version_may_be_named(way):
    version = way.metadata("roots")["versions"][0]
    assert way.roots(model_version=version).as_numpy("y").tolist() == [2, 3]
    way.refused("unknown", "version", lambda: way.roots(model_version="7"))


@check
def parameters_are_taken(way):
    answer = way.roots(parameters={"a": 1, "b": "x", "c": True}, priority=3, timeout=1000)
    assert answer.as_numpy("y").tolist() == [2, 3]


@check
def unknown_model(way):
    way.refused("unknown", '"nobody"', lambda: way.client.infer("nobody", [way.input()]))
    way.refused("none", "no model is loaded", lambda: way.client.infer("empty", [way.input()]))


@check
def wrong_tensors(way):
    way.refused("bad", "shape", lambda: way.roots(way.input(values=[[4, 9]])))
    way.refused("bad", "datatype", lambda: way.roots(way.input(datatype="FP64", kind=np.float64)))
    way.refused("bad", '"z"', lambda: way.roots(way.input(name="z")))
    way.refused("bad", "two", lambda: way.roots(way.input(), way.input()))
    way.refused("bad", '"z"', lambda: way.roots(way.input(), way.input(name="z")))
    way.refused("bad", "is missing", lambda: way.client.infer("types", [way.input(name="x_fp32", values=[[1, 2]])]))


@check
def unknown_output(way):
    way.refused("bad", '"z"', lambda: way.roots(outputs=[way.module.InferRequestedOutput("z")]))
    way.refused("bad", "twice", lambda: way.roots(outputs=[way.module.InferRequestedOutput("y")] * 2))


@check
def classification_is_not_offered(way):
    way.refused("bad", "classification is not offered", lambda: way.roots(outputs=[way.module.InferRequestedOutput("y", class_count=2)]))


@check
def shared_memory_is_not_offered(way):
    tensor = way.module.InferInput("x", [2], "FP32")
    tensor.set_shared_memory("region", 8)
    way.refused("bad", "shared", lambda: way.roots(tensor))


@check
def nan_travels_as_bytes(way):
    answer = way.roots(way.input(values=[-1, float("nan")]))
    assert np.isnan(answer.as_numpy("y")).all()


@check
def outputs_are_filtered_in_the_order_asked(way, folder):
    answer = way.client.infer("types", way.every_datatype(folder), outputs=[way.module.InferRequestedOutput(n) for n in ("y_int8", "y_bool")])
    got = answer.get_response() if way.name == "http" else answer.get_response(as_json=True)
    assert [o["name"] for o in got["outputs"]] == ["y_int8", "y_bool"], got


@check
def asynchronous_calls(way):
    if way.name == "http":
        pending = [way.client.async_infer("roots", [way.input()]) for _ in range(8)]
        answers = [p.get_result() for p in pending]
    else:
        import queue
        done = queue.Queue()
        for _ in range(8):
            way.client.async_infer("roots", [way.input()], lambda result, error: done.put((result, error)))
        answers = []
        for _ in range(8):
            result, error = done.get(timeout=20)
            assert error is None, error
            answers.append(result)
    assert all(a.as_numpy("y").tolist() == [2, 3] for a in answers)


# What only one of the two has.

def post(address, path, body, **headers):
    request = urllib.request.Request(f"http://{address}{path}", data=body, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=20) as r:
            return r.status, dict(r.headers), r.read()
    except urllib.error.HTTPError as e:
        return e.code, dict(e.headers), e.read()


def http_json_in_and_out(way, address):
    answer = way.roots(way.input(binary_data=False), outputs=[way.module.InferRequestedOutput("y", binary_data=False)])
    got = answer.get_response()
    assert got["outputs"][0] == {"name": "y", "datatype": "FP32", "shape": [2], "data": [2, 3]}, got


def http_json_in_bytes_out(way, address):
    answer = way.roots(way.input(binary_data=False), outputs=[way.module.InferRequestedOutput("y", binary_data=True)])
    assert answer.get_response()["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert answer.as_numpy("y").tolist() == [2, 3]


def http_exact_answer(way, address):
    body = {"id": "7", "inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [4, 0.25]}]}
    status, headers, got = post(address, "/v2/models/roots/infer", json.dumps(body).encode())
    version = way.metadata("roots")["versions"][0]
    assert status == 200 and headers["Content-Type"] == "application/json", (status, headers)
    assert json.loads(got) == {
        "id": "7", "model_name": "roots", "model_version": version,
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [2, 0.5]}],
    }, got
    assert int(headers["Content-Length"]) == len(got) and headers["Penstock-Model-Digest"] == version


def http_nested_data(way, address):
    body = b'{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[4,9]}],"outputs":[{"name":"y"}]}'
    assert post(address, "/v2/models/roots/infer", body)[0] == 200
    nested = json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [[4, 9]]}]}).encode()
    status, _, got = post(address, "/v2/models/roots/infer", nested)
    assert status == 400 and b"shape" in got, got  # it was read, but does not fit the model


def http_exact_errors(way, address):
    tensor = '{"name":"x","shape":[2],"datatype":"FP32",%s}'
    sized = '"parameters":{"binary_data_size":8}'
    for body, headers, want, says in [
        (b"", {}, 400, "no object"),
        (b"{", {}, 400, "the request"),
        (b'{"inputs":[]}', {}, 400, "no inputs"),
        ('{"inputs":[%s]}' % (tensor % '"data":[1,NaN]'), {}, 400, "neither NaN nor infinities"),
        ('{"inputs":[%s]}' % (tensor % '"data":[1]'), {}, 400, "fewer elements"),
        ('{"inputs":[%s]}' % (tensor % '"data":[1,2],"data":[1,2]'), {}, 400, '"data" twice'),
        ('{"inputs":[%s]} {}' % (tensor % '"data":[1,2]'), {}, 400, "goes on after"),
        ('{"inputs":[%s],"x":%s1%s}' % (tensor % '"data":[1,2]', "[" * 99, "]" * 99), {}, 400, "too deep"),
        ('{"inputs":[%s]}' % (tensor % ('"data":[1,2],' + sized)), {}, 400, "both data and binary_data_size"),
        ('{"inputs":[{"name":"x","shape":[-2],"datatype":"FP32","data":[1,2]}]}', {}, 400, "no dimension"),
        ('{"inputs":[{"name":"x","shape":[2],"datatype":"FP16","data":[1,2]}]}', {}, 400, "binary tensor extension"),
        ('{"inputs":[%s]}1234567' % (tensor % sized), {"n": -7}, 400, "sizes disagree"),
        ('{"inputs":[%s]}12345678' % (tensor % sized), {"Inference-Header-Content-Length": "9999"}, 400, "but the body has"),
        ('{"inputs":[%s]}12345678' % (tensor % sized), {"Inference-Header-Content-Length": "many"}, 400, "Inference-Header-Content-Length"),
        ('{"inputs":[%s]}' % (tensor % '"data":[-1,2]'), {}, 400, "binary_data"),
    ]:
        body = body if isinstance(body, bytes) else body.encode()
        if "n" in headers:
            headers = {"Inference-Header-Content-Length": str(len(body) + headers["n"])}
        status, sent, got = post(address, "/v2/models/roots/infer", body, **headers)
        answer = json.loads(got)
        assert status == want and set(answer) == {"error"} and says in answer["error"], (body, status, got, says)
        assert sent["Content-Type"] == "application/json", sent


def http_half_precision_has_no_json(way, address, folder):
    inputs = way.every_datatype(folder)
    for name in ("y_fp16", "y_bf16"):
        output = way.module.InferRequestedOutput(name, binary_data=False)
        way.refused("bad", "binary_data", lambda: way.client.infer("types", inputs, outputs=[output]))


def http_compressed_bodies_are_refused(way, address):
    way.refused("format", "is compressed", lambda: way.roots(request_compression_algorithm="gzip"))


def http_unknown_addresses(way, address):
    body = b'{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[4,9]}]}'
    for path, want in [("/v2/models/nobody/infer", 404), ("/v2/models/roots/versions/7/infer", 404), ("/v2/nothing", 404), ("/v2/health/live", 405)]:
        status, _, got = post(address, path, body)
        assert status == want and set(json.loads(got)) == {"error"}, (path, status, got)


def request_of(*inputs, raw=()):
    request = service_pb2.ModelInferRequest(model_name="roots", id="7")
    for name, datatype, shape, values in inputs:
        tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
        if values:
            tensor.contents.fp32_contents.extend(values)
    request.raw_input_contents.extend(raw)
    return request


def grpc_typed_contents_are_answered_typed(way, address):
    got = way.client._client_stub.ModelInfer(request_of(("x", "FP32", [2], [4, 9])))
    assert list(got.outputs[0].contents.fp32_contents) == [2, 3] and not got.raw_output_contents and got.id == "7", got


def grpc_raw_contents_are_answered_raw(way, address):
    got = way.client._client_stub.ModelInfer(request_of(("x", "FP32", [2], None), raw=[np.array([4, 9], "<f4").tobytes()]))
    assert got.raw_output_contents[0] == np.array([2, 3], "<f4").tobytes() and not got.outputs[0].HasField("contents"), got


def grpc_refusals(way, address):
    eight = b"12345678"
    for request, says in [
        (request_of(("x", "FP32", [2], [4, 9]), raw=[eight]), "contents beside raw_input_contents"),
        (request_of(("x", "FP32", [2], None), raw=[eight, eight]), "2 tensors for 1 inputs"),
        (request_of(("x", "FP32", [2], None), raw=[b"1234567"]), "7 bytes"),
        (request_of(("x", "FP32", [-2], None), raw=[eight]), "at least 1"),
        (request_of(("x", "FP32", [3], [4, 9])), "fp32_contents has 2 elements, want 3"),
        (request_of(("x", "FP16", [2], None)), "raw_input_contents"),
        (request_of(), "no inputs"),
    ]:
        try:
            way.client._client_stub.ModelInfer(request)
        except grpc.RpcError as e:
            assert e.code() == grpc.StatusCode.INVALID_ARGUMENT and says in e.details(), (e, says)
        else:
            raise AssertionError(f"{says}: was answered")


def grpc_compression(way, address):
    assert way.roots(compression_algorithm="gzip").as_numpy("y").tolist() == [2, 3]


ONLY = {
    "http": [http_json_in_and_out, http_json_in_bytes_out, http_exact_answer, http_nested_data, http_exact_errors, http_half_precision_has_no_json, http_compressed_bodies_are_refused, http_unknown_addresses],
    "grpc": [grpc_typed_contents_are_answered_typed, grpc_raw_contents_are_answered_raw, grpc_refusals, grpc_compression],
}


def report(name, f, *args):
    try:
        f(*args)
        print("ok", name, flush=True)
    except Exception as e:  # the check failed, whatever it was
        where = traceback.extract_tb(e.__traceback__)[-1]
        print("FAIL", name, f"{type(e).__name__} in line {where.lineno}: {e}".replace("\n", " "), flush=True)


def main(http_address, grpc_address, folder):
    with tritonclient.http.InferenceServerClient(http_address, concurrency=4, network_timeout=30) as http:
        with tritonclient.grpc.InferenceServerClient(grpc_address) as rpc:
            for way in (Way("http", tritonclient.http, http, HTTP), Way("grpc", tritonclient.grpc, rpc, GRPC)):
                for f in CHECKS:
                    report(f"{way.name} {f.__name__}", f, *(way, Path(folder))[:f.__code__.co_argcount])
                for f in ONLY[way.name]:
                    report(f.__name__.replace("_", " ", 1), f, *(way, http_address, Path(folder))[:f.__code__.co_argcount])


if __name__ == "__main__":
    main(*sys.argv[1:])
