"""Records in Confluent's wire format (Avro, JSON Schema, Protobuf) as plain Python objects, by a schema registry.

Needs the extra `registry`, which is imported only when a registry is set: begin at `open_registry`. Whoever decodes
asks first which schemas are missing and loads them where waiting is allowed; decoding itself never waits for a network.
"""
