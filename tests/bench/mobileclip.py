"""The image tower of MobileCLIP-S0 with drawn weights, as timm keeps it: python mobileclip.py FILE."""
import sys

import timm
import torch

from import_onnx import settle

torch.manual_seed(7)
tower = settle(timm.create_model("fastvit_mci0", pretrained=False, num_classes=512))
torch.save(tower.state_dict(), sys.argv[1])
