"""The recipe of docs/data.md for images in other files works as it is written."""

import re
from typing import Any

import torch
from starts import STARTS


def test_images_in_other_files_need_an_entry_and_some_lines(own_folder) -> None:
    page = (STARTS / "images" / "docs" / "data.md").read_text(encoding="utf-8")
    section = page.split("\n## Images in other files\n")[1].split("\n## ")[0]
    writer, entry, reader = re.findall(r"^```python\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    exec(writer, {})
    text = (STARTS / "images" / "src" / "{{cookiecutter.__package}}" / "data.py").read_text(encoding="utf-8")
    imports = re.findall(r"`((?:import|from) [^`]*)`", section)
    text = text.replace("import torch\n", "\n".join([*imports, "import torch\n"]), 1)
    text = text.replace('"image_folder"] =', '"image_folder", "stripes"] =')
    text = re.sub(r"(^SOURCES = .*\n)", rf"\1{entry}", text, flags=re.MULTILINE)
    text = text.replace(
        '        if self.dataset != "image_folder":\n', f'{reader}        if self.dataset != "image_folder":\n'
    )
    names: dict[str, Any] = {"__name__": "striped", "__file__": str(own_folder / "striped.py")}
    exec(text, names)
    data = names["DataModule"]("stripes")
    data.prepare_data()
    data.setup("fit")
    assert (data.input_shape, data.class_names) == ((1, 16, 16), ["rows", "columns"])
    assert [len(data.splits[part][1]) for part in ("train", "val", "test")] == [720, 80, 200]
    images, _ = data.on_after_batch_transfer(data.splits["train"][0][torch.arange(800)], 0)
    assert abs(images.mean()) < 0.05
    assert abs(images.std() - 1) < 0.05
