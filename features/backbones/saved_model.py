"""A SavedModel as a Keras model: its folder in, a model with a layer for each of its outputs out.

A SavedModel has no layers left, only a function from images to named outputs, so its outputs are all that can be tapped. The
layer made of it keeps the folder inside any `.keras` file that it is saved in, so that a store and a run stay whole; to
load such a file without headstart's commands, import this module first.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from typing import IO, Any

import keras
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from headstart.features.backbones.saved_model_operations import NETWORK, SAVER
from headstart.features.errors import UserError
from headstart.features.keras_internals import is_loading_unsafe

SIGNATURE = "serving_default"
REFUSED_SHOWN = 10
WHILE_LOADING = ("_create_resource", "_initialize", "_destroy_resource")  # what TensorFlow calls by itself


def as_model(path: str, image_size: tuple[int, int] | None = None, unsafe: bool = False) -> keras.Model:
    """A SavedModel's serving function as a model from its one input to all of its outputs, each a layer of its name.

    Args:
        path: the SavedModel's folder.
        image_size: (height, width) in pixels, where it takes any.
        unsafe: let it hold any operation, also those that reach files, Python or the network.

    Raises:
        UserError: when the folder holds none, its function takes more than one tensor, or it holds operations that no network
            needs.
    """
    layer = SavedModelLayer(path=path, image_size=image_size, unsafe=unsafe, name="saved_model")
    image = keras.Input(batch_shape=layer.image_shape, dtype=layer.image_dtype, name="image")
    outputs = layer(image)
    named = [keras.layers.Activation("linear", name=name, dtype=outputs[name].dtype)(outputs[name]) for name in outputs]
    return keras.Model(image, named, name="saved_model")


@keras.saving.register_keras_serializable("headstart")
class SavedModelLayer(keras.layers.Layer):
    """A SavedModel's serving function as a layer: an image batch to a dictionary of outputs. It is never trained.

    Args:
        path: the folder to load; without one, the folder comes from the `.keras` file that the layer is loaded from.
        image_size: (height, width) in pixels, where the function takes any; with path only.
        image_shape, image_dtype, outputs: what the function takes and gives, where no folder tells.
        operations: a digest of what the function does, its weights aside.
        unsafe: let it hold any operation; never kept in a file.
    """

    def __init__(
        self,
        path: str = "",
        image_size: tuple[int, int] | None = None,
        image_shape: Any = (),
        image_dtype: str = "float32",
        outputs: Any = None,
        operations: str = "",
        unsafe: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(trainable=False, **{name: value for name, value in options.items() if name != "trainable"})
        self.image_shape, self.image_dtype, self.outputs = tuple(image_shape), image_dtype, dict(outputs or {})
        self.operations = operations
        self._kept: IO[bytes] | None = None
        # Keras knows of its safe mode while it makes layers, and no longer when it loads their assets.
        self._unsafe = unsafe or is_loading_unsafe()
        if path:
            self._open(path)
            self._describe(path, image_size)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SavedModelLayer:
        """A file can't say which folder to open, nor that it is to be trusted."""
        return cls(**{name: value for name, value in config.items() if name not in ("path", "unsafe", "image_size")})

    def _open(self, path: str) -> None:
        self._source = path
        self._loaded, self._function, self._argument = _serving_function(path, self._unsafe)

    def _describe(self, path: str, image_size: tuple[int, int] | None) -> None:
        spec = self._function.structured_input_signature[1][self._argument]
        if spec.shape.rank != 4:
            raise UserError("bad-model", f"{path!r} takes {spec.shape}; a backbone takes RGB images [B, H, W, 3]")
        batch, *sides, channels = spec.shape
        sides = [own or asked for own, asked in zip(sides, image_size or (None, None))]
        self.image_shape, self.image_dtype = (batch, *sides, channels), spec.dtype.name
        given = self._function.structured_outputs
        shapes = {name: given[name].shape for name in sorted(given)}
        if not all(shape[1:].is_fully_defined() for shape in shapes.values()) and None not in self.image_shape[1:]:
            try:
                tried = self.call(tf.zeros((batch or 1, *self.image_shape[1:]), spec.dtype))
            except tf.errors.OpError as error:
                raise UserError(
                    "image-size", f"{path!r} takes no images of {sides[0]}x{sides[1]} pixels: give another --image_size"
                ) from error
            shapes = {name: tried[name].shape for name in shapes}
        self.outputs = {name: [[batch, *shapes[name][1:]], given[name].dtype.name] for name in sorted(given)}
        self.operations = _operations(self._function)

    def call(self, image: Any) -> Any:
        """[B, H, W, 3] to a dictionary of outputs [B, ...]."""
        return self._function(**{self._argument: image})

    def compute_output_spec(self, image: Any) -> Any:
        """What `call` gives, known without the function: a file's layers are joined before their contents are loaded."""
        return {name: keras.KerasTensor((image.shape[0], *shape[1:]), dtype) for name, (shape, dtype) in self.outputs.items()}

    def captured_values(self) -> list[np.ndarray]:
        """All numbers that the function holds: its variables, then the constants of its graph, by their names."""
        variables = sorted(self._function.variables, key=lambda variable: variable.name)
        nodes = _nodes(self._function.graph.as_graph_def())
        constants = [(node.name, tf.make_ndarray(node.attr["value"].tensor)) for node in nodes if node.op == "Const"]
        return [
            *(variable.numpy() for variable in variables),
            *(value for _, value in sorted(constants, key=lambda pair: pair[0]) if value.dtype.kind == "f"),
        ]

    def get_config(self) -> dict[str, Any]:
        """What the layer takes and gives; the folder travels as the file's asset."""
        names = ("image_shape", "image_dtype", "outputs", "operations")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def save_assets(self, folder: str) -> None:
        """Keeps the SavedModel in the `.keras` file."""
        path = os.path.join(folder, "saved_model")
        if self._kept:
            with zipfile.ZipFile(self._kept) as kept:
                kept.extractall(path)
        else:
            shutil.copytree(self._source, path, dirs_exist_ok=True)

    def load_assets(self, folder: str) -> None:
        """Takes it out again. It is kept for the next saving in a file without a name, which no kill can leave behind."""
        path = os.path.join(folder, "saved_model")  # Keras's own copy: it lasts as long as the loading does
        self._kept = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the layer
        with zipfile.ZipFile(self._kept, "w") as kept:
            for parent, _, names in os.walk(path):
                for name in names:
                    kept.write(os.path.join(parent, name), os.path.relpath(os.path.join(parent, name), path))
        self._open(path)


def _serving_function(path: str, unsafe: bool) -> tuple[Any, Any, str]:
    """(what has to be kept alive, the function, the name of its one argument)."""
    if not os.path.isfile(os.path.join(path, "saved_model.pb")):
        raise UserError("bad-model", f"{path!r} is no SavedModel: it holds no saved_model.pb")
    if not unsafe:
        _refuse(path, _refused_in_file(path))
    try:
        loaded = tf.saved_model.load(path)
    except Exception as error:
        raise UserError(
            "bad-model", f"the SavedModel {path!r} can't be loaded: {' '.join(str(error).split())[:300]}"
        ) from error
    signatures = dict(loaded.signatures)
    function = signatures.get(SIGNATURE) or (next(iter(signatures.values())) if len(signatures) == 1 else None)
    if function is None:
        raise UserError(
            "bad-model", f"{path!r} has the signatures {', '.join(signatures) or '(none)'}; a backbone needs {SIGNATURE}"
        )
    arguments = list(function.structured_input_signature[1])
    if len(arguments) != 1:
        raise UserError(
            "bad-model", f"{path!r} takes {', '.join(arguments) or 'nothing'}; a backbone takes one tensor of images"
        )
    if not unsafe:
        _refuse(path, {node.op for node in _nodes(function.graph.as_graph_def())} - NETWORK)
    return loaded, function, arguments[0]


def _refuse(path: str, operations: Iterable[str]) -> None:
    if names := ", ".join(sorted(operations)[:REFUSED_SHOWN]):
        raise UserError(
            "unsafe-model",
            f"the SavedModel {path!r} holds operations that no network needs and that may reach beyond it ({names}): "
            f"say --unsafe if you trust whoever made it",
        )


def _refused_in_file(path: str) -> set[str]:
    """Operations that no network needs, anywhere in the file; of those that TensorFlow saves with, what loading calls."""
    try:
        with open(os.path.join(path, "saved_model.pb"), "rb") as file:
            graphs = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs
    except (OSError, DecodeError) as error:
        raise UserError(
            "bad-model", f"the SavedModel {path!r} can't be loaded: {' '.join(str(error).split())[:300]}"
        ) from error
    found = {node.op for graph in graphs for node in _nodes(graph.graph_def)} - NETWORK - SAVER
    for graph in graphs:
        objects, functions = graph.object_graph_def.nodes, {f.signature.name: f for f in graph.graph_def.library.function}
        children = [child for each in objects for child in each.children if child.local_name in WHILE_LOADING]
        called = [objects[child.node_id] for child in children]
        called += [objects[each.restore_function] for holder in objects for each in holder.saveable_objects.values()]
        waiting = [name for each in called for name in each.function.concrete_functions]
        waiting += [each.bare_concrete_function.concrete_function_name for each in called]
        while waiting:
            function = functions.pop(waiting.pop(), None)
            for node in function.node_def if function else ():
                found |= {node.op} & SAVER
                waiting += _called(node)
    return found


def _called(node: Any) -> Iterator[str]:
    """The functions that an operation calls."""
    for attribute in node.attr.values():
        yield from [function.name for function in (attribute.func, *attribute.list.func) if function.name]


def _nodes(graph: Any) -> list[Any]:
    return [*graph.node, *(node for function in graph.library.function for node in function.node_def)]


def _operations(function: Any) -> str:
    """sha256 over a function's operations and their settings, in no order: its names change with every loading."""
    told = []
    for node in _nodes(function.graph.as_graph_def()):
        kept = {
            name: value.SerializeToString(deterministic=True).hex()
            for name, value in node.attr.items()
            if not name.startswith("_")
            and not value.HasField("func")
            and name not in ("container", "shared_name", "config_proto")
        }
        told.append(f"{node.op}{sorted(kept.items())}")
    return hashlib.sha256("\n".join(sorted(told)).encode()).hexdigest()
