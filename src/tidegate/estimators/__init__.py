"""The scikit-learn front doors, one file a job."""
