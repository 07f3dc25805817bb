"""Keras: fit under MirroredStrategy with 2 replicas, eagerly is not as on one device, eagerly.

Expected: loss of step 1: equal within 7.2e-07.
Actual: off by 0.09141, 0.5 times the other.
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
x = np.array([[0.12573022], [-0.13210486], [0.64042264]], "float32")
y = np.array([[0.104900114], [-0.5356694], [0.36159506]], "float32")
weights = [np.array([[0.12573022]]), np.array([-0.13210486])]


def train(strategy):
    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(units=1)])
        model.set_weights(weights)
        optimizer = keras.optimizers.SGD(0.125)
        model.compile(optimizer, keras.losses.MeanSquaredError(), run_eagerly=True)
    model.fit(x, y, batch_size=2, shuffle=False, verbose=0)
    return {v.name: np.ravel(v.numpy() - w) for v, w in zip(model.weights, weights)}


due = train(tf.distribute.get_strategy())
got = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
differ = [n for n in got if not np.allclose(got[n], due[n], rtol=1e-6, atol=1e-06, equal_nan=True)]
for n in differ:
    print(f"{n}: {got[n]} instead of {due[n]}, ratio {(got[n] / due[n]).round(3)}")
print("Keras", keras.__version__, "DIVERGES: more than 1e-06 apart" if differ else "CONFORMS")
sys.exit(1 if differ else 0)
