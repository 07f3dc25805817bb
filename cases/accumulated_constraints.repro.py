"""Keras: fit on one device differs from textbook training in float64.

Expected: weights of step 0, model/dense/kernel: within 7e-06 of the numbers below, by definition: A
variable with a constraint is projected after its update, and after the moving averages were taken
and written; a step that only accumulates gradients leaves it as it is.
Source: https://keras.io/api/layers/constraints/; https://keras.io/api/optimizers/,
gradient_accumulation_steps.
Actual: off by 0.04221, 0.911013 times what is expected.
Why: With gradient accumulation, constraints are applied at the steps between updates too.
Exits with 1 while that is so, with 0 once it is not, with 2 after any other error.
"""

import sys
import keras
import numpy as np

sys.excepthook = lambda *e: sys.exit(sys.__excepthook__(*e) or 2)
numbers = """
0.12573022 -0.13210486 0.64042264 -2.3250308 0.104900114 -0.5356694 0.36159506 -0.21879166
"""
x, y = np.hsplit(np.array(numbers.split(), "float32").reshape(2, 4), [3])
layer = keras.layers.Dense(units=1, kernel_constraint=keras.constraints.MaxNorm(0.5), name="dense")
model = keras.Sequential([keras.Input((3,)), layer], name="model")
model.set_weights([np.array([[0.19952312], [0.47436145], [0.19077793]]), np.array([-1.3031572])])
optimizer = keras.optimizers.SGD(0.125, gradient_accumulation_steps=2)
model.compile(optimizer, keras.losses.MeanSquaredError())
model.fit(x, y, batch_size=2, shuffle=False, verbose=0)
(seen,) = [v.numpy() for v in model.variables if v.path == "model/dense/kernel"]
expected = np.array([[0.1995231], [0.4743614], [0.1907779]])
print("expected:", *expected.ravel())
print("seen:    ", *np.ravel(seen))
differ = not np.allclose(seen, expected, rtol=0, atol=7e-06, equal_nan=True)
print("Keras", keras.__version__, "DIVERGES: more than 7e-06 apart" if differ else "CONFORMS")
sys.exit(1 if differ else 0)
