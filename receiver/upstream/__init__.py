"""What Retell has and the warehouse lacks: found by listing, fetched call by call."""
