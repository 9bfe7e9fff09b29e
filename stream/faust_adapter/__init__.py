"""The only place that knows Faust and aiokafka, and every private hook of theirs (`hooks`)."""
