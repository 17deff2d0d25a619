"""A SavedModel as a Keras model: its folder in, a model with a layer for each of its outputs out.

A SavedModel has no layers left, only a function from images to named outputs, so its outputs are all that can be tapped. The
layer made of it keeps the folder inside any `.keras` file that it is saved in, so that a store and a run stay whole; to
load such a file without headstart's commands, import this module first.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from features.errors import UserError

SIGNATURE = "serving_default"
OUTWARD = (  # operations that reach beyond the model: files, Python, the network
    *(
        "ReadFile",
        "WriteFile",
        "MatchingFiles",
        "PyFunc",
        "EagerPyFunc",
        "PyFuncStateless",
        "SaveV2",
        "RestoreV2",
        "MergeV2Checkpoints",
    ),
    *(
        "Save",
        "SaveSlices",
        "Restore",
        "RestoreSlice",
        "ShardedFilename",
        "PrintV2",
        "LoadLibrary",
        "RpcCall",
        "TFRecordDataset",
    ),
    *("TextLineDataset", "FixedLengthRecordDataset", "WholeFileReaderV2", "DecodeProtoV2", "Send", "Recv", "DebugIdentityV2"),
)


def as_model(path: str, unsafe: bool = False) -> keras.Model:
    """A SavedModel's serving function as a model from its one input to all of its outputs, each a layer of its name.

    Args:
        path: the SavedModel's folder.
        unsafe: let it reach files, Python or the network.

    Raises:
        UserError: when the folder holds none, its function takes more than one tensor, or it reaches beyond itself.
    """
    layer = SavedModelLayer(path=path, unsafe=unsafe, name="saved_model")
    image = keras.Input(layer.image_shape[1:], dtype=layer.image_dtype, name="image")
    outputs = layer(image)
    named = [keras.layers.Activation("linear", name=name, dtype=outputs[name].dtype)(outputs[name]) for name in outputs]
    return keras.Model(image, named, name="saved_model")


@keras.saving.register_keras_serializable("headstart")
class SavedModelLayer(keras.layers.Layer):
    """A SavedModel's serving function as a layer: an image batch to a dictionary of outputs. It is never trained.

    Args:
        path: the folder to load; without one, the folder comes from the `.keras` file that the layer is loaded from.
        image_shape, image_dtype, outputs: what the function takes and gives, where no folder tells.
        unsafe: let it reach files, Python or the network; never kept in a file.
    """

    def __init__(
        self,
        path: str = "",
        image_shape: Any = (),
        image_dtype: str = "float32",
        outputs: Any = None,
        unsafe: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(trainable=False, **{name: value for name, value in options.items() if name != "trainable"})
        self.image_shape, self.image_dtype, self.outputs = tuple(image_shape), image_dtype, dict(outputs or {})
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if path:
            self._open(path, unsafe)

    def _open(self, path: str, unsafe: bool) -> None:
        self._source = path
        self._loaded, self._function, self._argument = _serving_function(path, unsafe)
        spec = self._function.structured_input_signature[1][self._argument]
        self.image_shape, self.image_dtype = tuple(spec.shape), spec.dtype.name
        outputs = self._function.structured_outputs
        self.outputs = {name: [list(outputs[name].shape), outputs[name].dtype.name] for name in sorted(outputs)}

    def call(self, image: Any) -> Any:
        """[B, H, W, 3] to a dictionary of outputs [B, ...]."""
        return self._function(**{self._argument: image})

    def compute_output_spec(self, image: Any) -> Any:
        """What `call` gives, known without the function: a file's layers are joined before their contents are loaded."""
        return {name: keras.KerasTensor((image.shape[0], *shape[1:]), dtype) for name, (shape, dtype) in self.outputs.items()}

    def captured_values(self) -> list[np.ndarray]:
        """All numbers that the function holds: its variables, then the constants of its graph, by their names."""
        variables = sorted(self._function.variables, key=lambda variable: variable.name)
        graphs = [self._function.graph.as_graph_def()]
        nodes = [node for graph in graphs for node in [*graph.node, *(n for f in graph.library.function for n in f.node_def)]]
        constants = [(node.name, tf.make_ndarray(node.attr["value"].tensor)) for node in nodes if node.op == "Const"]
        return [
            *(variable.numpy() for variable in variables),
            *(value for _, value in sorted(constants, key=lambda pair: pair[0]) if value.dtype.kind == "f"),
        ]

    def get_config(self) -> dict[str, Any]:
        """What the layer takes and gives; the folder travels as the file's asset."""
        described = {"image_shape": self.image_shape, "image_dtype": self.image_dtype, "outputs": self.outputs}
        return {**super().get_config(), **described}

    def save_assets(self, folder: str) -> None:
        """Keeps the SavedModel in the `.keras` file."""
        shutil.copytree(self._source, os.path.join(folder, "saved_model"), dirs_exist_ok=True)

    def load_assets(self, folder: str) -> None:
        """Takes it out again; Keras's own copy lasts only as long as the loading does."""
        self._folder = tempfile.TemporaryDirectory(prefix="headstart-")
        path = os.path.join(self._folder.name, "saved_model")
        shutil.copytree(os.path.join(folder, "saved_model"), path)
        self._open(path, unsafe=not keras.src.saving.serialization_lib.in_safe_mode())


def _serving_function(path: str, unsafe: bool) -> tuple[Any, Any, str]:
    """(what has to be kept alive, the function, the name of its one argument)."""
    if not os.path.isfile(os.path.join(path, "saved_model.pb")):
        raise UserError(f"{path!r} is no SavedModel: it holds no saved_model.pb")
    try:
        loaded = tf.saved_model.load(path)
    except Exception as error:
        raise UserError(f"the SavedModel {path!r} can't be loaded: {' '.join(str(error).split())[:300]}") from error
    signatures = dict(loaded.signatures)
    function = signatures.get(SIGNATURE) or (next(iter(signatures.values())) if len(signatures) == 1 else None)
    if function is None:
        raise UserError(f"{path!r} has the signatures {', '.join(signatures) or '(none)'}; a backbone needs {SIGNATURE}")
    arguments = list(function.structured_input_signature[1])
    if len(arguments) != 1:
        raise UserError(f"{path!r} takes {', '.join(arguments) or 'nothing'}; a backbone takes one tensor of images")
    if not unsafe and (outward := _outward(function)):
        raise UserError(
            f"the SavedModel {path!r} reaches beyond itself ({', '.join(outward)}): say --unsafe if you trust whoever made it"
        )
    return loaded, function, arguments[0]


def _outward(function: Any) -> list[str]:
    graph = function.graph.as_graph_def()
    used = {node.op for node in graph.node} | {node.op for inner in graph.library.function for node in inner.node_def}
    return sorted(used & set(OUTWARD))
