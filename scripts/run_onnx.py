"""Classify a picture with a file that job=export wrote; needs onnxruntime, numpy and Pillow alone.

python scripts/run_onnx.py model.onnx photo.jpg
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1])
known = session.get_modelmeta().custom_metadata_map
channels, height, width = json.loads(known["shape"])
image = Image.open(sys.argv[2]).convert("L" if channels == 1 else "RGB")
border = (1 - json.loads(known["crop_pct"])) / 2  # the middle of the picture is what the network learned from
pixels = (
    np.asarray(ImageOps.fit(image, (width, height), bleed=border)).reshape(height, width, channels).transpose(2, 0, 1)
)
(probabilities,) = session.run(None, {"pictures": pixels[None]})
best = int(probabilities[0].argmax())
print(json.loads(known["classes"])[best], f"{probabilities[0, best]:.4f}")
