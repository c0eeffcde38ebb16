"""Classify images with a file written by job=export; needs onnxruntime, numpy and Pillow: run_onnx.py model.onnx a.jpg b.jpg"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1])
metadata = session.get_modelmeta().custom_metadata_map
channels, height, width = json.loads(metadata["shape"])
border = (1 - float(metadata["crop_pct"])) / 2  # the model was trained on the central square
classes = json.loads(metadata["classes"])
for path in sys.argv[2:]:
    image = ImageOps.exif_transpose(Image.open(path)).convert("L" if channels == 1 else "RGB")
    center = ImageOps.fit(image, (width, height), bleed=border)
    pixels = np.asarray(center).reshape(height, width, channels).transpose(2, 0, 1)
    (probabilities,) = session.run(None, {session.get_inputs()[0].name: pixels[None]})
    best = int(probabilities[0].argmax())
    print(classes[best], f"{probabilities[0, best]:.4f}")
