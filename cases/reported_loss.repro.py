"""Keras: fit under MirroredStrategy with 2 replicas differs from fit on one device.

Expected: logs of step 1, loss: equal within 2.4e-07.
Actual: off by 0.07431, 1.37617 times the other.
Why: What is reported is not that of the global batch: it is the mean of what the replicas report,
whatever rows they hold, the mean of shares that are to be added, or what one replica reports.
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


def train(strategy):
    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(units=1)])
        model.set_weights([np.array([[0.12573022]]), np.array([-0.13210486])])
        model.compile(keras.optimizers.SGD(0.125), keras.losses.MeanSquaredError(reduction="sum"))
    reports = []
    keep = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda _, logs: reports.append(logs["loss"])
    )
    model.fit(x, y, batch_size=2, shuffle=False, verbose=0, callbacks=[keep])
    return np.array(reports)


due = train(tf.distribute.get_strategy())
got = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
print("loss:", got, "instead of", due)
differ = not np.allclose(got, due, rtol=1e-6, atol=2e-06, equal_nan=True)
print("Keras", keras.__version__, "DIVERGES: more than 2e-06 apart" if differ else "CONFORMS")
sys.exit(1 if differ else 0)
