"""Models: MONAI bundle folders with an ONNX graph, named, versioned and known by digest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from inference.errors import ModelError

PACKAGED = Path(__file__).resolve().parent / "bundles" / "synthglioma-25d"


@dataclass(frozen=True, slots=True)
class Model:
    """One version of one model.

    Attributes:
        name: name in its metadata.
        version: version in its metadata.
        digest: SHA-256 of the graph file, hexadecimal: what really ran.
        graph: the ONNX file.
        description: one sentence from the metadata.
        minimum_ml: connected lesions below this volume are dropped.
    """

    name: str
    version: str
    digest: str
    graph: Path
    description: str
    minimum_ml: float

    @property
    def label(self) -> str:
        """`name@version`, as it enters the identifier of a run."""
        return f"{self.name}@{self.version}"


def load_model(folder: Path | None = None) -> Model:
    """Read a bundle folder: configs/metadata.json and models/model.onnx.

    Args:
        folder: the bundle; the packaged reference model when None.

    Raises:
        ModelError: a file or a required entry is missing.
    """
    bundle = folder or PACKAGED
    graph = bundle / "models" / "model.onnx"
    try:
        metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
        digest = hashlib.sha256(graph.read_bytes()).hexdigest()
        channels = metadata["network_data_format"]["inputs"]["image"]["num_channels"]
        model = Model(
            name=metadata["name"],
            version=metadata["version"],
            digest=digest,
            graph=graph,
            description=metadata.get("task", metadata["name"]),
            minimum_ml=float(metadata.get("postprocessing", {}).get("min_component_ml", 0.0)),
        )
    except OSError as error:
        raise ModelError(f"model bundle {bundle} is incomplete: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"model bundle {bundle} has unusable metadata: {error}") from error
    if channels != 6:
        raise ModelError(f"model {model.label} takes {channels} channels; only 6 is understood")
    return model
