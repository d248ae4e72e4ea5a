"""Networks on the processor: ONNX Runtime and OpenVINO, as JSON lines.

python networks.py FOLDER THREADS RUNS

FOLDER holds NETWORK.onnx and NETWORK.answer.f32, see `cargo xtask bench engine`; an answer that is
not Magpie's ends the run.
"""
import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import openvino

from picture import picture, side_of

folder, threads, runs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])


def with_onnxruntime(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


def with_openvino(path):
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    return lambda x: request.infer({"x": x})[0]


for path in sorted(folder.glob("*.onnx")):
    expected = np.fromfile(path.with_suffix(".answer.f32"), np.float32)
    for runtime, start in [("onnxruntime", with_onnxruntime), ("openvino", with_openvino)]:
        run = start(str(path))
        x = np.ascontiguousarray(picture(side_of(path.stem)).transpose(0, 3, 1, 2))
        apart = np.abs(run(x).ravel() - expected).max() / np.abs(expected).max()
        if not apart < 1e-3:
            raise SystemExit(f"{runtime} on {path.stem}: off by {apart}")
        times = []
        for _ in range(runs):
            begin = time.perf_counter()
            run(x)
            times.append((time.perf_counter() - begin) * 1e3)
        times.sort()
        figures = {"median_ms": times[len(times) // 2], "least_ms": times[0]}
        of = {"network": path.stem, "runtime": runtime, "threads": threads}
        print(json.dumps(of | figures), flush=True)
