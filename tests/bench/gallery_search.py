"""Vectors for the comparison, and the same searches in faiss, as JSON lines.

python gallery_search.py make FOLDER COUNT DIM     writes vectors.f32 and queries.f32
python gallery_search.py take FOLDER GALLERY QUERY the same from what `magpie extract` wrote
python gallery_search.py faiss FOLDER DIM K        one thread for single queries, two for batches
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

QUERIES = 200
INTRINSIC = 32
ROUNDS = 3


def make(folder, count, dim):
    """Unit vectors around cluster middles, of a low intrinsic dimension, as embeddings are."""
    random = np.random.default_rng(7)
    clusters = max(count // 100, 1)
    basis = random.standard_normal((INTRINSIC, dim)).astype(np.float32) / np.sqrt(INTRINSIC)
    middles = random.standard_normal((clusters, INTRINSIC)).astype(np.float32)
    which = random.integers(0, clusters, count + QUERIES)
    points = middles[which] + 0.4 * random.standard_normal((len(which), INTRINSIC)).astype(np.float32)
    rows = points @ basis + 0.05 * random.standard_normal((len(which), dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows.astype(np.float32)
    rows[:count].tofile(folder / "vectors.f32")
    rows[count:].tofile(folder / "queries.f32")


def embeddings(path):
    """The rows of a safetensors file."""
    data = Path(path).read_bytes()
    head = int.from_bytes(data[:8], "little")
    entry = json.loads(data[8 : 8 + head])["embeddings"]
    start, end = entry["data_offsets"]
    kind = {"F32": np.float32, "F16": np.float16}[entry["dtype"]]
    return np.frombuffer(data[8 + head + start : 8 + head + end], kind).astype(np.float32)


def measure(folder, dim, k):
    import faiss

    vectors = np.fromfile(folder / "vectors.f32", np.float32).reshape(-1, dim)
    queries = np.fromfile(folder / "queries.f32", np.float32).reshape(-1, dim)
    truth = None
    centered = vectors.mean(axis=0)

    def say(index, ef_search, found, latency, batch, add, build):
        nonlocal truth
        truth = found if truth is None else truth
        recall = np.mean([len(set(f) & set(t)) / k for f, t in zip(found, truth)])
        print(json.dumps({
            "index": index, "values": "F32", "ef_search": ef_search, "recall": float(recall),
            "latency_ms": latency, "batch_per_second": batch, "add_seconds": add,
            "build_seconds": build,
        }), flush=True)

    def timed(search):
        latency, batch = np.inf, 0.0
        for _ in range(ROUNDS):
            faiss.omp_set_num_threads(1)
            times = []
            for q in range(len(queries)):
                start = time.perf_counter()
                search(queries[q : q + 1])
                times.append(time.perf_counter() - start)
            latency = min(latency, float(np.median(times)) * 1e3)
            faiss.omp_set_num_threads(2)
            start = time.perf_counter()
            found = search(queries)
            batch = max(batch, len(queries) / (time.perf_counter() - start))
        return found, latency, batch

    inner = faiss.METRIC_INNER_PRODUCT
    plain = {
        "flat": (faiss.IndexFlatIP(dim), None, [0]),
        "flat sq8": (faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_8bit, inner), None, [0]),
        "ivf": (faiss.index_factory(dim, "IVF1024,Flat", inner), "nprobe", [8, 16, 32]),
        "hnsw32": (faiss.IndexHNSWFlat(dim, 32, inner), "efSearch", [32, 64, 128]),
    }
    for name, (index, parameter, widths) in plain.items():
        if name == "ivf" and len(vectors) < 1024 * 39:
            continue
        faiss.omp_set_num_threads(2)
        start = time.perf_counter()
        index.train(vectors)
        index.add(vectors)
        build = time.perf_counter() - start
        for ef_search in widths:
            if parameter == "nprobe":
                index.nprobe = ef_search
            elif parameter == "efSearch":
                index.hnsw.efSearch = ef_search
            found, latency, batch = timed(lambda q: index.search(q, k)[1])
            say(name, ef_search, found, latency, batch, 0.0, build)

    start = time.perf_counter()
    binary = faiss.IndexBinaryFlat(dim)
    binary.add(np.packbits(vectors > centered, axis=1))
    build = time.perf_counter() - start
    for ef_search in [100, 200, 400]:
        def search(q):
            near = binary.search(np.packbits(q > centered, axis=1), ef_search)[1]
            exact = np.einsum("qd,qrd->qr", q, vectors[near])
            order = np.argsort(-exact, axis=1)[:, :k]
            return np.take_along_axis(near, order, axis=1)

        found, latency, batch = timed(search)
        say("binary", ef_search, found, latency, batch, 0.0, build)


if __name__ == "__main__":
    command, folder = sys.argv[1], Path(sys.argv[2])
    if command == "make":
        make(folder, int(sys.argv[3]), int(sys.argv[4]))
    elif command == "take":
        folder.mkdir(parents=True, exist_ok=True)
        embeddings(sys.argv[3]).tofile(folder / "vectors.f32")
        embeddings(sys.argv[4]).tofile(folder / "queries.f32")
    else:
        measure(folder, int(sys.argv[3]), int(sys.argv[4]))
