"""Composer's Trainer as its documentation has it."""
# pyright: reportMissingImports=false

from common import Stopwatch, Task, accuracy_of, documented_loader, main, network_of, optimizer_of, size_of


def train(task: Task) -> dict:
    from composer import Callback, Trainer
    from composer.models import ComposerClassifier

    class Timer(Callback):
        def epoch_start(self, state, logger):
            watch.epoch()

    watch, network, loader = Stopwatch(), network_of(task), documented_loader(task)
    model = ComposerClassifier(network, num_classes=10)
    trainer = Trainer(
        model=model,
        train_dataloader=loader,
        max_duration=f"{task.epochs}ep",
        optimizers=optimizer_of(task, network),
        callbacks=[Timer()],
        device="cpu",
        progress_bar=False,
    )
    trainer.fit()
    watch.epoch()
    return watch.result(len(loader) * task.batch_size, size_of(network), accuracy_of(task, network))


if __name__ == "__main__":
    main(train)
