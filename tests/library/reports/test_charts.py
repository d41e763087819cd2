import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_runs.reports import charts
from page import Page


def test_a_point_lies_where_its_value_is() -> None:
    values = [(0, 1.0), (5, 2.0), (10, 3.0)]
    axes = charts.Axes(values)
    first, middle, last = (axes.place(x, y) for x, y in values)
    assert first == (axes.left, axes.bottom)
    assert middle == pytest.approx([(first[0] + last[0]) / 2, (first[1] + last[1]) / 2])
    drawn = charts.line_chart("a", [charts.Line("b", [0, 5, 10], [1.0, 2.0, 3.0], 0)], "c")
    assert f'd="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in (first, middle, last))}"' in drawn


def test_values_that_are_not_finite_are_counted() -> None:
    lines = [charts.Line("val", [0, 1, 2], [1.0, float("nan"), float("inf")], 0)]
    assert "loss over step (2 values not finite, left out): val ends at 1." in charts.line_chart("loss", lines, "step")
    assert "no value that was logged is finite" in charts.line_chart("a", [charts.Line("b", [0], [-1e999], 0)], "step")


@settings(max_examples=30)
@given(name=st.text(min_size=1), values=st.lists(st.floats(), min_size=1, max_size=5))
def test_no_name_and_no_number_breaks_a_chart(name, values) -> None:
    line = charts.Line(f"<script>{name}\"'>", range(len(values)), values, 0)
    drawn = charts.line_chart(line.name, [line, line], line.name)
    Page(drawn)  # refuses the element
    assert "nan" not in re.sub(r"aria-label=\"[^\"]*\"|>[^<]*<", "", drawn)


def test_a_confusion_matrix_names_what_each_class_was_taken_for() -> None:
    page = charts.confusion_matrix(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1]), ["cat", "<dog>"])
    assert 'title="cat taken for &lt;dog&gt;: 1"' in page
    assert 'title="&lt;dog&gt; recognised: 2"' in page


def test_of_many_classes_the_most_frequent_confusions_are_listed() -> None:
    labels = torch.arange(100).repeat(3)
    predicted = labels.clone()
    predicted[[7, 107, 8]] = torch.tensor([9, 9, 3])
    page = charts.confusion_matrix(labels, predicted, [f"class {i}" for i in range(100)])
    assert page.index("class 9") < page.index("class 3")
    assert page.count("<tr>") == 3
