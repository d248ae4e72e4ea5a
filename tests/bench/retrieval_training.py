"""One retrieval recipe trained by PaddleClas and by Magpie on the same lists, seed by seed.

python retrieval_training.py MAGPIE ROOT TRAIN_LIST QUERY_LIST FOLDER [EPOCHS [SEEDS [SIDE [WIDTH]]]]

The recipe is PaddleClas' MobileNetV1_retrieval: an FC neck of 512, an ArcMargin head, cross entropy
and the batch-hard triplet loss, momentum, steps of the rate; without erasing, which that version looks
for in the wrong axes and hardly ever does. Gallery: the training list. Prints a table and JSON.

Needs paddlepaddle==2.6.2 and paddleclas==2.2.1 (--no-deps), the last package that holds the trainer.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import paddle
import yaml

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
MARGIN, SCALE, TRIPLET, DIM, DECAY, RATE, BATCH = 0.15, 30.0, 0.5, 512, 0.0005, 0.01, 64

arguments = sys.argv[1:]
magpie, root, train, query, folder = (Path(part).resolve() for part in arguments[:5])
epochs, seeds, side = (int(part) for part in (arguments[5:8] + ["20", "3", "128"][len(arguments[5:8]):]))
width = float(arguments[8]) if len(arguments) > 8 else 0.5
milestones = [epochs * part // 5 for part in (2, 3, 4)]
lines = [line.split(" ") for line in train.read_text().splitlines() if line]
classes = len({line[1] for line in lines})


def operators(training):
    normalize = {"NormalizeImage": {"scale": 0.00392157, "mean": MEAN, "std": STD, "order": ""}}
    decode = {"DecodeImage": {"to_rgb": True, "channel_first": False}}
    resize, flip = {"ResizeImage": {"size": side}}, {"RandFlipImage": {"flip_code": 1}}
    if training:
        return [decode, resize, flip, normalize]
    return [decode, resize, normalize]


def loader(listed, training):
    dataset = {
        "name": "VeriWild",
        "image_root": str(root),
        "cls_label_path": str(listed),
        "transform_ops": operators(training),
    }
    sampler = {"name": "DistributedBatchSampler", "batch_size": BATCH, "drop_last": False, "shuffle": False}
    if training:
        sampler = {
            "name": "DistributedRandomIdentitySampler",
            "batch_size": BATCH,
            "num_instances": 2,
            "drop_last": False,
            "shuffle": True,
        }
    return {"dataset": dataset, "sampler": sampler, "loader": {"num_workers": 2, "use_shared_memory": True}}


def paddle_recipe(output):
    suffix = {0.25: "_x0_25", 0.5: "_x0_5", 0.75: "_x0_75", 1.0: ""}[width]
    return {
        "Global": {
            "checkpoints": None,
            "pretrained_model": None,
            "output_dir": str(output),
            "device": "cpu",
            "save_interval": epochs,
            "eval_during_train": True,
            "eval_interval": epochs,
            "epochs": epochs,
            "print_batch_step": 20,
            "use_visualdl": False,
            "eval_mode": "retrieval",
            "image_shape": [3, side, side],
        },
        "Arch": {
            "name": "RecModel",
            "infer_output_key": "features",
            "infer_add_softmax": False,
            "Backbone": {"name": f"MobileNetV1{suffix}", "pretrained": False},
            "BackboneStopLayer": {"name": "flatten_0"},
            "Neck": {"name": "FC", "embedding_size": int(1024 * width), "class_num": DIM},
            "Head": {
                "name": "ArcMargin",
                "embedding_size": DIM,
                "class_num": classes,
                "margin": MARGIN,
                "scale": SCALE,
            },
        },
        "Loss": {
            "Train": [{"CELoss": {"weight": 1.0}}, {"TripletLossV2": {"weight": 1.0, "margin": TRIPLET}}],
            "Eval": [{"CELoss": {"weight": 1.0}}],
        },
        "Optimizer": {
            "name": "Momentum",
            "momentum": 0.9,
            "lr": {
                "name": "MultiStepDecay",
                "learning_rate": RATE,
                "milestones": milestones,
                "gamma": 0.5,
                "verbose": False,
                "last_epoch": -1,
            },
            "regularizer": {"name": "L2", "coeff": DECAY},
        },
        "DataLoader": {
            "Train": loader(train, True),
            "Eval": {"Query": loader(query, False), "Gallery": loader(train, False)},
        },
        "Metric": {"Eval": [{"Recallk": {"topk": [1, 5]}}, {"mAP": {}}]},
    }


def magpie_recipe(seed):
    lists = {"train": train, "query": query, "gallery": train}
    named = "\n".join(f"{name} = {json.dumps(str(path))}" for name, path in lists.items())
    return f"""
seed = {seed}
epochs = {epochs}
eval_interval = {epochs}
batch_size = {BATCH}
log_interval = 20
export = "last"
schedule = {{ learning_rate = {RATE}, by_epoch = true, decay = {{ kind = "multi_step", milestones = {milestones}, gamma = 0.5 }} }}
optimizer = {{ kind = "momentum", momentum = 0.9, weight_decay = {DECAY} }}
parameters = {{ decay_vectors = true }}

[preprocess]
width = {side}
height = {side}
filter = "opencv_linear"
mean = {MEAN}
std = {STD}

[extractor]
{named}
sampler = {{ kind = "random_identity", samples_per_class = 2 }}
head = {{ kind = "arc_margin", margin = {MARGIN}, scale = {SCALE} }}
losses = [{{ kind = "cross_entropy" }}, {{ kind = "batch_hard_triplet", margin = {TRIPLET} }}]
operators = [
    {{ kind = "resize", width = {side}, height = {side} }},
    {{ kind = "flip", probability = 0.5 }},
]

[extractor.model]
neck = {{ kind = "fc", embedding_dim = {DIM} }}

[extractor.model.backbone]
kind = "mobilenet_v1"
scale = {width}
"""


def figures(text):
    found = re.findall(r"\[Eval\]\[Epoch \d+\]\[Avg\].*?recall1: ([\d.]+), recall5: ([\d.]+), mAP: ([\d.]+)", text)
    return [100 * float(value) for value in found[-1]]


def run(command, where, name):
    began = time.time()
    log = folder / f"{name}.log"
    # Of that version's time: a loss is a vector of one value.
    environment = {**os.environ, "FLAGS_set_to_1d": "1"}
    with log.open("w") as output:
        result = subprocess.run(
            command, cwd=where, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    text = log.read_text()
    if result.returncode != 0:
        sys.exit(f"{name} failed: see {log}\n{text[-2000:]}")
    return figures(text), time.time() - began


folder.mkdir(parents=True, exist_ok=True)
# The package keeps its trainer inside itself, where it cannot be imported from.
home = find_spec("paddleclas").submodule_search_locations[0]
start = (
    f"import sys; sys.path.insert(0, {home!r}); "
    "import random, numpy, paddle; seed = int(sys.argv[2]); "
    "[start(seed) for start in (random.seed, numpy.random.seed, paddle.seed)]; "
    # A viewer that is not asked for, and a name that Python has moved since.
    "import types; sys.modules['visualdl'] = types.SimpleNamespace(LogWriter=None); "
    "import collections, collections.abc; collections.Callable = collections.abc.Callable; "
    "from ppcls.utils import config; from ppcls.engine.trainer import Trainer; "
    "Trainer(config.get_config(sys.argv[1], show=False), mode='train').train()"
)
results = {"PaddleClas": [], "Magpie": []}
for seed in range(1, seeds + 1):
    path = folder / f"paddleclas-{seed}.yaml"
    path.write_text(yaml.safe_dump(paddle_recipe(folder / f"paddleclas-{seed}"), sort_keys=False))
    results["PaddleClas"].append(run([sys.executable, "-c", start, path, str(seed)], folder, f"paddleclas-{seed}"))
    path = folder / f"magpie-{seed}.toml"
    path.write_text(magpie_recipe(seed))
    output = folder / f"magpie-{seed}"
    results["Magpie"].append(run([magpie, "train", "-c", path, "--output", output], root, f"magpie-{seed}"))

print(f"{'':12}{'recall@1 by seed':>28}{'mean':>8}{'recall@5':>10}{'mAP':>8}{'s':>8}")
record = {"paddle": paddle.__version__, "epochs": epochs, "side": side, "width": width, "runs": {}}
for name, runs in results.items():
    mean = [statistics.mean(run[0][place] for run in runs) for place in range(3)]
    seconds = statistics.mean(run[1] for run in runs)
    each = " ".join(f"{run[0][0]:.2f}" for run in runs)
    print(f"{name:12}{each:>28}{mean[0]:8.2f}{mean[1]:10.2f}{mean[2]:8.2f}{seconds:8.0f}")
    record["runs"][name] = [{"recall1": r[0], "recall5": r[1], "mAP": r[2], "seconds": s} for r, s in runs]
print(json.dumps(record))
