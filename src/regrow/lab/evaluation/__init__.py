"""What a run's predictions are worth, beyond accuracy, and what several tickets are worth together."""

from regrow.lab.evaluation.asked import Asked
from regrow.lab.evaluation.evaluate import evaluate
from regrow.lab.evaluation.member import Member
from regrow.lab.evaluation.subject import Subject

__all__ = ["Asked", "Member", "Subject", "evaluate"]
