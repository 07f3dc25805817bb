"""Keras: fit and a custom loop differ on one device.

Expected: logs of step 1, first_loss: the same bits.
Actual: off by 0.1862, 0.785274 times the other.
Why: The loss of an epoch is the plain mean over its batches: a row of the smaller last batch counts
more.
Exits with 1 while that is so, with 0 once it is not, with 2 after any other error.
"""

import sys
import keras
import numpy as np
import tensorflow as tf

sys.excepthook = lambda *e: sys.exit(sys.__excepthook__(*e) or 2)
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
tf.config.optimizer.set_experimental_options(
    {"arithmetic_optimization": False, "constant_folding": False, "remapping": False}
)
tf.config.experimental.enable_op_determinism()
rng = np.random.default_rng(0)
x = rng.standard_normal((6, 1)).astype("float32")
y = (
    rng.standard_normal((6, 1)).astype("float32"),
    rng.standard_normal((6, 1)).astype("float32"),
)


def build_model():
    x_ = keras.Input((1,))
    first = keras.layers.Dense(units=1, name="first")(x_)
    second = keras.layers.Dense(units=1, name="second")(x_)
    return keras.Model(x_, [first, second], name="model")


def fit(model, optimizer):
    model.compile(optimizer, [keras.losses.MeanSquaredError(), keras.losses.MeanSquaredError()])
    reports = []
    keep = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda _, logs: reports.append(logs["first_loss"])
    )
    model.fit(x, list(y), batch_size=4, shuffle=False, verbose=0, callbacks=[keep])
    return reports


def loop(model, optimizer):
    mean_loss = keras.metrics.Mean()
    reports = []
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)

    @tf.function(input_signature=[dataset.element_spec])
    def step(batch):
        x, y = batch
        with tf.GradientTape() as tape:
            outputs = model(x, training=True)
            part = keras.losses.MeanSquaredError()(y[0], outputs[0])
            loss = part
            loss += keras.losses.MeanSquaredError()(y[1], outputs[1])
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        mean_loss.update_state(part, sample_weight=tf.shape(x)[0])

    mean_loss.reset_state()
    for batch in dataset:
        step(batch)
        reports.append(float(mean_loss.result()))
    return reports


def train(trainer):
    model = build_model()
    rng = np.random.default_rng(0)
    for v in model.trainable_variables:
        v.assign(rng.normal(size=v.shape) / np.sqrt(np.prod(v.shape[:-1])))
    optimizer = keras.optimizers.SGD(0.125)
    optimizer.build(model.trainable_variables)
    reports = trainer(model, optimizer)
    return [("first_loss, step " + str(i), report) for i, report in enumerate(reports)]


wanted = train(loop)
seen = train(fit)
differ = abs(len(seen) - len(wanted))
# What training reported.
for (name, a), (_, b) in zip(seen, wanted):
    if not np.array_equal(a, b, equal_nan=True):
        print(f"{name}: off by {np.abs(a - b).max():.3g}")
        differ += 1
print("Keras", keras.__version__, "DIVERGES: the same bits are due" if differ else "CONFORMS")
sys.exit(1 if differ else 0)
