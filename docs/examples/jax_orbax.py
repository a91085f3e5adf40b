"""Train in JAX, and resume from the last checkpoint of Orbax."""

from pathlib import Path

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from fastloader import FastLoader


def loss_of(model, images, labels):
    predicted = images.reshape(len(images), -1) @ model["weights"] + model["bias"]
    return jnp.mean((predicted - labels / 1000) ** 2)


@jax.jit
def train_step(model, images, labels):
    gradients = jax.grad(loss_of)(model, images, labels)
    return jax.tree.map(lambda value, gradient: value - 0.001 * gradient, model, gradients)


model, step = {"weights": jnp.zeros(32 * 32 * 3), "bias": jnp.zeros(())}, 0
with (
    FastLoader("photos.db", size=(32, 32), dtype="float32", batch_size=8, shuffle=True) as loader,
    ocp.CheckpointManager(Path("checkpoints").absolute()) as checkpoints,
):
    if (saved := checkpoints.latest_step()) is not None:
        parts = ocp.args.Composite(
            model=ocp.args.StandardRestore(model), loader=ocp.args.JsonRestore()
        )
        found = checkpoints.restore(saved, args=parts)
        model, step = found["model"], saved
        loader.load_state_dict(found["loader"])
    while loader.state_dict()["epoch"] < 3:
        for images, labels in loader.as_jax():
            model = train_step(model, images, labels)
            step += 1
            if step % 5 == 0:  # the loader's place, beside the model
                parts = ocp.args.Composite(
                    model=ocp.args.StandardSave(model),
                    loader=ocp.args.JsonSave(loader.state_dict()),
                )
                checkpoints.save(step, args=parts)
    print(f"{step} steps, sum of weights {float(model['weights'].sum()):.6f}")
