"""Keras: fit under MirroredStrategy with 2 replicas differs from fit on one device.

Expected: loss of step 1, loss: equal within 7.2e-07.
Actual: off by 0.0003638, 0.99811 times the other.
Why: An activity penalty is not divided by the rows of the global batch, but by each replica's
own rows, by the rows twice or not at all; or it is left out.
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
            [
                keras.Input((1,)),
                keras.layers.Dense(
                    units=1, activity_regularizer=keras.regularizers.L2(0.125), name="dense"
                ),
            ],
            name="model",
        )
        rng = np.random.default_rng(0)
        for v in model.trainable_variables:
            v.assign(rng.normal(size=v.shape) / np.sqrt(np.prod(v.shape[:-1])))
        optimizer = keras.optimizers.SGD(learning_rate=0.125)
        optimizer.build(model.trainable_variables)
        start = {v.path: v.numpy() for v in model.weights}
        model.compile(optimizer, keras.losses.MeanSquaredError(reduction="sum"))
    history = model.fit(x, y, batch_size=2, shuffle=False, verbose=0)
    reports = history.history["loss"]
    variables = model.weights + optimizer.variables
    values = [(v.path, v.numpy().astype("float64") - start.get(v.path, 0)) for v in variables]
    return values + [("loss, epoch " + str(i), report) for i, report in enumerate(reports)]


print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}, NumPy {np.__version__}")
wanted = train(tf.distribute.get_strategy())
seen = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
differ = abs(len(seen) - len(wanted))
# What training added to each weight, and the optimizer's variables.
for (name, a), (_, b) in zip(seen, wanted):
    if not np.allclose(a, b, rtol=1e-6, atol=1e-06, equal_nan=True):
        ratio = np.vdot(a, b) / np.vdot(b, b)
        print(f"{name}: off by {np.abs(a - b).max():.3g}, ratio {ratio:.4g}")
        differ += 1
print("DIVERGES: more than 1e-06 apart" if differ else "CONFORMS")
sys.exit(1 if differ else 0)
