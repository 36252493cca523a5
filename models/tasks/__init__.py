"""Two other tasks for the Hilbert-curve output, on data that comes with scikit-learn: key points, and deblurring."""
