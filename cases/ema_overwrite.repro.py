"""Keras: fit under MirroredStrategy with 2 replicas raises RuntimeError.

Expected: it trains, as fit on one device does.
Actual: RuntimeError: Exception encountered when calling Cond.call(). `merge_call` called while
defining a new graph or a tf.function. This can often happen if the function `fn` passed to
`strategy.run()` contains a nested `@tf.function`, and the nested `@tf.function` contains a
synchronization point, such as aggregat...
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
x = np.array([[0.12573022], [-0.13210486]], "float32")
y = np.array([[0.64042264], [0.104900114]], "float32")


def train(strategy):
    with strategy.scope():
        model = keras.Sequential(
            [keras.Input((1,)), keras.layers.Dense(units=1, name="dense")], name="model"
        )
        rng = np.random.default_rng(0)
        for v in model.trainable_variables:
            v.assign(rng.normal(size=v.shape) / np.sqrt(np.prod(v.shape[:-1])))
        optimizer = keras.optimizers.SGD(
            learning_rate=0.125, ema_overwrite_frequency=2, use_ema=True
        )
        optimizer.build(model.trainable_variables)
        model.compile(optimizer, keras.losses.MeanSquaredError())
    model.fit(x, y, batch_size=2, shuffle=False, verbose=0)


print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}, NumPy {np.__version__}")
raised = 0
for name, *given in (
    (
        "fit under MirroredStrategy with 2 replicas",
        tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
    ),
    ("fit on one device", tf.distribute.get_strategy()),
):
    try:
        train(*given)
    except Exception as error:
        print(f"{name} raises {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        raised += 1
differ = raised == 1
print("DIVERGES: one raises, the other trains" if differ else "CONFORMS")
sys.exit(1 if differ else 0)
