"""Keras: fit under MirroredStrategy with 2 replicas differs from fit on one device.

Expected: outputs of step 0, dense: equal within 5.7e-06.
Actual: off by 0.7211.
Why: Random layers draw other numbers: each replica has a stream of its own, or a stream has another
seed, starts at another place or is begun anew.
Exits with 1 while that is so, with 0 once it is not, with 2 after any other error.
"""

import sys
import keras
import numpy as np
import tensorflow as tf

sys.excepthook = lambda *e: sys.exit(sys.__excepthook__(*e) or 2)
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
numbers = """
0.12573022 -0.13210486 0.64042264 0.104900114 -0.544259 -0.5356694 0.36159506 1.304 0.94708097
-0.31630015 -0.70373523 -1.2654215 -0.62327445 0.04132598 0.41163054 -2.3250308 -0.21879166
-1.245911 -0.7322674 1.0425134
"""
x, y = np.hsplit(np.array(numbers.split(), "float32").reshape(4, 5), [4])


def train(strategy):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential(
            [keras.Input((4,)), keras.layers.Dropout(rate=0.5, seed=1), keras.layers.Dense(units=1)]
        )
        model.set_weights(
            [
                np.array([[0.06286511], [-0.06605243], [0.32021132], [0.052450057]]),
                np.array([-0.5356694]),
            ]
        )
        model.compile(keras.optimizers.SGD(0.125), keras.losses.MeanSquaredError())
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    return {v.name: np.ravel(v.numpy()) for v in model.weights}


due = train(tf.distribute.get_strategy())
got = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
differ = [n for n in got if not np.allclose(got[n], due[n], rtol=1e-6, atol=7e-06, equal_nan=True)]
for n in differ:
    print(f"{n}: {got[n]} instead of {due[n]}")
print("Keras", keras.__version__, "DIVERGES: more than 7e-06 apart" if differ else "CONFORMS")
sys.exit(1 if differ else 0)
