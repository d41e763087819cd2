import pytest
import torch
from lightning_runs.training.schedules import WarmupCosine


def rates(steps: int, **options) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = WarmupCosine(optimizer, **options)
    seen = []
    for _ in range(steps):
        seen.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return seen


def test_learning_rate_rises_to_its_peak_and_falls_to_the_end() -> None:
    rate = rates(101, warmup_steps=9, total_steps=100)
    assert rate[0] == pytest.approx(0.2)  # 2.0 / (9 + 1)
    assert rate[9] == max(rate) == 2.0
    assert rate[:10] == sorted(rate[:10])
    assert rate[9:] == sorted(rate[9:], reverse=True)
    assert rate[100] == pytest.approx(0)
    assert rates(41, warmup_steps=20, total_steps=100)[40] == pytest.approx((2 + 2**0.5) / 2)  # as a cosine falls


def test_warm_up_takes_at_most_a_fifth_and_no_end_keeps_the_peak() -> None:
    rate = rates(50, warmup_steps=1000, total_steps=50)
    assert rate.index(max(rate)) == 10
    assert rates(30, warmup_steps=9)[9:] == [2.0] * 21
