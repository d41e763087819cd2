from .classifier import LitClassifier
from .plain_data import DigitsDataModule, RandomDigits


class NamedDigits(RandomDigits):
    def __getitem__(self, index):
        return {"name": f"digit {index}", "image": self.images[index], "label": self.labels[index]}


class NamedDigitsDataModule(DigitsDataModule):
    def setup(self, stage):
        self.digits_train = NamedDigits(160, seed=0)
        self.digits_val = NamedDigits(40, seed=1)
        self.digits_test = NamedDigits(40, seed=2)


class NamedClassifier(LitClassifier):
    def training_step(self, batch, batch_idx):
        return {"loss": super().training_step((batch["image"], batch["label"]), batch_idx)}

    def validation_step(self, batch, batch_idx):
        return super().validation_step((batch["image"], batch["label"]), batch_idx)

    def test_step(self, batch, batch_idx):
        return super().test_step((batch["image"], batch["label"]), batch_idx)

    def predict_step(self, batch, batch_idx):
        return super().predict_step((batch["image"], batch["label"]), batch_idx)
