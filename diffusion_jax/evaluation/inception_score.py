"""Inception Score (arXiv 1606.03498, section 4): exp of the mean KL(p(y|x) || p(y))."""

import numpy as np
from scipy.special import log_softmax, xlogy

from diffusion_jax.evaluation.checks import check_enough, check_features

CHUNK = 5000  # guided-diffusion's evaluator


class InceptionScore:
    """Score of images in the order in which they come; holds two sums for each class.

    The mean KL(p(y|x) || p(y)) is the mean over images of sum_y p log p minus that of the marginal
    p(y), so the sums of p and of p log p suffice. As in guided-diffusion's evaluator the score is
    the mean over chunks of `chunk` consecutive images, where a last, shorter chunk counts like the
    others.

    Attributes:
      sums: (2, classes) float64 of the chunk begun: the sums of p and of p log p.
      begun: number of images in it.
      scores: scores of the chunks before it.
    """

    def __init__(self, classes: int, chunk: int = CHUNK):
        self.chunk = chunk
        self.sums, self.begun, self.scores = np.zeros((2, classes)), 0, []

    def update(self, logits: np.ndarray) -> None:
        """Add a batch (B, classes) of logits: features times weights, without the bias.

        Raises:
          UserError: for another width, NaN or infinity.
        """
        logits = np.asarray(logits, np.float64)
        check_features("logits", logits, self.sums.shape[1])
        while len(logits):
            part, logits = np.split(logits, [self.chunk - self.begun])
            log_p = log_softmax(part, axis=1)
            p = np.exp(log_p)
            self.sums += p.sum(axis=0), (p * log_p).sum(axis=0)
            self.begun += len(part)
            if self.begun == self.chunk:
                self.scores.append(self._score())
                self.sums, self.begun = np.zeros_like(self.sums), 0

    def _score(self) -> float:
        marginal, p_log_p = self.sums / self.begun
        return float(np.exp(p_log_p.sum() - xlogy(marginal, marginal).sum()))  # 0 log 0 = 0

    def result(self) -> float:
        """Return the score so far.

        Raises:
          UserError: before the first image.
        """
        check_enough("Inception Score", self.begun + len(self.scores), 1)
        return float(np.mean([*self.scores, *([self._score()] if self.begun else [])]))
