"""Keras: fit under MirroredStrategy with 2 replicas differs from fit on one device.

Expected: outputs of step 0, dense: equal within 5.7e-06.
Actual: off by 0.0799.
Why: Batch normalization takes its statistics from the rows of one replica, not from those of the
global batch; where a batch leaves a replica without rows, they are NaN, and so is the gradient
of its scale.
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
rng = np.random.default_rng(0)
x = rng.standard_normal((3, 2)).astype("float32")
y = rng.standard_normal((3, 1)).astype("float32")


def train(strategy):
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((2,)),
                keras.layers.BatchNormalization(name="normalization"),
                keras.layers.Dense(units=1, name="dense"),
            ],
            name="model",
        )
        rng = np.random.default_rng(0)
        for v in model.trainable_variables:
            v.assign(rng.normal(size=v.shape) / np.sqrt(np.prod(v.shape[:-1])))
        optimizer = keras.optimizers.SGD(learning_rate=0.125)
        optimizer.build(model.trainable_variables)
        model.compile(optimizer, keras.losses.MeanSquaredError())
    model.fit(x, y, batch_size=2, shuffle=False, verbose=0)
    variables = model.weights + optimizer.variables
    copies = strategy.experimental_local_results
    return [
        (v.path, np.mean([c.numpy() for c in copies(v.value)], 0, "float64")) for v in variables
    ]


print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}, NumPy {np.__version__}")
wanted = train(tf.distribute.get_strategy())
seen = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
differ = abs(len(seen) - len(wanted))
# The weights and the optimizer's variables after training.
for (name, a), (_, b) in zip(seen, wanted):
    if not np.allclose(a, b, rtol=1e-6, atol=7e-06, equal_nan=True):
        print(f"{name}: off by {np.abs(a - b).max():.3g}")
        differ += 1
print("DIVERGES: more than 7e-06 apart" if differ else "CONFORMS")
sys.exit(1 if differ else 0)
