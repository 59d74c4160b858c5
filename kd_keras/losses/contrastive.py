"""Formulas for contrastive distillation: an example's own pair against pairs with other examples.

Scores are similarities divided by a temperature, shape `(batch, 1 + negatives)`: first the score of
student and teacher on the same image, then the scores with other images.
"""

from keras import ops

from kd_keras.losses.numeric import at_least_float32, unit

_EPSILON = 1e-7  # as in the authors' code


def contrastive_loss(scores, *, normaliser, examples, negatives=None, weights=None):
    """Cross-entropy of telling the own pair from the others, by noise-contrastive estimation.

    With `p = exp(score) / normaliser`, and with `q = negatives / examples` as the chance of noise,
    it is `-ln( p_own / (p_own + q) ) - sum_k ln( q / (p_k + q) )`.

    Args:
        scores: see the module docstring.
        normaliser: positive scalar that turns the exponentials into probabilities; see
            `contrastive_normaliser`.
        examples: how many examples there are to choose from.
        negatives: how many negatives the sum stands for; by default, as many as `scores` has.
        weights: the weights of the terms of the sum, shape `(batch, negatives)`; 1 by default.

    Returns:
        Shape `(batch,)`: a sum over the negatives, not a mean.

    Source: Tian et al., *Contrastive Representation Distillation* (2020), equation 17, in the form
    of their code.

    Example:
        >>> import numpy as np
        >>> scores = np.log([[4.0, 1.0, 1.0]])
        >>> float(contrastive_loss(scores, normaliser=8.0, examples=4)[0])  # ln 2 + 2 ln 1.25
        1.1394...
    """
    scores = at_least_float32(scores)
    if negatives is None:
        negatives = scores.shape[1] - 1
    noise = ops.cast(negatives, scores.dtype) / ops.cast(examples, scores.dtype)
    p = ops.exp(scores) / ops.cast(normaliser, scores.dtype)
    own = ops.log(p[:, 0] / (p[:, 0] + noise + _EPSILON))
    others = ops.log(noise / (p[:, 1:] + noise + _EPSILON))
    if weights is not None:
        others = others * ops.cast(weights, others.dtype)
    return -(own + ops.sum(others, axis=1))


def contrastive_normaliser(scores, *, examples, weights=None):
    """Return `examples` times the mean of the exponentials of all scores, a scalar.

    Args:
        scores: see the module docstring.
        examples: how many examples there are to choose from.
        weights: the weights of the scores, of the same shape; 1 by default.

    Example:
        >>> import numpy as np
        >>> float(contrastive_normaliser(np.log([[1.0, 3.0]]), examples=5))
        10.0...
    """
    scores = ops.exp(at_least_float32(scores))
    weights = ops.ones_like(scores) if weights is None else ops.cast(weights, scores.dtype)
    mean = ops.sum(scores * weights) / ops.maximum(ops.sum(weights), 1)
    return mean * ops.cast(examples, scores.dtype)


def moved(rows, embeddings, *, momentum):
    """Move rows of a memory towards new embeddings, and scale them back to length 1.

    Args:
        rows, embeddings: shape `(batch, size)`.
        momentum: the share of the old rows, in [0, 1].

    Returns:
        Shape `(batch, size)`.

    Example:
        >>> import numpy as np
        >>> moved(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]), momentum=0.5).numpy().round(4)
        array([[0.7071, 0.7071]])
    """
    return unit(momentum * rows + (1 - momentum) * embeddings)
