"""Train with a DataModule of Lightning, and resume from its last checkpoint as if never killed."""

from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torchdata.stateful_dataloader import StatefulDataLoader

from fastloader import FastLoader

FOLDER = Path("lightning")


class Photos(lightning.LightningDataModule):
    def setup(self, stage):
        self.loader = FastLoader(
            "photos.db", size=(32, 32), dtype="float32", batch_size=8, shuffle=True
        )

    def train_dataloader(self):
        # Lightning keeps its state in each checkpoint.
        return StatefulDataLoader(self.loader.as_torch(), batch_size=None)

    def teardown(self, stage):
        self.loader.close()


class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(32 * 32 * 3, 1)

    def training_step(self, batch, number):
        images, labels = batch
        return (self.layer(images.flatten(1))[:, 0] - labels / 1000).square().mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3)


lightning.seed_everything(1, verbose=False)
trainer = lightning.Trainer(
    max_epochs=3, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
    callbacks=[
        ModelCheckpoint(FOLDER, filename="{step}", every_n_train_steps=5, save_top_k=-1),
    ],
)  # fmt: skip
last = max(FOLDER.glob("*.ckpt"), key=lambda file: int(file.stem.split("=")[1]), default=None)
model = Model()
trainer.fit(model, Photos(), ckpt_path=last, weights_only=False)
total = sum(its.sum().item() for its in model.parameters())
print(f"{trainer.global_step} steps, sum of weights {total:.5f}")
