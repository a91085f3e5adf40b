"""Train with Hugging Face's Trainer, and resume from its last checkpoint with the same batches."""

import json
from pathlib import Path

import torch
import transformers
from torch.utils.data import DataLoader

from fastloader import FastLoader

FOLDER = Path("trainer")


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(32 * 32 * 3, 1)

    def forward(self, pixel_values, labels):
        predicted = self.layer(pixel_values.flatten(1))[:, 0]
        return {"loss": (predicted - labels / 1000).square().mean(), "logits": predicted}


class Place(transformers.TrainerCallback):
    """Saves the loader's place beside each checkpoint."""

    def __init__(self, first_step):
        self.first_step = first_step

    def on_save(self, args, state, *_, **__):
        taken = (state.global_step - self.first_step) * args.gradient_accumulation_steps
        place = json.dumps(loader.state_dict(consumed=taken))
        (FOLDER / f"checkpoint-{state.global_step}" / "loader.json").write_text(place)


class Trainer(transformers.Trainer):
    def get_train_dataloader(self):
        return DataLoader(
            loader.as_torch(),
            batch_size=None,
            collate_fn=lambda batch: {"pixel_values": batch[0], "labels": batch[1]},
        )


with FastLoader("photos.db", size=(32, 32), dtype="float32", batch_size=8, shuffle=True) as loader:
    # A checkpoint without a place is one that the program was killed in.
    saved = [file.parent for file in FOLDER.glob("checkpoint-*/loader.json")]
    last = max(saved, key=lambda folder: int(folder.name.split("-")[1]), default=None)
    first_step = 0
    if last is not None:
        loader.load_state_dict(json.loads((last / "loader.json").read_text()))
        first_step = int(last.name.split("-")[1])
    arguments = transformers.TrainingArguments(
        str(FOLDER), num_train_epochs=3, save_steps=5, learning_rate=1e-3, seed=1, report_to=[],
        ignore_data_skip=True,  # the loader is there already
    )  # fmt: skip
    transformers.set_seed(1)
    trainer = Trainer(Model(), arguments, callbacks=[Place(first_step)])
    trainer.train(resume_from_checkpoint=None if last is None else str(last))
    total = sum(its.sum().item() for its in trainer.model.parameters())
    print(f"{trainer.state.global_step} steps, sum of weights {total:.5f}")
