"""Records what the originals of imported networks compute, for `tests/suite/networks.rs`.

    python3 -m venv ve && ve/bin/pip install numpy safetensors timm torch torchvision transformers
    ve/bin/python native-trainer/tests/networks/record.py

Weights and inputs follow a rule that both sides know, so that names, shapes and outputs are all that is kept.
Recorded with timm 1.0.31, torchvision 0.29.2, transformers 5.24.0, open_clip 3.3.0, torch 2.15.0.
"""

import json
import re
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import open_clip
import safetensors.torch
import timm
import torch
import torchvision
import transformers
from timm.layers import LayerNorm2d
from timm.models.convnext import ConvNeXt
from timm.models.fastvit import FastVit, RepConditionalPosEnc
from timm.models.repvit import RepVit
from timm.models.resnet import BasicBlock, ResNet

HERE = Path(__file__).parent


def uniform(tensor, count):
    """u(t, i) of tensor t: 24 bits of SplitMix64."""
    with np.errstate(over="ignore"):
        z = np.arange(count, dtype=np.uint64) + (np.uint64(tensor) << np.uint64(32))
        z += np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((z ^ (z >> np.uint64(31))) >> np.uint64(40)).astype(np.float32) / np.float32(16777216)


def values(number, name, shape):
    u = uniform(number, int(np.prod(shape))).reshape(shape)
    if name.endswith("running_var"):
        return u + np.float32(0.5)
    if name.endswith("running_mean"):
        return (u - np.float32(0.5)) * np.float32(0.2)
    if "scale" in name or name.endswith("gamma"):
        return u * np.float32(0.5)
    if len(shape) >= 2:
        fan = np.float32(np.sqrt(6 / np.prod(shape[1:])))
        return (2 * u - 1) * fan
    if name.endswith("weight"):
        return u + np.float32(0.5)
    return (u - np.float32(0.5)) * np.float32(0.2)


def listed(network):
    floats = [(name, t) for name, t in network.state_dict().items() if t.is_floating_point()]
    return [[name, list(t.shape)] for name, t in floats]


def fill(network):
    state = network.state_dict()
    for number, (name, shape) in enumerate(listed(network)):
        state[name] = torch.from_numpy(np.ascontiguousarray(values(number, name, tuple(shape))))
    network.load_state_dict(state)


def picture(side, batch):
    x = uniform(1_000_000, batch * 3 * side * side) * np.float32(4) - np.float32(2)
    return torch.from_numpy(x.reshape(batch, 3, side, side))


def short(tensor):
    return [float(f"{v:.7g}") for v in tensor.detach().flatten().tolist()]


def features_of(network, x):
    """What lies before the classifier."""
    if hasattr(network, "forward_head"):
        return network.forward_head(network.forward_features(x), pre_logits=True)
    if isinstance(network, torchvision.models.ResNet):
        classifier, network.fc = network.fc, torch.nn.Identity()
        y, network.fc = network(x), classifier
        return y
    y = network.avgpool(network.features(x))
    if isinstance(network, torchvision.models.MobileNetV3):
        return network.classifier[1](network.classifier[0](y.flatten(1)))
    if isinstance(network, torchvision.models.ConvNeXt):
        return network.classifier[0](y).flatten(1)
    return y.flatten(1)


def record(name, network, side, gradients=(), features_of=features_of, learns=True):
    fill(network)
    network.eval()
    with torch.no_grad():
        features = features_of(network.double(), picture(side, 1).double())
    network.float()
    recorded = {"network": name, "tensors": listed(network), "side": side, "features": short(features)}
    if gradients:
        network.train(learns)
        y = features_of(network, picture(side, 2))
        direction = torch.from_numpy(uniform(2_000_000, y.numel()).reshape(y.shape) - np.float32(0.5))
        (y * direction).sum().backward()
        parameters = dict(network.named_parameters())
        recorded["gradients"] = [[g, short(parameters[g].grad)] for g in gradients]
    path = HERE / f"{name}.json"
    path.write_text(json.dumps(recorded, separators=(",", ":")))
    print(path.name, path.stat().st_size)


torch.manual_seed(0)
record("resnet_basic", torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=3), 40)
record("resnet_bottleneck", torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1], num_classes=3), 40)
narrow = dict(stem_type="deep", avg_down=True, stem_width=2, channels=(4, 8, 16, 32), num_classes=3)
record("resnet_deep_stem", ResNet(BasicBlock, [1, 2, 1, 1], **narrow), 40)
for name, gradients in [
    ("mobilenetv3_small_100", ["conv_stem.weight", "blocks.3.0.bn2.weight", "blocks.3.0.se.conv_reduce.bias"]),
    ("mobilenetv3_large_100", []),
    ("tf_mobilenetv3_small_100", []),
    ("mobilenetv4_conv_small", []),
    ("mobilenetv4_conv_medium", []),
    ("efficientnet_b0", ["conv_stem.weight", "blocks.3.0.bn2.weight", "blocks.3.0.se.conv_reduce.bias"]),
]:
    # At smaller sides the original's own 32-bit floats are too far off.
    side = 112 if name == "mobilenetv3_large_100" else 64
    record(name, timm.create_model(name, num_classes=3), side, gradients)
for name in ["mobilenet_v3_small", "efficientnet_b0"]:
    record(f"torchvision_{name}", getattr(torchvision.models, name)(num_classes=3), 64)
repvit = dict(embed_dim=(8, 16, 24, 32), num_classes=3, distillation=True)
record("repvit", RepVit(depth=(1, 2, 2, 1), **repvit), 64)
record("repvit_legacy", RepVit(depth=(1, 1, 1, 1), legacy=True, **repvit), 64)
record(
    "convnext",
    ConvNeXt(dims=(8, 16, 24, 32), depths=(1, 1, 2, 1), num_classes=3),
    64,
    ["stem.0.weight", "stages.1.blocks.0.conv_dw.weight", "stages.2.blocks.1.norm.weight", "stages.0.blocks.0.mlp.fc1.bias"],
)


def fastvit(name, side, projected=False, **options):
    """Their normalization is folded at import: gradients are those behind fixed statistics."""
    small = dict(layers=(1, 1, 2, 1), embed_dims=(8, 16, 32, 64), mlp_ratios=(2,) * 4)
    network = FastVit(**(small | options), num_classes=512 if projected else 3)
    features = (lambda network, x: network(x)) if projected else features_of
    record(name, network, side, ["stages.2.blocks.0.mlp.fc1.bias"], features, learns=False)


positions = partial(RepConditionalPosEnc, spatial_shape=(7, 7))
mixers = ("repmixer", "repmixer", "repmixer", "attention")
fastvit("fastvit", 64, token_mixers=("repmixer",) * 4)
# As S0 to S2 of MobileCLIP.
tower = dict(se_downsamples=(False, False, True, True), pos_embs=(None, None, None, positions), lkc_use_act=True)
fastvit("fastvit_tower", 64, projected=True, token_mixers=mixers, **tower)
# As S3 and S4.
large = dict(layers=(1, 1, 1, 1, 1), embed_dims=(4, 8, 16, 32, 64), mlp_ratios=(2,) * 5, lkc_use_act=True)
large |= dict(se_downsamples=(False,) * 5, downsamples=(False,) + (True,) * 4, pos_embs=(None,) * 3 + (positions,) * 2)
layer_norm = partial(LayerNorm2d, eps=1e-5)
fastvit(
    "fastvit_large", 128, projected=True, token_mixers=mixers + ("attention",), norm_layer=layer_norm,
    stem_use_scale_branch=False, **large,
)
setting = torchvision.models.convnext.CNBlockConfig
stages = [setting(8, 16, 1), setting(16, 24, 1), setting(24, 32, 1), setting(32, None, 1)]
record("torchvision_convnext", torchvision.models.ConvNeXt(stages, num_classes=3), 64)

# Names and shapes of whole networks.
whole = {
    name: [f"{tensor} {' '.join(map(str, shape))}" for tensor, shape in listed(timm.create_model(name))]
    for name in ["resnet18", "resnet34", "resnet50", "repvit_m0_9", "repvit_m1_0", "convnext_tiny", "mobilenetv3_large_100", "fastvit_t8", "fastvit_mci0"]
}
whole["torchvision mobilenet_v3_large"] = [
    f"{tensor} {' '.join(map(str, shape))}" for tensor, shape in listed(torchvision.models.mobilenet_v3_large())
]
whole["torchvision convnext_tiny"] = [
    f"{tensor} {' '.join(map(str, shape))}" for tensor, shape in listed(torchvision.models.convnext_tiny())
]
path = HERE / "names.json"
path.write_text(json.dumps(whole, separators=(",", ":")))
print(path.name, path.stat().st_size)

# A checkpoint as training writes it: in 16-bit floats, of a network in a wrapper.
tiny = ResNet(BasicBlock, [1, 1, 1, 1], **narrow)
fill(tiny)
state = {f"module.{name}": t.half() if t.is_floating_point() else t for name, t in tiny.state_dict().items()}
torch.save({"epoch": 3, "state_dict": state}, HERE / "tiny.pth")
tiny.load_state_dict({name: t.half().float() if t.is_floating_point() else t for name, t in tiny.state_dict().items()})
with torch.no_grad():
    recorded = short(features_of(tiny.eval(), picture(40, 1)))
(HERE / "tiny.json").write_text(json.dumps({"side": 40, "features": recorded}, separators=(",", ":")))


# Vision transformers of timm.
def transformer(name, side, gradients=(), **options):
    from timm.models.vision_transformer import VisionTransformer

    small = dict(patch_size=8, img_size=32, embed_dim=128, depth=2, num_heads=2, mlp_ratio=2, num_classes=3)
    record(name, VisionTransformer(**(small | options), dynamic_img_size=True), side, gradients)


within = ["cls_token", "pos_embed", "blocks.0.norm1.weight", "blocks.1.mlp.fc1.bias", "blocks.1.attn.proj.bias"]
transformer("vit", 32, within)
# Another size than that of the positions.
transformer("vit_mean", 48, ["pos_embed", "fc_norm.weight"], global_pool="avg")
registers = dict(init_values=0.1, reg_tokens=4, no_embed_class=True, patch_size=14, img_size=70)
transformer("vit_registers", 42, ["pos_embed", "reg_token"], **registers)
probe = dict(class_token=False, global_pool="map")
transformer("vit_probe", 32, ["attn_pool.latent", "attn_pool.mlp.fc1.bias", "pos_embed"], **probe)
clip = dict(pre_norm=True, norm_layer=partial(torch.nn.LayerNorm, eps=1e-5))
transformer("vit_clip", 32, ["norm_pre.weight"], **clip)
rotary = dict(
    embed_dim=128, depth=2, num_heads=2, patch_size=8, img_size=32, init_values=0.1, qkv_bias=False, num_reg_tokens=4,
    rope_type="dinov3", rope_temperature=100, use_rot_pos_emb=True, use_abs_pos_emb=False, rope_rotate_half=True,
    use_fc_norm=False, global_pool="avg", num_classes=3, mlp_ratio=2, dynamic_img_size=True,
    norm_layer=partial(torch.nn.LayerNorm, eps=1e-5),
)
record("vit_rotary", timm.models.eva.Eva(**rotary), 48)


# Those of transformers, by the names that it writes into files.
def hugging(name, model, side, features, gradients=(), texts=()):
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        path = Path(folder) / "model.safetensors"
        stored = safetensors.torch.load_file(path)
        names = [[n, list(t.shape)] for n, t in sorted(stored.items()) if t.is_floating_point()]
        for number, (tensor, shape) in enumerate(names):
            drawn = np.ascontiguousarray(values(number, tensor, tuple(shape)))
            stored[tensor] = torch.from_numpy(drawn).reshape(shape)
        safetensors.torch.save_file(stored, path, metadata={"format": "pt"})
        model = type(model).from_pretrained(folder, attn_implementation="eager")
    model.eval()
    with torch.no_grad():
        output = features(model.double(), picture(side, 1).double())
        told = [short(words(model, ids)) for _, ids in texts]
    model.float()
    config = model.config.to_dict()
    known = config.get("vision_config", config)
    keys = ["num_attention_heads", "hidden_act", "layer_norm_eps", "rope_theta", "image_size"]
    beside = {key: known[key] for key in keys if key in known}
    if "text_config" in config:
        text = {key: config["text_config"][key] for key in keys[:3]}
        beside = {"vision_config": beside, "text_config": text}
    recorded = {"network": name, "tensors": names, "config": beside, "side": side, "features": short(output)}
    if texts:
        recorded["texts"] = [[written, ids, values] for (written, ids), values in zip(texts, told)]
    if gradients:
        y = features(model, picture(side, 2))
        direction = torch.from_numpy(uniform(2_000_000, y.numel()).reshape(y.shape) - np.float32(0.5))
        (y * direction).sum().backward()
        parameters = dict(model.named_parameters())
        recorded["gradients"] = [[g, short(parameters[g].grad)] for g in gradients]
    path = HERE / f"{name}.json"
    path.write_text(json.dumps(recorded, separators=(",", ":")))
    print(path.name, path.stat().st_size)


def words(model, ids):
    ids = torch.tensor([ids])
    return model.get_text_features(input_ids=ids, attention_mask=torch.ones_like(ids)).pooler_output


small = dict(
    hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8
)


def byte_pairs(sentences, count):
    """A tokenizer as CLIP's, and its pairs, learned from sentences."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=10_000, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    learner.train_from_iterator(sentences, trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]][:count]
    seen = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = [chr(byte) for byte in seen] + [chr(256 + n) for n in range(256 - len(seen))]
    listed = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in merges]
    listed += ["<|startoftext|>", "<|endoftext|>"]
    assert len(set(listed)) == len(listed)
    vocabulary = {word: number for number, word in enumerate(listed)}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=merges), merges


sentences = ["a photo of a cat", "a photo of the large red motorcycle", "it's a dog that they'll pat", "süßer Käfig"]
tokenizer, merges = byte_pairs(sentences * 2, 120)
written = [
    "A photo of a cat", "a person  riding a\tmotorcycle", "", " \n ", "SÜSSER Käfig, süßes!", "Ka\u0308fig",
    "IT'S they'll I'd don't 'tis ''s", "1234 3.14% x2y", "写真 猫 кошка ΣΑΣ", "\u0130stanbul \ufb01n", "\U0001f600\U0001f44d\U0001f3fd!",
    "zero\u200bwidth\u00a0space", "a<|endoftext|>photo", "<|STARTOFTEXT|>a!<|EndOfText|>", "photo " * 80, "motorcyclemotor" * 20,
]
ids = [tokenizer(one, truncation=True, max_length=77)["input_ids"] for one in written]
text = dict(
    hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, vocab_size=len(tokenizer),
    eos_token_id=len(tokenizer) - 1, bos_token_id=len(tokenizer) - 2,
)
texts = list(zip(written, ids))
pairs = "\n".join(" ".join(pair) for pair in merges)
(HERE / "merges.txt").write_text(f"#version: 0.2\n{pairs}\n", encoding="utf-8")


def projected(model, x):
    return model.get_image_features(pixel_values=x, interpolate_pos_encoding=True).pooler_output


def pooled(model, x):
    return model.vision_model(pixel_values=x, interpolate_pos_encoding=True).pooler_output


def class_token(model, x):
    return model(pixel_values=x).pooler_output


layer = "vision_model.encoder.layers.0."
hugging(
    "clip",
    transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=small, projection_dim=32)),
    48,
    projected,
    [layer + "self_attn.q_proj.weight", layer + "mlp.fc1.bias", "vision_model.embeddings.position_embedding.weight"],
    texts,
)
def of_open_clip(name, network, beside):
    """Towers under the names of open_clip, and its configuration."""
    padded = [one + [0] * (77 - len(one)) for one in ids[:4]]
    record(name, network, 32, features_of=lambda network, x: network.encode_image(x))
    recorded = json.loads((HERE / f"{name}.json").read_text())
    with torch.no_grad():
        told = network.double().encode_text(torch.tensor(padded))
    recorded["texts"] = [[one, number, short(values)] for one, number, values in zip(written, ids, told)]
    recorded["config"] = {"model_cfg": beside}
    (HERE / f"{name}.json").write_text(json.dumps(recorded, separators=(",", ":")))


image_config = dict(image_size=32, layers=2, width=128, patch_size=8, head_width=64, mlp_ratio=2)
text_config = dict(context_length=77, vocab_size=len(tokenizer), width=64, heads=4, layers=2, mlp_ratio=1.5)
towers = open_clip.model.CLIP(32, image_config, text_config, quick_gelu=True)
of_open_clip("open_clip", towers, dict(quick_gelu=True, text_cfg=text_config))
# As beside the image towers of MobileCLIP: every word sees all others.
text_config["no_causal_mask"] = True
towers = open_clip.model.CustomTextCLIP(32, image_config, text_config)
of_open_clip("open_clip_both_ways", towers, dict(text_cfg=text_config))
text["vocab_size"] = 10
siglip = transformers.SiglipConfig(text_config=text | dict(eos_token_id=1, bos_token_id=0), vision_config=small)
hugging(
    "siglip",
    transformers.SiglipModel(siglip),
    32,
    pooled,
    [layer + "self_attn.k_proj.weight", layer + "mlp.fc1.bias", "vision_model.head.probe"],
)
hugging("dinov2", transformers.Dinov2Model(transformers.Dinov2Config(**small)), 40, class_token)
gated = transformers.Dinov2Config(**small, use_swiglu_ffn=True)
hugging("dinov2_gated", transformers.Dinov2Model(gated), 32, class_token)
with_registers = transformers.Dinov2WithRegistersConfig(**small)
hugging("dinov2_registers", transformers.Dinov2WithRegistersModel(with_registers), 24, class_token)
dinov3 = transformers.DINOv3ViTConfig(**(small | dict(hidden_size=64)), num_register_tokens=4)
hugging("dinov3", transformers.DINOv3ViTModel(dinov3), 40, class_token)
for name in ["vit_small_patch16_224", "vit_base_patch16_siglip_224", "vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3"]:
    whole[name] = [f"{tensor} {' '.join(map(str, shape))}" for tensor, shape in listed(timm.create_model(name))]
(HERE / "names.json").write_text(json.dumps(whole, separators=(",", ":")))


# What timm's transformers are, of those whose tensors have the names of ours: heads, activation, pool and
# epsilon, or nothing where rotations differ.
PARTS = ["patch_embed.proj", "norm_pre", "norm", "fc_norm", "head", "blocks.0.norm1", "blocks.0.norm2"]
PARTS += ["blocks.0.attn.qkv", "blocks.0.attn.proj", "blocks.0.mlp.fc1", "blocks.0.mlp.fc2"]
NAMES = {f"{part}.{field}" for part in PARTS for field in ["weight", "bias"]}
NAMES |= {"cls_token", "reg_token", "pos_embed"} | {f"blocks.0.{scale}" for scale in ["ls1.gamma", "ls2.gamma", "gamma_1", "gamma_2"]}
POOLS = {"token": "class", "map": "attention", "avg": "mean_of_normalized"}
BETWEEN = {"GELU": "gelu", "GELUTanh": "gelu_tanh", "QuickGELU": "quick_gelu", "SiLU": "swi_glu"}


def form(name, model):
    shapes = {tensor: list(t.shape) for tensor, t in model.state_dict().items()}
    shapes = {tensor: shape for tensor, shape in shapes.items() if not re.match(r"blocks\.[1-9]", tensor)}
    if not {tensor for tensor in shapes if not tensor.startswith("attn_pool.")} <= NAMES:
        return None
    if "norm.weight" not in shapes and "fc_norm.weight" not in shapes:
        return None
    if "blocks.0.attn.qkv.bias" not in shapes and "pos_embed" in shapes:
        return None
    if type(getattr(model, "rope", None)).__name__ == "RotaryEmbeddingCat":
        return [name, shapes, None]
    block = model.blocks[0]
    pool = "mean" if "fc_norm.weight" in shapes else POOLS[model.global_pool]
    between = BETWEEN[type(block.mlp.act).__name__]
    return [name, shapes, [block.attn.num_heads, between, pool, block.norm1.eps]]


forms = []
for name in timm.list_models(["vit_*", "deit*", "flexivit_*", "eva_large*"]):
    with torch.device("meta"):
        forms.append(form(name, timm.create_model(name)))
lines = [json.dumps(one, separators=(",", ":")) for one in forms if one]
(HERE / "forms.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")
