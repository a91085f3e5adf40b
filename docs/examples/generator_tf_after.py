"""Batches from a table: fastloader reads and decodes the rows."""

from fastloader import FastLoader

loader = FastLoader("sqlite:///photos.db", size=(224, 224), batch_size=64)
dataset = loader.as_dataset()

if __name__ == "__main__":
    for images, labels in dataset:
        print(images.shape, labels.shape)  # train here
