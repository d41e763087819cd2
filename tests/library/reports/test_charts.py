import torch
from lightning_runs.reports import charts


def test_a_confusion_matrix_names_what_each_class_was_taken_for() -> None:
    labels, predicted = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])
    page = charts.confusion_matrix(labels, predicted, ["cat", "<dog>"])
    assert 'title="cat taken for &lt;dog&gt;: 1"' in page
    assert 'title="&lt;dog&gt; recognised: 2"' in page
    assert "<dog>" not in page


def test_of_many_classes_the_pairs_that_were_confused_most_often_are_listed() -> None:
    labels = torch.arange(100).repeat(3)
    predicted = labels.clone()
    predicted[[7, 107, 8]] = torch.tensor([9, 9, 3])
    page = charts.confusion_matrix(labels, predicted, [f"class {i}" for i in range(100)])
    assert page.index("class 9") < page.index("class 3")
    assert page.count("<tr>") == 3
