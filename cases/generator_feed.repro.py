"""Keras: fit under MirroredStrategy with 2 replicas differs from fit on one device.

Expected: batch of step 2, x: the same rows.
Actual: off by 1.84.
Why: A batch is taken from the data and not trained on: as by fit under a strategy, which opens the
data once to learn its shapes and again to train, and loses what it has read ahead of a generator by
then.
Exits with 1 while that is so, with 0 once it is not, with 2 after any other error.
"""

import itertools
import sys
import keras
import numpy as np
import tensorflow as tf

sys.excepthook = lambda *e: sys.exit(sys.__excepthook__(*e) or 2)
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
tf.config.experimental.enable_op_determinism()
numbers = """
0.12573022 -0.70373523 -0.13210486 -1.2654215 0.64042264 -0.62327445 0.104900114 0.04132598
-0.5356694 -2.3250308 0.36159506 -0.21879166 1.304 -1.245911 0.94708097 -0.7322674
"""
x, y = np.hsplit(np.array(numbers.split(), "float32").reshape(8, 2), [1])


def train(strategy):
    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(units=1)])
        model.set_weights([np.array([[0.12573022]]), np.array([-0.13210486])])
        model.compile(keras.optimizers.SGD(0.125), keras.losses.MeanSquaredError())
    endless = ((x[i : i + 2], y[i : i + 2]) for i in itertools.cycle(range(0, 8, 2)))
    model.fit(endless, steps_per_epoch=4, verbose=0)
    return {v.name: np.ravel(v.numpy()) for v in model.weights}


due = train(tf.distribute.get_strategy())
got = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
differ = [n for n in got if not np.allclose(got[n], due[n], rtol=1e-6, atol=1e-06, equal_nan=True)]
for n in differ:
    print(f"{n}: {got[n]} instead of {due[n]}")
print("Keras", keras.__version__, "DIVERGES: more than 1e-06 apart" if differ else "CONFORMS")
sys.exit(1 if differ else 0)
