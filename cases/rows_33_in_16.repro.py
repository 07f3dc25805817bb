"""Keras: fit under MirroredStrategy with 2 replicas differs from fit on one device.

Expected: loss of step 2: equal within 4.8e-07.
Actual: off by 0.04544, 0.5 times the other.
Why: The loss, or a part of it, is the mean of the replicas' means: where the samples that count
split unevenly, those on the replica with fewer of them count more, and a replica without any takes
its part of the average with it.
Exits with 1 while that is so, with 0 once it is not, with 2 after any other error.
"""

import sys
import keras
import numpy as np
import tensorflow as tf

sys.excepthook = lambda *e: sys.exit(sys.__excepthook__(*e) or 2)
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
rng = np.random.default_rng(0)
x = rng.standard_normal((33, 1)).astype("float32")
y = rng.standard_normal((33, 1)).astype("float32")
weights = [np.array([[0.12573022]]), np.array([-0.13210486])]


def train(strategy):
    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(units=1)])
        model.set_weights(weights)
        model.compile(keras.optimizers.SGD(0.125), keras.losses.MeanSquaredError())
    model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    return {v.name: np.ravel(v.numpy() - w) for v, w in zip(model.weights, weights)}


due = train(tf.distribute.get_strategy())
got = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
differ = [n for n in got if not np.allclose(got[n], due[n], rtol=1e-6, atol=1e-06, equal_nan=True)]
for n in differ:
    print(f"{n}: {got[n]} instead of {due[n]}, ratio {(got[n] / due[n]).round(3)}")
print("Keras", keras.__version__, "DIVERGES: more than 1e-06 apart" if differ else "CONFORMS")
sys.exit(1 if differ else 0)
