"""How each format is called: the piece of code that a model card shows, which the tests run as it stands. Text only."""

from __future__ import annotations

_PHOTO = 'photo = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")  # upright'
_IMAGE = f"{_PHOTO}\nimage = np.asarray(photo, np.float32)[None]  # [1, any, any, 3], 0..255"
_OPTIONS = 'encoding="utf-8", errors="surrogateescape", newline="\\n"'
# What is known before, and what is done with the answer `probabilities` [1, classes], of an image's class or its labels.
_KNOWN = {
    "class": f'labels = open("labels.txt", {_OPTIONS}).read().split("\\n")[:-1]',
    "labels": f'thresholds = json.load(open("export.json", {_OPTIONS}))["thresholds"]',
}
_SHOW = {
    "class": "print(labels[probabilities[0].argmax()], probabilities[0].max())",
    "labels": """for each, probability in zip(thresholds, probabilities[0].tolist()):
    if probability >= each["threshold"]:
        print(each["name"], probability)""",
}
_SHOW_SERVED = {
    "class": """best = int(tf.argmax(answer["probabilities"][0]))
print(answer["classes"][0, best].numpy().decode(), float(answer["probabilities"][0, best]))""",
    "labels": """for name in answer["classes"][answer["probabilities"] >= answer["thresholds"]].numpy():
    print(name.decode())""",
}

_CALLS = {
    "keras": f"""
```python
IMPORTS
import keras, numpy as np
from PIL import Image, ImageOps

KNOWN
{_IMAGE}
model = keras.saving.load_model("model.keras")
probabilities = np.asarray(model(image, training=False))
SHOW
```""",
    "saved_model": """
```python
import tensorflow as tf

model = tf.saved_model.load("1")
answer = model.signatures["serving_bytes"](image_bytes=tf.constant([open("photo.jpg", "rb").read()]))
SHOW_SERVED
```

TensorFlow Serving, with this folder as `--model_base_path` (the names of the model and the port are yours):

```sh
curl -d "{\\"signature_name\\": \\"serving_bytes\\", \\"instances\\": [{\\"b64\\": \\"$(base64 -w0 photo.jpg)\\"}]}" \\
  http://localhost:8501/v1/models/NAME:predict
```""",
    "onnx": f"""
```python
IMPORTS
import numpy as np, onnxruntime
from PIL import Image, ImageOps

KNOWN
{_IMAGE}
session = onnxruntime.InferenceSession("model.onnx")
(probabilities,) = session.run(["probabilities"], {{"image": image}})
SHOW
```""",
    "tflite": f"""
```python
IMPORTS
import numpy as np
from ai_edge_litert.interpreter import Interpreter  # or: Interpreter = tensorflow.lite.Interpreter
from PIL import Image, ImageOps

KNOWN
interpreter = Interpreter("model.tflite")
{_PHOTO}
image = photo.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
dtype = interpreter.get_input_details()[0]["dtype"]  # float32, or uint8 with --int8; both 0..255
probabilities = interpreter.get_signature_runner()(image=np.asarray(image, dtype)[None])["probabilities"]
SHOW
```""",
    "openvino": f"""
```python
IMPORTS
import numpy as np, openvino
from PIL import Image, ImageOps

KNOWN
{_IMAGE}
settings = {{"INFERENCE_PRECISION_HINT": "f32"}}  # without it, bfloat16 where the processor has it: faster, less exact
model = openvino.Core().compile_model("model.xml", "CPU", settings)
probabilities = model({{"image": image}})["probabilities"]
SHOW
```""",
}


def calls(answer: str) -> dict[str, str]:
    """Each format's code, in Markdown.

    Args:
        answer: what is decided of an image: its "class", or its "labels".
    """
    imports, known, show = "import json\n" if answer == "labels" else "", _KNOWN[answer], _SHOW[answer]
    return {
        name: text.replace("IMPORTS\n", imports)
        .replace("KNOWN", known)
        .replace("SHOW_SERVED", _SHOW_SERVED[answer])
        .replace("SHOW", show)
        for name, text in _CALLS.items()
    }
