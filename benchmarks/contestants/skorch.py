"""skorch as its documentation's MNIST example has it: normalised arrays in memory."""
# pyright: reportMissingImports=false

import torch
from common import Stopwatch, Task, accuracy_of, data_of, main, network_of, size_of


def train(task: Task) -> dict:
    from skorch import NeuralNetClassifier
    from skorch.callbacks import Callback

    class Timer(Callback):
        def on_epoch_begin(self, net, **kwargs):
            watch.epoch()

    watch, data = Stopwatch(), data_of(task)
    images, indices = data.splits["train"]
    x, y = data.normalize(images.images[indices]).numpy(), images.labels[indices].numpy()
    net = NeuralNetClassifier(
        network_of(task),
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr=task.lr,
        optimizer__weight_decay=0.01,
        batch_size=task.batch_size,
        max_epochs=task.epochs,
        iterator_train__shuffle=True,
        iterator_train__drop_last=True,
        train_split=None,
        verbose=0,
        callbacks=[Timer()],
    )
    net.fit(x, y)
    watch.epoch()
    samples = len(y) // task.batch_size * task.batch_size
    return watch.result(samples, size_of(net.module_), accuracy_of(task, net.module_))


if __name__ == "__main__":
    main(train)
