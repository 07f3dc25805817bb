"""The referee: textbook training in float64, written clause by clause.

It shares the layers' forward pass and `GradientTape` with Keras, and nothing else: losses, reductions, clipping,
update rules, averages and reports are written here from their definitions. A clause is one numbered sentence of what
training means and one function; a deviation is another function in the place of one.
"""
