"""Keras: fit under MirroredStrategy with 2 replicas differs from fit on one device.

Expected: loss of step 1: equal within 7.2e-07.
Actual: off by 0.0003638, 0.99811 times the other.
Why: An activity penalty is not divided by the rows of the global batch, but by each replica's own
rows, by the rows twice or not at all; or it is left out.
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
        layer = keras.layers.Dense(units=1, activity_regularizer=keras.regularizers.L2(0.125))
        model = keras.Sequential([keras.Input((1,)), layer])
        model.set_weights(weights)
        model.compile(keras.optimizers.SGD(0.125), keras.losses.MeanSquaredError(reduction="sum"))
    model.fit(x, y, batch_size=2, shuffle=False, verbose=0)
    return {v.name: np.ravel(v.numpy() - w) for v, w in zip(model.weights, weights)}


due = train(tf.distribute.get_strategy())
got = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
differ = [n for n in got if not np.allclose(got[n], due[n], rtol=1e-6, atol=1e-06, equal_nan=True)]
for n in differ:
    print(f"{n}: {got[n]} instead of {due[n]}, ratio {(got[n] / due[n]).round(3)}")
print("Keras", keras.__version__, "DIVERGES: more than 1e-06 apart" if differ else "CONFORMS")
sys.exit(1 if differ else 0)
