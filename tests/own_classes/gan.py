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

    def forward(self, z):
        return self.generator(z)

    def adversarial_loss(self, images, real):
        logits = self.discriminator(images)
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, real))

    def discriminator_loss(self, images):
        fake = self(torch.randn(len(images), self.hparams.latent_dim, device=self.device))
        return self.adversarial_loss(images, 1.0) + self.adversarial_loss(fake.detach(), 0.0)

    def training_step(self, batch):
        images = batch[0].flatten(1)
        optimizer_g, optimizer_d = self.optimizers()

        g_loss = self.adversarial_loss(self(torch.randn(len(images), self.hparams.latent_dim)), 1.0)
        optimizer_g.zero_grad()
        self.manual_backward(g_loss)
        optimizer_g.step()

        d_loss = self.discriminator_loss(images)
        optimizer_d.zero_grad()
        self.manual_backward(d_loss)
        optimizer_d.step()
        self.log_dict({"g_loss": g_loss, "d_loss": d_loss}, prog_bar=True)

    def validation_step(self, batch, batch_idx):
        self.log("val_d_loss", self.discriminator_loss(batch[0].flatten(1)))

    def test_step(self, batch, batch_idx):
        self.log("test_d_loss", self.discriminator_loss(batch[0].flatten(1)))

    def configure_optimizers(self):
        optimizer_g = torch.optim.Adam(self.generator.parameters(), lr=self.hparams.lr, betas=(0.5, 0.999))
        optimizer_d = torch.optim.Adam(self.discriminator.parameters(), lr=self.hparams.lr, betas=(0.5, 0.999))
        return [optimizer_g, optimizer_d]
