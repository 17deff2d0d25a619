"""How each format is called: the piece of code that a model card shows, which the tests run as it stands. Text only."""

from __future__ import annotations

_LABELS = 'labels = open("labels.txt", encoding="utf-8", errors="surrogateescape", newline="\\n").read().split("\\n")[:-1]'
_PHOTO = 'photo = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")  # upright'
_IMAGE = f"{_PHOTO}\nimage = np.asarray(photo, np.float32)[None]  # [1, any, any, 3], 0..255"
_SHOW = "print(labels[probabilities[0].argmax()], probabilities[0].max())"

CALLS = {
    "keras": f"""
```python
import keras, numpy as np
from PIL import Image, ImageOps

{_LABELS}
{_IMAGE}
model = keras.saving.load_model("model.keras")
probabilities = np.asarray(model(image, training=False))
{_SHOW}
```""",
    "saved_model": """
```python
import tensorflow as tf

model = tf.saved_model.load("1")
answer = model.signatures["serving_bytes"](image_bytes=tf.constant([open("photo.jpg", "rb").read()]))
best = int(tf.argmax(answer["probabilities"][0]))
print(answer["classes"][0, best].numpy().decode(), float(answer["probabilities"][0, best]))
```

TensorFlow Serving, with this folder as `--model_base_path` (the names of the model and the port are yours):

```sh
curl -d "{\\"signature_name\\": \\"serving_bytes\\", \\"instances\\": [{\\"b64\\": \\"$(base64 -w0 photo.jpg)\\"}]}" \\
  http://localhost:8501/v1/models/NAME:predict
```""",
    "onnx": f"""
```python
import numpy as np, onnxruntime
from PIL import Image, ImageOps

{_LABELS}
{_IMAGE}
session = onnxruntime.InferenceSession("model.onnx")
(probabilities,) = session.run(["probabilities"], {{"image": image}})
{_SHOW}
```""",
    "tflite": f"""
```python
import numpy as np
from ai_edge_litert.interpreter import Interpreter  # or: Interpreter = tensorflow.lite.Interpreter
from PIL import Image, ImageOps

{_LABELS}
interpreter = Interpreter("model.tflite")
{_PHOTO}
image = photo.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
dtype = interpreter.get_input_details()[0]["dtype"]  # float32, or uint8 with --int8; both 0..255
probabilities = interpreter.get_signature_runner()(image=np.asarray(image, dtype)[None])["probabilities"]
{_SHOW}
```""",
    "openvino": f"""
```python
import numpy as np, openvino
from PIL import Image, ImageOps

{_LABELS}
{_IMAGE}
settings = {{"INFERENCE_PRECISION_HINT": "f32"}}  # without it, bfloat16 where the processor has it: faster, less exact
model = openvino.Core().compile_model("model.xml", "CPU", settings)
probabilities = model({{"image": image}})["probabilities"]
{_SHOW}
```""",
}
