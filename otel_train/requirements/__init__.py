"""What a run has to meet: a file of conditions on its measures, read, judged, and told as PASS, FAIL or NO DATA."""
