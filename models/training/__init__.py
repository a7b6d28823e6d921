"""Training of the models that live in ``models/trained``; the only place that knows torch and scikit-learn.

Scripts, run by hand: ``python -m models.training.digits``. Nothing imports them.
"""
