"""Train with PyTorch from a table that fastloader reads, crops, flips and normalizes."""

import torch
from torch import nn
from torch.utils.data import DataLoader

from fastloader import FastLoader

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main():
    loader = FastLoader(
        "photos.db",
        size=(96, 96),
        fit="random_crop",
        flip=True,
        dtype="float32",
        mean=MEAN,
        std=STD,
        batch_size=32,
        shuffle=True,
        workers=2,
    )
    batches = DataLoader(loader.as_torch(), batch_size=None, num_workers=0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 1),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters())
    for epoch in range(2):
        for images, labels in batches:
            loss = nn.functional.mse_loss(model(images)[:, 0], labels.float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())


if __name__ == "__main__":
    main()
