"""Keras: fit on one device differs from a custom loop on one device.

Expected: batch of step 3, x: the same bits.
Actual: not comparable.
Why: An epoch does not end with its last row: a batch, or a step more, takes rows of the next
epoch.
Exits with 1 while that is so, with 0 once it is not, with 2 after any other error.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
import tensorflow as tf

sys.excepthook = lambda *e: (sys.__excepthook__(*e), sys.stdout.flush(), os._exit(2))
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
tf.config.optimizer.set_experimental_options(
    {"arithmetic_optimization": False, "constant_folding": False, "remapping": False}
)
tf.config.experimental.enable_op_determinism()
x = np.array([[0.12573022], [-0.13210486], [0.64042264]], "float32")
y = np.array([[0.104900114], [-0.5356694], [0.36159506]], "float32")


def fit(model, optimizer):
    model.compile(optimizer, keras.losses.MeanSquaredError(), steps_per_execution=2)

    def endless():
        while True:
            for i in range(0, 3, 1):
                yield x[i : i + 1], y[i : i + 1]

    model.fit(endless(), steps_per_epoch=3, verbose=0)


def loop(model, optimizer):
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(1)

    @tf.function(input_signature=[dataset.element_spec])
    def step(batch):
        x, y = batch
        with tf.GradientTape() as tape:
            outputs = model(x, training=True)
            loss = keras.losses.MeanSquaredError()(y, outputs)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)

    for batch in dataset:
        step(batch)


def train(trainer):
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(units=1, name="dense")], name="model"
    )
    rng = np.random.default_rng(0)
    for v in model.trainable_variables:
        v.assign(rng.normal(size=v.shape) / np.sqrt(np.prod(v.shape[:-1])))
    optimizer = keras.optimizers.SGD(learning_rate=0.125)
    optimizer.build(model.trainable_variables)
    trainer(model, optimizer)
    variables = model.weights + optimizer.variables
    return [(v.path, v.numpy().astype("float64")) for v in variables]


print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}, NumPy {np.__version__}")
wanted = train(loop)
seen = train(fit)
differ = abs(len(seen) - len(wanted))
# The weights and the optimizer's variables after training.
for (name, a), (_, b) in zip(seen, wanted):
    if not np.array_equal(a, b, equal_nan=True):
        print(f"{name}: off by {np.abs(a - b).max():.3g}")
        differ += 1
print("DIVERGES: the same bits are due" if differ else "CONFORMS")
sys.exit(1 if differ else 0)
