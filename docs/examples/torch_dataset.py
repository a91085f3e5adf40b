"""Train with PyTorch from a Dataset over a table, and torchvision's transforms."""

import io
import sqlite3

import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Photos(Dataset):
    def __init__(self, path, transform):
        self.path, self.transform, self.database = path, transform, None
        database = sqlite3.connect(path)
        self.keys = [key for (key,) in database.execute("SELECT id FROM images ORDER BY id")]
        database.close()

    def __len__(self):
        return len(self.keys)

    def __getitem__(self, index):
        if self.database is None:  # a connection for each worker
            self.database = sqlite3.connect(self.path)
        query = "SELECT image_data, label FROM images WHERE id = ?"
        blob, label = self.database.execute(query, [self.keys[index]]).fetchone()
        return self.transform(Image.open(io.BytesIO(blob)).convert("RGB")), label


def main():
    transform = transforms.Compose([
        transforms.RandomResizedCrop(96),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ])  # fmt: skip
    batches = DataLoader(Photos("photos.db", transform), batch_size=32, shuffle=True, num_workers=2)
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
