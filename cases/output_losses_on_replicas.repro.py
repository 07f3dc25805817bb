"""Keras: fit under MirroredStrategy with 2 replicas raises InvalidArgumentError.

Expected: it trains, as a custom loop under MirroredStrategy with 2 replicas does.
Actual: InvalidArgumentError: {{function_node
__wrapped__AddN_N_2_device_/job:localhost/replica:0/task:0/device:CPU:0}} Inputs to operation AddN
of type AddN must have the same size and shape. Input 0: [2,1] != input 1: [1,1] [Op:AddN] name:
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
x = np.array([[0.12573022], [-0.13210486], [0.64042264]], "float32")
y = (
    np.array([[0.104900114], [-0.5356694], [0.36159506]], "float32"),
    np.array([[1.304], [0.94708097], [-0.70373523]], "float32"),
)


def build_model():
    x_ = keras.Input((1,))
    first = keras.layers.Dense(units=1, name="first")(x_)
    second = keras.layers.Dense(units=1, name="second")(x_)
    return keras.Model(x_, [first, second], name="model")


def fit(model, optimizer):
    with strategy.scope():
        model.compile(
            optimizer,
            [keras.losses.MeanSquaredError(reduction="sum"), keras.losses.MeanSquaredError()],
        )
    model.fit(x, list(y), batch_size=3, shuffle=False, verbose=0)


def loop(model, optimizer):
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(3)
    dataset = strategy.experimental_distribute_dataset(dataset)

    def replica_step(x, y):
        with tf.GradientTape() as tape:
            outputs = model(x, training=True)
            loss = keras.losses.MeanSquaredError(reduction="sum")(y[0], outputs[0])
            loss += keras.losses.MeanSquaredError()(y[1], outputs[1])
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)

    @tf.function(input_signature=[dataset.element_spec])
    def step(batch):
        strategy.run(replica_step, args=batch)

    for batch in dataset:
        step(batch)


def train(trainer):
    with strategy.scope():
        model = build_model()
        rng = np.random.default_rng(0)
        for v in model.trainable_variables:
            v.assign(rng.normal(size=v.shape) / np.sqrt(np.prod(v.shape[:-1])))
        optimizer = keras.optimizers.SGD(0.125)
        optimizer.build(model.trainable_variables)
    trainer(model, optimizer)


raised = 0
for name, *given in (
    ("fit under MirroredStrategy with 2 replicas", fit),
    ("a custom loop under MirroredStrategy with 2 replicas", loop),
):
    try:
        train(*given)
    except Exception as error:
        print(f"{name} raises {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        raised += 1
differ = raised == 1
print(
    "Keras", keras.__version__, "DIVERGES: one raises, the other trains" if differ else "CONFORMS"
)
sys.exit(1 if differ else 0)
