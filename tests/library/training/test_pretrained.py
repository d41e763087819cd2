from types import SimpleNamespace

from lightning_runs.training.pretrained import FineTuningHooks, PretrainedNetwork


class Counted(PretrainedNetwork):
    """Counts how often its weights are read."""

    count = 0

    def load_weights(self) -> None:
        self.count += 1


def test_weights_are_read_when_a_new_training_starts() -> None:
    module = FineTuningHooks()
    module.network = Counted("file.pth")
    for checkpoint in ("last.ckpt", None):
        module.trainer = SimpleNamespace(ckpt_path=checkpoint)
        module.on_fit_start()
        assert module.network.count == (checkpoint is None)
