"""Keras: fit under MirroredStrategy with 2 replicas differs from fit on one device.

Expected: logs of step 1, loss: equal within 2.4e-07.
Actual: off by 0.07431, 1.37617 times the other.
Why: What is reported is not that of the global batch: it is the mean of what the replicas
report, whatever rows they hold, the mean of shares that are to be added, or what one replica
reports.
Exits with 1 while that is so, with 0 once it is not, with 2 after any other error.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
import tensorflow as tf

sys.excepthook = lambda *e: (sys.__excepthook__(*e), sys.stdout.flush(), os._exit(2))
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
tf.config.experimental.enable_op_determinism()
x = np.array([[0.12573022], [-0.13210486], [0.64042264]], "float32")
y = np.array([[0.104900114], [-0.5356694], [0.36159506]], "float32")


def train(strategy):
    with strategy.scope():
        model = keras.Sequential(
            [keras.Input((1,)), keras.layers.Dense(units=1, name="dense")], name="model"
        )
        rng = np.random.default_rng(0)
        for v in model.trainable_variables:
            v.assign(rng.normal(size=v.shape) / np.sqrt(np.prod(v.shape[:-1])))
        optimizer = keras.optimizers.SGD(learning_rate=0.125)
        optimizer.build(model.trainable_variables)
        model.compile(optimizer, keras.losses.MeanSquaredError(reduction="sum"))
    reports = []
    keep = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: reports.append(logs["loss"])
    )
    model.fit(x, y, batch_size=2, shuffle=False, verbose=0, callbacks=[keep])
    return [("loss, step " + str(i), report) for i, report in enumerate(reports)]


print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}, NumPy {np.__version__}")
wanted = train(tf.distribute.get_strategy())
seen = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
differ = abs(len(seen) - len(wanted))
# What training reported.
for (name, a), (_, b) in zip(seen, wanted):
    if not np.allclose(a, b, rtol=1e-6, atol=2e-06, equal_nan=True):
        print(f"{name}: off by {np.abs(a - b).max():.3g}")
        differ += 1
print("DIVERGES: more than 2e-06 apart" if differ else "CONFORMS")
sys.exit(1 if differ else 0)
