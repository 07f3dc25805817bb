"""Keras: fit under MirroredStrategy with 2 replicas differs from fit on one device.

Expected: outputs of step 0, dense: equal within 7.2e-07.
Actual: off by 0.09495.
Why: Batch normalization takes its statistics from the rows of one replica, not from those of the
global batch; where a batch leaves a replica without rows, they are NaN, and so is the gradient of
its scale.
Exits with 1 while that is so, with 0 once it is not, with 2 after any other error.
"""

import sys
import keras
import numpy as np
import tensorflow as tf

sys.excepthook = lambda *e: sys.exit(sys.__excepthook__(*e) or 2)
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
x = np.array([[0.12573022], [-0.13210486], [0.64042264], [0.104900114]], "float32")
y = np.array([[-0.5356694], [0.36159506], [1.304], [0.94708097]], "float32")


def train(strategy):
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((1,)),
                keras.layers.BatchNormalization(name="normalization"),
                keras.layers.Dense(units=1, name="dense"),
            ],
            name="model",
        )
        rng = np.random.default_rng(0)
        for v in model.trainable_variables:
            v.assign(rng.normal(size=v.shape) / np.sqrt(np.prod(v.shape[:-1])))
        model.compile(keras.optimizers.SGD(0.125), keras.losses.MeanSquaredError())
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    return {v.path: np.ravel(v.numpy()) for v in model.weights}


due = train(tf.distribute.get_strategy())
got = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
differ = [n for n in got if not np.allclose(got[n], due[n], rtol=1e-6, atol=1e-06, equal_nan=True)]
for n in differ:
    print(f"{n}: {got[n]} instead of {due[n]}")
print("Keras", keras.__version__, "DIVERGES: more than 1e-06 apart" if differ else "CONFORMS")
sys.exit(1 if differ else 0)
