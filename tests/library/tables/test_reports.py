import re
from typing import Any

import pytest
import torch
from lightning_runs.tables import reports
from starts import built, prepared
from written_data import COLOURS, table_rows, write_table


@pytest.fixture(scope="module")
def mass() -> Any:
    return prepared("table", dataset="penguin_mass")


def test_the_largest_errors_come_first(mass) -> None:
    index = mass.splits["test"][1]
    numbers = mass.splits["test"][0].labels[index] * mass.facts["std"] + mass.facts["mean"]
    numbers[:3] += 1000
    sections = built("table", mass).sections({"index": index, "prediction": numbers}, mass)
    drawn = {title: draw() for title, draw in sections}
    assert drawn["Predicted and true"].count("<circle") == 68 + 1  # that of the legend
    first = re.findall(r"<tr><th scope=\"row\">\S+:\d+</th>(.*?)</tr>", drawn["Largest errors"])[:4]
    assert [row.endswith("<td>1000</td>") for row in first] == [True, True, True, False]
    for text in ("CC0", "Biscoe, Dream, Torgersen", "body_mass_g", "to validate, 68 to test"):
        assert text in drawn["Data"]


def test_the_column_that_a_model_looks_at_matters_most(mass) -> None:
    model = built("table", mass)
    for parameter in model.network.parameters():
        parameter.data.zero_()
    model.network.linear.weight.data[0, 2] = 1.0  # flipper_length_mm is the third number
    index = mass.splits["test"][1]
    true = mass.splits["test"][0].labels[index].double() * mass.facts["std"] + mass.facts["mean"]
    table = reports.importance(mass.splits["predict"][0].tensors[0][index], true, model.exported())
    changes = re.findall(r'<th scope="row">(\w+)</th><td>(\S+)</td>', table)
    assert changes[0][0] == "flipper_length_mm"
    assert float(changes[0][1]) > 50
    assert [float(change) for _, change in changes[1:]] == [0] * (len(changes) - 1)


def test_numbers_are_standardised_and_groups_stay_together(tmp_path) -> None:
    lines = [[*line, f"patient {i % 12}" if i else "patient"] for i, line in enumerate(table_rows())]
    root = write_table(tmp_path / "a.csv", lines)
    data = prepared("table", dataset="csv_file", root=str(root), target="kind", group="patient")
    parts = [{(i + 1) % 12 for i in data.splits[part][1].tolist()} for part in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 12
    indices = data.splits["train"][1]
    numbers, words, _ = data.splits["train"][0][indices]
    assert numbers[:, 0].mean().item() == pytest.approx(0, abs=1e-5)
    assert numbers[:, 0].std(correction=0).item() == pytest.approx(1, abs=1e-5)
    missing = torch.tensor([i % 7 == 0 for i in indices.tolist()])
    assert numbers[:, 2].bool().equal(missing)
    assert bool((numbers[missing, 1] == 0).all())
    known = data.facts["columns"]["colour"]["words"]
    assert [known[i - 1] for i in words[:, 0].tolist()] == [COLOURS[i % 3] for i in indices.tolist()]
