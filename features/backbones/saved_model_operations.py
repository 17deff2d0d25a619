"""The operations that a SavedModel may hold: what networks are made of. Everything else is refused unless it is trusted.

A list of what is harmful would have holes, and another with each release of TensorFlow. Standard library only.
"""

from __future__ import annotations

ARITHMETIC = (
    *("Abs", "Add", "AddN", "AddV2", "Atan", "Atan2", "BiasAdd", "BiasAddV1", "Ceil", "ClipByValue", "Cos", "Cosh", "Cumprod"),
    *("Cumsum", "Div", "DivNoNan", "Erf", "Erfc", "Exp", "Expm1", "Floor", "FloorDiv", "FloorMod", "Inv", "Log", "Log1p"),
    *("Maximum", "Minimum", "Mod", "Mul", "MulNoNan", "Neg", "Pow", "RealDiv", "Reciprocal", "Rint", "Round", "Rsqrt"),
    *("Sign", "Sin", "Sinh", "Sqrt", "Square", "SquaredDifference", "Sub", "Tan", "TruncateDiv", "Xdivy", "Xlogy"),
)
LOGIC = (
    *("All", "Any", "ApproximateEqual", "ArgMax", "ArgMin", "Equal", "Greater", "GreaterEqual", "IsFinite", "IsInf", "IsNan"),
    *("Less", "LessEqual", "LogicalAnd", "LogicalNot", "LogicalOr", "NotEqual", "Select", "SelectV2", "Where"),
)
REDUCTIONS = ("EuclideanNorm", "L2Loss", "Max", "Mean", "Min", "Prod", "Sum", "TopK", "TopKV2")
LAYERS = (
    *("AvgPool", "AvgPool3D", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Conv2D", "Conv2DBackpropInput", "Conv3D"),
    *("DepthwiseConv2dNative", "Dilation2D", "Einsum", "Elu", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "LRN"),
    *("LeakyRelu", "LogSoftmax", "MatMul", "MaxPool", "MaxPool3D", "MaxPoolV2", "MaxPoolWithArgmax", "Relu", "Relu6", "Selu"),
    *("Sigmoid", "Softmax", "Softplus", "Softsign", "Tanh"),
    *("FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel"),
)
ARRAYS = (
    *(
        "BatchToSpace",
        "BatchToSpaceND",
        "Bitcast",
        "BroadcastArgs",
        "BroadcastTo",
        "Cast",
        "Concat",
        "ConcatOffset",
        "ConcatV2",
    ),
    *("Const", "DepthToSpace", "EnsureShape", "ExpandDims", "ExtractImagePatches", "Fill", "Gather", "GatherNd", "GatherV2"),
    *("Identity", "IdentityN", "InvertPermutation", "LinSpace", "MatrixBandPart", "MirrorPad", "OneHot", "OnesLike", "Pack"),
    *("Pad", "PadV2", "Placeholder", "PlaceholderWithDefault", "PreventGradient", "Range", "Rank", "Reshape", "Reverse"),
    *("ReverseV2", "Roll", "ScatterNd", "Shape", "ShapeN", "Size", "Slice", "Snapshot", "SpaceToBatch", "SpaceToBatchND"),
    *("SpaceToDepth", "Split", "SplitV", "Squeeze", "StopGradient", "StridedSlice", "TensorScatterAdd", "TensorScatterUpdate"),
    *("Tile", "Transpose", "UnravelIndex", "Unpack", "ZerosLike"),
)
IMAGES = (
    *("AdjustContrastv2", "AdjustHue", "AdjustSaturation", "CropAndResize", "HSVToRGB", "ImageProjectiveTransformV2"),
    *("ImageProjectiveTransformV3", "RGBToHSV", "ResizeArea", "ResizeBicubic", "ResizeBilinear", "ResizeNearestNeighbor"),
    "ScaleAndTranslate",
)
RANDOM = (  # augmentation that an inference leaves aside
    *("RandomStandardNormal", "RandomUniform", "RandomUniformInt", "StatelessRandomGetAlg", "StatelessRandomGetKeyCounter"),
    *("StatelessRandomGetKeyCounterAlg", "StatelessRandomNormal", "StatelessRandomNormalV2", "StatelessRandomUniform"),
    *("StatelessRandomUniformInt", "StatelessRandomUniformIntV2", "StatelessRandomUniformV2", "StatelessTruncatedNormalV2"),
)
CONTROL = (
    *("Assert", "Case", "ControlTrigger", "Enter", "Exit", "If", "LoopCond", "Merge", "NextIteration", "NoOp"),
    *("PartitionedCall", "StatefulPartitionedCall", "StatelessCase", "StatelessIf", "StatelessWhile", "Switch", "While"),
    *("EmptyTensorList", "TensorListElementShape", "TensorListFromTensor", "TensorListGetItem", "TensorListLength"),
    *("TensorListPopBack", "TensorListPushBack", "TensorListReserve", "TensorListSetItem", "TensorListStack"),
)
STATE = (  # variables, and tables of numbers for words
    *("Assign", "AssignAddVariableOp", "AssignSubVariableOp", "AssignVariableOp", "DestroyResourceOp", "DisableCopyOnRead"),
    *("IsVariableInitialized", "ReadVariableOp", "ResourceGather", "VarHandleOp", "VarIsInitializedOp", "Variable"),
    *("VariableShape", "VariableV2", "HashTableV2", "LookupTableExportV2", "LookupTableFindV2", "LookupTableImportV2"),
    "LookupTableSizeV2",
)
NETWORK = frozenset((*ARITHMETIC, *LOGIC, *REDUCTIONS, *LAYERS, *ARRAYS, *IMAGES, *RANDOM, *CONTROL, *STATE))

# What TensorFlow puts into every file for saving it again: allowed where nothing calls it.
SAVER = frozenset(
    (
        *("MergeV2Checkpoints", "Restore", "RestoreSlice", "RestoreV2", "Save", "SaveSlices", "SaveV2", "ShardedFilename"),
        *("StaticRegexFullMatch", "StringJoin"),
    )
)
