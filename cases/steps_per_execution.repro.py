"""Keras: fit under MirroredStrategy with 2 replicas raises InvalidArgumentError.

Expected: it trains, as fit on one device does.
Actual: InvalidArgumentError: 2 root error(s) found. (0) INVALID_ARGUMENT: You must feed a value for
placeholder tensor 'while/body/_10/while/cond/then/_344/while/cond/Placeholder' with dtype int32
[[{{node while/cond/Placeholder}}]] ...
Exits with 1 while that is so, with 0 once it is not, with 2 after any other error.
"""

import sys
import keras
import numpy as np
import tensorflow as tf

sys.excepthook = lambda *e: sys.exit(sys.__excepthook__(*e) or 2)
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
x = np.array([[0.12573022], [-0.13210486], [0.64042264], [0.104900114]], "float32")
y = np.array([[-0.5356694], [0.36159506], [1.304], [0.94708097]], "float32")


def train(strategy):
    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(units=1)])
        model.set_weights([np.array([[0.12573022]]), np.array([-0.13210486])])
        optimizer = keras.optimizers.SGD(0.125)
        model.compile(optimizer, keras.losses.MeanSquaredError(), steps_per_execution=2)
    model.fit(x, y, batch_size=2, shuffle=False, verbose=0)


train(tf.distribute.get_strategy())
try:
    train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
except Exception as error:
    print("Keras", keras.__version__, "DIVERGES:", type(error).__name__, str(error)[:500])
    sys.exit(1)
print("Keras", keras.__version__, "CONFORMS")
