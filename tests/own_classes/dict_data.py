import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset


class Reviews(Dataset):
    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        self.lengths = torch.randint(3, 9, (count,), generator=generator)
        self.tokens = torch.randint(1, 50, (count, 8), generator=generator)

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        tokens = self.tokens[index, : self.lengths[index]]
        return {"text": f"review {index}", "input_ids": tokens, "label": int(tokens.sum() > 150)}


def collate(reviews):
    ids = [review["input_ids"] for review in reviews]
    return {
        "text": [review["text"] for review in reviews],
        "input_ids": torch.nn.utils.rnn.pad_sequence(ids, batch_first=True),
        "labels": torch.tensor([review["label"] for review in reviews]),
    }


class ReviewsDataModule(pl.LightningDataModule):
    def __init__(self, batch_size: int = 16):
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self):
        return DataLoader(Reviews(160, seed=0), self.batch_size, shuffle=True, collate_fn=collate)

    def val_dataloader(self):
        return DataLoader(Reviews(40, seed=1), self.batch_size, collate_fn=collate)

    def test_dataloader(self):
        return DataLoader(Reviews(40, seed=2), self.batch_size, collate_fn=collate)
