"""The study of Hilbert-curve outputs: equal trainings, figures fixed beforehand, and the page `models/study.md`.

``python -m models.study`` trains, measures and writes the page. Figures (`models.study.metrics`) and page
(`models.study.report`) need neither PyTorch nor Brevitas.
"""
