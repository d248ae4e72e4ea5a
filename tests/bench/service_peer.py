"""The service that people write for a network in ONNX: FastAPI, ONNX Runtime, faiss.

    python service_peer.py MODEL.onnx DESCRIPTION.json ENTRIES.json PORT WORKERS

DESCRIPTION has the preprocess of the network, ENTRIES the labels and embeddings of a gallery, both as Magpie gives
them. POST /recognize takes the bytes of a picture and answers the five most similar classes. One worker computes as
Magpie's service does: one picture gets all threads, and requests wait in the pool of FastAPI. Several share the cores.
"""

import io
import json
import os
import sys

import faiss
import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, Request
from PIL import Image, ImageOps
from starlette.concurrency import run_in_threadpool

model, description, entries, port, workers = sys.argv[1:]
if __name__ == "__main__":
    folder = os.path.dirname(os.path.abspath(__file__))
    about = {"host": "127.0.0.1", "port": int(port), "log_level": "warning", "access_log": False}
    uvicorn.run("service_peer:app", app_dir=folder, workers=int(workers), **about)
    sys.exit()
preprocess = json.load(open(description))
size = (preprocess["width"], preprocess["height"])
mean, std = (np.array(preprocess[name], np.float32) for name in ("mean", "std"))

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = max(1, len(os.sched_getaffinity(0)) // int(workers))
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
entries = json.load(open(entries))
labels = [entry["class"] for entry in entries]
index = faiss.IndexFlatIP(len(entries[0]["embedding"]))
index.add(np.array([entry["embedding"] for entry in entries], np.float32))


def recognize(data):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.float32) / 255
    pixels = ((pixels - mean) / std).transpose(2, 0, 1)[None]
    (embedding,) = session.run(None, {name: pixels})
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    similarity, found = index.search(embedding.reshape(1, -1), 50)
    best = {}
    for cosine, entry in zip(similarity[0].tolist(), found[0].tolist()):
        if entry >= 0:
            best.setdefault(labels[entry], cosine)
    matches = [{"label": label, "similarity": cosine} for label, cosine in list(best.items())[:5]]
    return {"objects": [{"matches": matches}]}


app = FastAPI()


@app.post("/recognize")
async def answer(request: Request):
    data = await request.body()
    return await run_in_threadpool(recognize, data)
