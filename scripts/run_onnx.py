"""Classify a picture with a file that job=export wrote; needs onnxruntime, numpy and Pillow: run_onnx.py model.onnx a.jpg"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1])
known = session.get_modelmeta().custom_metadata_map
channels, height, width = json.loads(known["shape"])
border = (1 - float(known["crop_pct"])) / 2  # the network learned from the middle of the pictures
image = Image.open(sys.argv[2]).convert("L" if channels == 1 else "RGB")
middle = ImageOps.fit(image, (width, height), bleed=border)
pixels = np.asarray(middle).reshape(height, width, channels).transpose(2, 0, 1)
(probabilities,) = session.run(None, {"pictures": pixels[None]})
best = int(probabilities[0].argmax())
print(json.loads(known["classes"])[best], f"{probabilities[0, best]:.4f}")
