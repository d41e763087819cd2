"""The same model in LitServe, for `load.py`: in a project's folder, python load_litserve.py MODEL BATCH_SIZE PORT.

Inputs are read by the project's own ``inputs.py``, as `serve` reads them, and the answer has the same form.
"""

import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import litserve  # pyright: ignore[reportMissingImports]
import numpy as np
import onnxruntime

[INPUTS] = Path("src").glob("*/inputs.py")


class Model(litserve.LitAPI):
    """Read, predict and answer as `serve` does, without what it keeps and counts."""

    def setup(self, device: str) -> None:
        """Open the model."""
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
        self.facts = json.loads(self.session.get_modelmeta().custom_metadata_map["facts"])
        self.reading = importlib.import_module(f"{INPUTS.parent.name}.inputs")
        [given] = self.session.get_inputs()
        self.name, self.shape = given.name, given.shape[1:]

    def decode_request(self, request):  # LitServe looks at annotations
        """Return an input as the model takes it."""
        if "columns" not in self.facts:
            return self.reading.read_image(request["files"].file, self.shape)
        rows = request["inputs"]  # the package reads tables from files alone
        with tempfile.NamedTemporaryFile("w", suffix=".csv", dir="/dev/shm", encoding="utf-8") as stream:
            stream.write(",".join(rows[0]) + "\n")
            stream.writelines(
                ",".join("" if cell is None else str(cell) for cell in row.values()) + "\n" for row in rows
            )
            stream.flush()
            table = self.reading.read_table(Path(stream.name))
        return self.reading.encode(table, self.facts["columns"])[0]

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Put inputs together."""
        return np.stack(inputs)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Compute probabilities of one input or a batch."""
        [output] = [o.name for o in self.session.get_outputs() if o.name == "probabilities"]
        [probabilities] = self.session.run([output], {self.name: x if x.ndim > len(self.shape) else x[None]})
        return np.asarray(probabilities)

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        """Take a batch apart."""
        return list(output)

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        """Answer with the most probable class and all probabilities."""
        probabilities, names = output.reshape(-1).tolist(), self.facts["class_names"]
        found = {"label": names[int(output.argmax())], "probabilities": dict(zip(names, probabilities, strict=True))}
        return {"predictions": [found]}


if __name__ == "__main__":
    size, port = int(sys.argv[2]), int(sys.argv[3])
    sys.path.insert(0, "src")
    api = Model(max_batch_size=size, batch_timeout=0.002 if size > 1 else 0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, num_api_servers=1, log_level="warning", generate_client_file=False)
