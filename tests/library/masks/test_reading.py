import io

import numpy as np
import pytest
from lightning_runs.masks import reading
from PIL import Image

MASK = np.repeat(np.array([[0, 9]], np.uint8), 16, axis=0).repeat(8, axis=1)  # the right half is class 9


@pytest.mark.parametrize("labels", [[0, *range(51, 59), 200], [3, *range(51, 59), 300]])
def test_a_predicted_mask_has_the_size_of_its_image(labels, tmp_path) -> None:
    file = str(tmp_path / "4.png")
    Image.new("RGB", (30, 24)).save(file)
    facts = {"class_names": list("abcdefghij"), "labels": labels}
    names, [row] = reading.rows({"file": [file], "mask": [MASK], "confidence": [0.75]}, facts)
    assert names == ["file", "mask", "confidence", *(f"share({name})" for name in "abcdefghij")]
    assert row[0::2] == [file, 0.75, *[0.0] * 4, 0.5]
    picture = Image.open(io.BytesIO(row[1].content))
    assert np.array_equal(np.asarray(picture), np.full((24, 30), [labels[0]] * 15 + [labels[9]] * 15))
    assert (picture.mode == "P") == (labels[9] == 200)
