"""Keras: fit on one device differs from textbook training in float64.

Expected: update of step 0, model_dense_bias_average: within 1e-07 of the numbers below, by
definition: The moving average of the weights is, at each update, average = momentum average + (1 -
momentum) w, and w itself at the first; a step that only accumulates gradients leaves it as it is.
Source: https://keras.io/api/optimizers/, use_ema, ema_momentum, gradient_accumulation_steps.
Actual: off by 0.1321.
Why: With gradient accumulation over n steps, the moving average is taken n times an update, not
once.
Exits with 1 while that is so, with 0 once it is not, with 2 after any other error.
"""

import sys
import keras
import numpy as np

sys.excepthook = lambda *e: sys.exit(sys.__excepthook__(*e) or 2)
x = np.array([[0.12573022], [-0.13210486]], "float32")
y = np.array([[-0.5356694], [0.36159506]], "float32")
layer = keras.layers.Dense(units=1, name="dense")
model = keras.Sequential([keras.Input((1,)), layer], name="model")
model.set_weights([np.array([[0.12573022]]), np.array([-0.13210486])])
optimizer = keras.optimizers.SGD(
    0.125, ema_momentum=0.5, gradient_accumulation_steps=2, use_ema=True
)
model.compile(optimizer, keras.losses.MeanSquaredError())
model.fit(x, y, batch_size=2, shuffle=False, verbose=0)
name = "model_dense_bias_average"
(seen,) = [v.numpy() for v in model.optimizer.variables if v.path.partition("/")[2] == name]
expected = np.array([0.0])
print("expected:", *expected.ravel())
print("seen:    ", *np.ravel(seen))
differ = not np.allclose(seen, expected, rtol=0, atol=1e-07, equal_nan=True)
print("Keras", keras.__version__, "DIVERGES: more than 1e-07 apart" if differ else "CONFORMS")
sys.exit(1 if differ else 0)
