"""Keras: fit on one device differs from textbook training in float64.

Expected: update of step 0, model_embedding_embeddings_accumulator: within 3e-05 of the numbers
below, by definition: The gradient of a row that a batch uses more than once is the sum of its
parts, and is summed before anything is done with it that is not linear.
Source: https://www.tensorflow.org/api_docs/python/tf/IndexedSlices; Duchi et al. 2011, figure 1.
Actual: off by 0.4964.
Why: Where a batch uses a row of an embedding more than once, the optimizer clips or squares the
parts of its gradient one by one, instead of their sum: the gradient is an IndexedSlices, and
Keras's elementwise operations work on its values without summing equal rows.
Exits with 1 while that is so, with 0 once it is not, with 2 after any other error.
"""

import sys
import keras
import numpy as np

sys.excepthook = lambda *e: sys.exit(sys.__excepthook__(*e) or 2)
x = np.array([[1, 1], [1, 0]], "int32")
y = np.array([[0.64042264], [0.104900114]], "float32")
model = keras.Sequential(
    [
        keras.Input((2,), dtype="int32"),
        keras.layers.Embedding(input_dim=2, output_dim=1, name="embedding"),
        keras.layers.Flatten(name="flatten"),
        keras.layers.Dense(units=1, name="dense"),
    ],
    name="model",
)
model.set_weights(
    [
        np.array([[0.08890469], [-0.09341224]]),
        np.array([[0.4528472], [0.07417558]]),
        np.array([-0.5356694]),
    ]
)
model.compile(keras.optimizers.Adagrad(0.125), keras.losses.MeanSquaredError())
model.fit(x, y, batch_size=2, shuffle=False, verbose=0)
name = "model_embedding_embeddings_accumulator"
(seen,) = [v.numpy() for v in model.optimizer.variables if v.path.partition("/")[2] == name]
expected = np.array([[0.1025163], [1.0063475]])
print("expected:", *expected.ravel())
print("seen:    ", *np.ravel(seen))
differ = not np.allclose(seen, expected, rtol=0, atol=3e-05, equal_nan=True)
print("Keras", keras.__version__, "DIVERGES: more than 3e-05 apart" if differ else "CONFORMS")
sys.exit(1 if differ else 0)
