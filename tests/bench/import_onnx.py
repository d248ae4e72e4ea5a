"""Networks of timm as ONNX files, imported by Magpie: python import_onnx.py MAGPIE [NAME]...

Each is made with drawn weights and a small input, exported by PyTorch, answered by PyTorch, and handed to
`magpie import --check`. A JSON line each: what became of it.
"""

import json
import logging
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import timm
import torch

# A small one of each family of timm's.
NETWORKS = """
    bat_resnext26ts botnet26t_256 coat_lite_tiny convit_tiny convmixer_768_32 convnext_atto convnextv2_atto
    crossvit_tiny_240 cs3darknet_s cspresnet50 cspdarknet53 darknet17 darknetaa53 deit_tiny_patch16_224 densenet121
    dla34 dla46_c dpn48b eca_resnet33ts ecaresnet26t edgenext_xx_small efficientformer_l1 efficientnet_b0
    efficientnetv2_rw_t efficientvit_b0 ese_vovnet19b_dw fastvit_t8 fbnetc_100 gcresnet33ts gernet_s ghostnet_050
    ghostnetv2_100 gmlp_ti16_224 halonet26t haloregnetz_b hardcorenas_a hgnet_tiny hgnetv2_b0 hrnet_w18_small
    inception_next_tiny inception_resnet_v2 inception_v3 inception_v4 lambda_resnet26t lcnet_035 legacy_seresnet18
    legacy_xception levit_128s mixer_s32_224 mixnet_s mnasnet_small mobilenet_edgetpu_100 mobilenetv1_100
    mobilenetv2_035 mobilenetv3_small_050 mobilenetv4_conv_small_035 mobileone_s0 mobilevit_xxs mobilevitv2_050
    nest_tiny nf_regnet_b0 nfnet_l0 poolformer_s12 pvt_v2_b0 regnetx_002 regnety_002 regnetz_005 repghostnet_050
    repvgg_a0 repvit_m0_9 res2net50_26w_4s resnest14d resnet18 resnet26d resnetv2_18 resnext26ts
    rexnet_100 selecsls42b semnasnet_050 seresnet18 skresnet18 spnasnet_100 squeezenet1_1 starnet_s1
    swin_tiny_patch4_window7_224 tf_efficientnet_b0 tf_efficientnet_lite0 tf_mobilenetv3_small_minimal_100
    tinynet_e tresnet_m vgg11 vgg11_bn visformer_tiny vit_tiny_patch16_224 vovnet39a wide_resnet50_2 xception41
    xcit_nano_12_p16_224
""".split()
SIDE = 64


def settle(network):
    """Statistics of normalization that are not 0 and 1."""
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and module.running_var is not None:
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
    return network.eval()


def made(name):
    """A network and an input; of the input's own size where another is not taken."""
    network = settle(timm.create_model(name, pretrained=False, num_classes=10))
    sides = [SIDE, network.pretrained_cfg.get("input_size", (3, 224, 224))[-1]]
    for side in sides:
        x = torch.randn(1, 3, side, side)
        try:
            with torch.no_grad():
                return network, x, network(x)
        except Exception as error:  # Whatever a network says of a size that it does not take.
            failure = error
    raise failure


def measured(magpie, name, folder):
    torch.manual_seed(0)
    try:
        network, x, y = made(name)
        path = folder / "model.onnx"
        with torch.no_grad():
            torch.onnx.export(network, x, path, opset_version=17, dynamo=False)
    except Exception as error:
        return {"result": "not exported", "reason": str(error).strip().splitlines()[0][:100]}
    np.save(folder / "x.npy", x.numpy())
    np.save(folder / "y.npy", y.numpy())
    command = [magpie, "import", str(path), "--check", str(folder / "x.npy"), str(folder / "y.npy")]
    run = subprocess.run([*command, "--out", str(folder / "out.safetensors")], capture_output=True, text=True)
    if run.returncode == 0:
        lines = [line.split(": ", 1)[-1] for line in run.stdout.splitlines()]
        steps = next(line for line in lines if " steps" in line).split(" become ")[1].split()[0]
        off = next(line for line in lines if "y.npy" in line).split(", to ")[1].split()[0]
        return {"result": "equal", "steps": int(steps), "deviation": float(off)}
    said = run.stderr.replace(str(path), "").strip()
    if "holds what no step here does" in said:
        listed = [line.strip() for line in said.splitlines()[1:] if " ×, first " in line]
        reasons = [f"{line.split(' (')[0]} {line.split('(')[1].split(' ')[0]} ×" for line in listed]
        return {"result": "refused", "reason": ", ".join(dict.fromkeys(reasons))}
    wrong = "differs from" in said
    return {"result": "wrong" if wrong else "refused", "reason": said.splitlines()[0][:160]}


def main():
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    magpie, names = sys.argv[1], sys.argv[2:] or NETWORKS
    for name in names:
        if not timm.is_model(name):
            continue
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps({"network": name, **measured(magpie, name, Path(folder))}), flush=True)


if __name__ == "__main__":
    main()
