"""The protocol of a worker: assignments, and how clicks become durable. Imports neither Faust nor aiokafka."""
