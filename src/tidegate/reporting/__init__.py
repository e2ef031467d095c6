"""What a run is judged by: metrics, the HTML and JSON report, and the baselines it stands beside."""
