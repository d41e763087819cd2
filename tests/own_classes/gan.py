import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn


class GAN(pl.LightningModule):
    def __init__(self, latent_dim: int = 8, lr: float = 2e-3):
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(latent_dim, 32), nn.ReLU(), nn.Linear(32, 64))
        self.discriminator = nn.Sequential(nn.Linear(64, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    def adversarial_loss(self, images, real):
        logits = self.discriminator(images)
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, real))

    def losses(self, images):
        fake = self.generator(torch.randn(len(images), self.hparams.latent_dim))
        d_loss = self.adversarial_loss(images.flatten(1), 1.0) + self.adversarial_loss(fake.detach(), 0.0)
        return self.adversarial_loss(fake, 1.0), d_loss

    def training_step(self, batch):
        losses = self.losses(batch[0])
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        for loss in losses:
            self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()
        self.log_dict({"g_loss": losses[0], "d_loss": losses[1]}, prog_bar=True)

    def validation_step(self, batch, batch_idx):
        self.log("val_d_loss", self.losses(batch[0])[1])

    def test_step(self, batch, batch_idx):
        self.log("test_d_loss", self.losses(batch[0])[1])

    def configure_optimizers(self):
        networks = (self.generator, self.discriminator)
        return [torch.optim.Adam(network.parameters(), lr=self.hparams.lr) for network in networks]
