import pytorch_lightning as pl
import torch
from torch import nn


class SentimentModel(pl.LightningModule):
    def __init__(self, vocab_size: int = 50, embedding_dim: int = 16, lr: float = 1e-2):
        super().__init__()
        self.lr = lr
        self.embedding = nn.EmbeddingBag(vocab_size, embedding_dim)
        self.classifier = nn.Linear(embedding_dim, 2)

    def forward(self, input_ids):
        return self.classifier(self.embedding(input_ids))

    def shared_step(self, batch, stage):
        loss = nn.functional.cross_entropy(self(batch["input_ids"]), batch["labels"])
        self.log(f"{stage}/loss", loss, batch_size=len(batch["labels"]))
        return {"loss": loss}

    def training_step(self, batch, batch_idx):
        return self.shared_step(batch, "train")

    def validation_step(self, batch, batch_idx):
        return self.shared_step(batch, "val")

    def test_step(self, batch, batch_idx):
        return self.shared_step(batch, "test")

    def configure_optimizers(self):
        return {"optimizer": torch.optim.AdamW(self.parameters(), lr=self.lr)}
