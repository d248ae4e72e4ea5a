"""LiteRT's own whole-number networks, made of its float ones by AI Edge Quantizer.

python litert_int8.py FOLDER

FOLDER holds NETWORK.tflite, see `cargo xtask bench engine`; beside each comes NETWORK_i8.tflite, with weights
and activations of 8 bits. Ranges are taken from the picture that every runtime is measured on.
"""
import sys
from pathlib import Path

from ai_edge_quantizer import algorithm_manager, qtyping, quantizer, recipe

from picture import picture, side_of

for path in sorted(Path(sys.argv[1]).glob("*.tflite")):
    if path.stem.endswith("_i8"):
        continue
    quantized = path.with_stem(f"{path.stem}_i8")
    maker = quantizer.Quantizer(float_model=str(path))
    maker.load_quantization_recipe(recipe.static_wi8_ai8())
    # LiteRT.js passes pages floats alone.
    for border in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        floats = algorithm_manager.AlgorithmName.NO_QUANTIZE
        maker.update_quantization_recipe(".*", border, algorithm_key=floats)
    ranges = maker.calibrate({"serving_default": [{"x": picture(side_of(path.stem))}]})
    quantized.write_bytes(maker.quantize(ranges).quantized_model)
