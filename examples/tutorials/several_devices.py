# %% [markdown]
# # Several devices
#
# A `LeastActionModel` trains on several devices by Keras's own means, which differ
# between the backends. λ and the logs are those of one device with the whole batch.
# This tutorial shows it on JAX, with two devices made of one processor, and then the
# code for TensorFlow and PyTorch.
#
# The flag splits the processor. On a machine with accelerators, leave it out. It has to
# be set before JAX starts.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "jax")
FLAG = "--xla_force_host_platform_device_count=2"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAG}"

import keras
import numpy as np

import keras_lap

data = keras_lap.datasets.load("digits", train_size=320)

# %% [markdown]
# ## One device
#
# The batch size divides the number of samples, and the number of devices the batch:
# devices share a batch evenly. `shuffle=False`, so that both trainings below see the
# same batches.


# %%
def train() -> dict[str, list[float]]:
    """Trains one small network and returns its logs."""
    keras.utils.set_random_seed(0)
    network = keras_lap.networks.one_representation_resnet(
        data.input_shape, data.num_classes, filters=4, num_blocks=3
    )
    model = keras_lap.LeastActionModel(network, initial_multiplier=5.0)
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model.fit(
        *data.train,
        batch_size=64,
        epochs=5,
        shuffle=False,
        verbose=0,
        callbacks=[keras_lap.callbacks.MultiplierUpdate(tau=1.0, every=5)],
    ).history


one = train()

# %% [markdown]
# ## Two devices, JAX
#
# Under `DataParallel` every device has a copy of the weights and its part of each
# batch. Build the network and the model within the scope.

# %%
if keras.backend.backend() == "jax":
    print(keras.distribution.list_devices())
    with keras.distribution.DataParallel().scope():
        two = train()
else:
    print("Not JAX: below, one device is compared with itself.")
    two = one

for name in ("multiplier", "transport_cost", "task_loss"):
    print(f"{name:15} one device ", np.round(one[name], 5))
    print(f"{'':15} two devices", np.round(two[name], 5))

# %% [markdown]
# The two differ by rounding alone: the devices add up in another order.

# %%
for name in ("multiplier", "transport_cost", "task_loss"):
    difference = np.max(np.abs(np.subtract(one[name], two[name]) / one[name]))
    print(f"{name:15} largest relative difference {difference:.1e}")

# %% [markdown]
# `ModelParallel`, which shares weights among devices, works on JAX in the same way.
#
# ## TensorFlow
#
# ```python
# import tensorflow as tf
#
# strategy = tf.distribute.MirroredStrategy()  # all GPUs of this machine
# with strategy.scope():
#     model = keras_lap.LeastActionModel(build())
#     model.compile(...)
# model.fit(...)
# print(float(keras.ops.convert_to_numpy(model.multiplier)))
# ```
#
# Two devices made of one processor, before TensorFlow starts:
#
# ```python
# cpu = tf.config.list_physical_devices("CPU")[0]
# half = tf.config.LogicalDeviceConfiguration()
# tf.config.set_logical_device_configuration(cpu, [half, half])
# strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
# ```
#
# ## PyTorch
#
# Keras joins PyTorch's processes from release 3.16 on; until it is out, with
# `keras-nightly`. Every process runs the script and takes its own part of each batch.
#
# ```python
# import os
#
# keras.distribution.initialize()
# parts, part = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
# distribution = keras.distribution.DataParallel(auto_shard_dataset=False)
# with distribution.scope():
#     model = keras_lap.LeastActionModel(build())
#     model.compile(...)
#     model.fit(x[part::parts], y[part::parts], batch_size=64 // parts)
# ```
#
# ```console
# torchrun --nproc_per_node 2 train.py
# ```
#
# ## All of it in one script
#
# `examples/distributed.py` does the right thing on each backend:
#
# ```console
# KERAS_BACKEND=jax python examples/distributed.py --virtual-devices 2
# KERAS_BACKEND=tensorflow python examples/distributed.py --virtual-devices 2
# KERAS_BACKEND=torch torchrun --nproc_per_node 2 examples/distributed.py
# ```
#
# All this has been run on virtual devices and on two processes of one processor, not on
# several GPUs or machines. What each backend cannot do is listed under
# [Limits](../limits.md#keras-and-its-backends).
