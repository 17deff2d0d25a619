"""A process of its own that loads an exported model with its runtime, and answers; where it can, without headstart.

    python answer.py RUNTIME EXPORT INPUTS ANSWERS

INPUTS is a folder of .npy files, an image each (or, for encoded files, their bytes); ANSWERS the .npy file to write,
float32 [images, classes]. RUNTIME is one of RUNTIMES.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

Answer = Callable[[np.ndarray], Any]  # an image to probabilities [1, classes]


def keras(folder: str) -> Answer:
    """Keras 3, in safe mode."""
    from keras.saving import load_model

    model = load_model(os.path.join(folder, "model.keras"), compile=False)
    return lambda image: model(image[None].astype(np.float32), training=False)


def keras_and_headstart(folder: str) -> Answer:
    """Keras 3 and the layer of headstart's that a SavedModel as a backbone needs; Lambda layers run."""
    from keras.saving import load_model

    import headstart.features.backbones.saved_model  # noqa: F401

    model = load_model(os.path.join(folder, "model.keras"), compile=False, safe_mode=False)
    return lambda image: model(image[None].astype(np.float32), training=False)


def _signature(folder: str, name: str) -> Any:
    import tensorflow as tf

    loaded = tf.saved_model.load(os.path.join(folder, "1"))
    signature = loaded.signatures[name]
    return lambda **inputs: (loaded, signature(**inputs)["probabilities"])[1]  # what is loaded lives as long as the function


def saved_model(folder: str) -> Answer:
    """TensorFlow, `serving_default`."""
    import tensorflow as tf

    answer = _signature(folder, "serving_default")
    return lambda image: answer(image=tf.constant(image[None], tf.float32))


def saved_model_bytes(folder: str) -> Answer:
    """TensorFlow, `serving_bytes`."""
    import tensorflow as tf

    answer = _signature(folder, "serving_bytes")
    return lambda content: answer(image_bytes=tf.constant([content.tobytes()]))


def onnx(folder: str) -> Answer:
    """ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(os.path.join(folder, "model.onnx"), providers=["CPUExecutionProvider"])
    return lambda image: session.run(["probabilities"], {"image": image[None].astype(np.float32)})[0]


def openvino(folder: str) -> Answer:
    """OpenVINO; in float32, as it may take bfloat16 by itself."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(os.path.join(folder, "model.xml"), "CPU", settings)
    return lambda image: model({"image": image[None].astype(np.float32)})["probabilities"]


def tflite(folder: str) -> Answer:
    """LiteRT, or TensorFlow's own interpreter where that is not installed."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tensorflow.lite.python.interpreter import Interpreter
    interpreter = Interpreter(os.path.join(folder, "model.tflite"))
    answer = interpreter.get_signature_runner("serving_default")
    dtype = interpreter.get_input_details()[0]["dtype"]

    def answer_one(image: np.ndarray) -> Any:
        pixels = np.clip(np.round(image), 0, 255) if dtype == np.uint8 else image
        return (interpreter, answer(image=pixels[None].astype(dtype))["probabilities"])[1]

    return answer_one


RUNTIMES = (keras, keras_and_headstart, saved_model, saved_model_bytes, onnx, openvino, tflite)


def main(runtime: str, folder: str, inputs: str, answers: str) -> None:
    """Answers every input, in the order of their names."""
    answer = {each.__name__: each for each in RUNTIMES}[runtime](folder)
    paths = [os.path.join(inputs, name) for name in sorted(os.listdir(inputs))]
    np.save(answers, np.concatenate([np.asarray(answer(np.load(path)), np.float32) for path in paths]))


if __name__ == "__main__":
    main(*sys.argv[1:])
