"""Keras: fit on one device differs from textbook training in float64.

Expected: gradient of step 0, model/dense/bias: within 3e-06 of the numbers below, by definition:
The gradient of a row that a batch uses more than once is the sum of its parts, and is summed before
anything is done with it that is not linear.
Source: https://www.tensorflow.org/api_docs/python/tf/IndexedSlices; Duchi et al. 2011, figure 1.
Actual: off by 0.006604, 1.05933 times what is expected.
Why: Where a batch uses a row of an embedding more than once, the optimizer clips or squares the
parts of its gradient one by one, instead of their sum: the gradient is an IndexedSlices, and
Keras's elementwise operations work on its values without summing equal rows.
Exits with 1 while that is so, with 0 once it is not, with 2 after any other error.
"""

import sys
import keras
import numpy as np
import tensorflow as tf

sys.excepthook = lambda *e: sys.exit(sys.__excepthook__(*e) or 2)
x = np.array([[1, 1], [1, 0]], "int32")
y = np.array([[0.64042264], [0.104900114]], "float32")


def train():
    model = keras.Sequential(
        [
            keras.Input((2,), dtype="int32"),
            keras.layers.Embedding(input_dim=2, output_dim=1, name="embedding"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(units=1, name="dense"),
        ],
        name="model",
    )
    rng = np.random.default_rng(0)
    for v in model.trainable_variables:
        v.assign(rng.normal(size=v.shape) / np.sqrt(np.prod(v.shape[:-1])))
    optimizer = keras.optimizers.SGD(0.125, global_clipnorm=0.125)
    optimizer.build(model.trainable_variables)
    kept = tf.Variable(np.zeros((1,)), dtype="float32")
    model.compile(optimizer, keras.losses.MeanSquaredError())
    name = "model/dense/bias"
    (found,) = [v for v in model.variables if v.path == name]
    update_step = optimizer.update_step

    def watched(gradient, variable, learning_rate):
        if variable is found.value:
            kept.assign(tf.convert_to_tensor(gradient))
        return update_step(gradient, variable, learning_rate)

    optimizer.update_step = watched
    model.fit(x, y, batch_size=2, shuffle=False, verbose=0)
    return kept.numpy()


expected = np.array([-0.1113199])
seen = train()
print("expected:", *expected.ravel())
print("seen:    ", *np.ravel(seen))
differ = not np.allclose(seen, expected, rtol=0, atol=3e-06, equal_nan=True)
print("Keras", keras.__version__, "DIVERGES: more than 3e-06 apart" if differ else "CONFORMS")
sys.exit(1 if differ else 0)
