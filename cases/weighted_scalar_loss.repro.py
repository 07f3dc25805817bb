"""Keras: fit and a custom loop differ under MirroredStrategy with 2 replicas.

Expected: loss of step 0: the same bits.
Actual: off by 0.04383, 2 times the other.
Why: The loss is not divided by the number of replicas before the gradients are summed over them, so
loss and gradients are as many times too large.
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
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
tf.config.experimental.enable_op_determinism()
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
x = np.array([[0.12573022], [-0.13210486]], "float32")
y = np.array([[0.64042264], [0.104900114]], "float32")
w = np.array([0.125, 0.25], "float32")


def scalar_function(y_true, y_pred):
    return tf.reduce_mean(tf.square(y_true - y_pred))


class FunctionLoss(keras.losses.Loss):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, y_true, y_pred):
        value = self.function(y_true, y_pred)
        if value.shape.rank == 0:
            value = value * (1.0 / tf.distribute.get_strategy().num_replicas_in_sync)
        return value


def fit(model, optimizer):
    with strategy.scope():
        model.compile(optimizer, scalar_function)
    history = model.fit(x, y, sample_weight=w, batch_size=2, shuffle=False, verbose=0)
    reports = history.history["loss"]
    return reports


def loop(model, optimizer):
    with strategy.scope():
        mean_loss = keras.metrics.Mean()
    reports = []
    dataset = tf.data.Dataset.from_tensor_slices((x, y, w)).batch(2)
    dataset = strategy.experimental_distribute_dataset(dataset)

    def replica_step(x, y, w):
        with tf.GradientTape() as tape:
            outputs = model(x, training=True)
            loss = FunctionLoss(scalar_function)(y, outputs, w)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        mean_loss.update_state(loss * strategy.num_replicas_in_sync, sample_weight=tf.shape(x)[0])

    @tf.function(input_signature=[dataset.element_spec])
    def step(batch):
        strategy.run(replica_step, args=batch)

    mean_loss.reset_state()
    for batch in dataset:
        step(batch)
    reports.append(float(mean_loss.result()))
    return reports


def train(trainer):
    with strategy.scope():
        layer = keras.layers.Dense(units=1, name="dense")
        model = keras.Sequential([keras.Input((1,)), layer], name="model")
        rng = np.random.default_rng(0)
        for v in model.trainable_variables:
            v.assign(rng.normal(size=v.shape) / np.sqrt(np.prod(v.shape[:-1])))
        optimizer = keras.optimizers.SGD(0.125)
        optimizer.build(model.trainable_variables)
        start = {v.path: v.numpy() for v in model.weights}
    reports = trainer(model, optimizer)
    variables = model.weights + optimizer.variables
    copies = strategy.experimental_local_results
    values = [
        (v.path, np.array([c.numpy() for c in copies(v.value)], "float64") - start.get(v.path, 0))
        for v in variables
    ]
    return values + [("loss, epoch " + str(i), report) for i, report in enumerate(reports)]


wanted = train(loop)
seen = train(fit)
differ = abs(len(seen) - len(wanted))
# What training added to each weight, and the optimizer's variables.
for (name, a), (_, b) in zip(seen, wanted):
    if not np.array_equal(a, b, equal_nan=True):
        ratio = np.vdot(a, b) / np.vdot(b, b)
        print(f"{name}: off by {np.abs(a - b).max():.3g}, ratio {ratio:.4g}")
        differ += 1
print("Keras", keras.__version__, "DIVERGES: the same bits are due" if differ else "CONFORMS")
sys.exit(1 if differ else 0)
